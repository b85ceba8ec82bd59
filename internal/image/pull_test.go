package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestPullAndAcquire(t *testing.T) {
	registry := newRegistry(t)
	zstd := layerOf(t, pack(t, regular("z", "zstd"), regular("both", "zstd")), tarball.WithCompression(compression.ZStd), tarball.WithMediaType(types.OCILayerZStd))
	plain := pack(t, regular("p", "plain"), regular("both", "plain"), special("null", tar.TypeChar))
	image := imageOf(t,
		layerOf(t, pack(t, regular("g", "gzip"), regular("both", "gzip"))), zstd,
		static.NewLayer(plain, types.OCIUncompressedLayer))
	ref := registry.push(t, image, "fn/a:1")
	s := newStore(t, Options{})
	var last Progress
	got, err := s.Pull(t.Context(), ref, PullOptions{Progress: func(p Progress) { last = p }})
	if err != nil {
		t.Fatal(err)
	}
	id, err := image.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != id || got.Manifest != digestOf(t, image) || got.Target != got.Manifest || !slices.Contains(got.Names, ref) || got.Bytes == 0 {
		t.Errorf("got %+v", got)
	}
	if got.Notes.Skipped != 1 || len(got.Notes.Examples) != 1 {
		t.Errorf("notes %v", got.Notes)
	}
	if last.Layers != 3 || last.LayersDone != 3 || last.BytesDone != last.BytesTotal || last.BytesTotal == 0 {
		t.Errorf("progress %+v", last)
	}
	lease, err := s.Acquire(ref)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	for path, want := range map[string]string{"g": "gzip", "z": "zstd", "p": "plain", "both": "plain"} {
		if got := contents(t, lease, path); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
	if lease.ID != id || len(lease.Layers) != 3 || lease.Config.Config.WorkingDir != "/function" || lease.Config.Config.User != "fn" {
		t.Errorf("lease %+v", lease)
	}
	before := registry.total()
	mustPull(t, s, ref)
	if after := registry.total(); after != before {
		t.Errorf("%d blobs were fetched again", after-before)
	}
	checkTmp(t, s)
	if problems, err := s.Verify(t.Context()); err != nil || len(problems) != 0 {
		t.Errorf("verify: %v %v", problems, err)
	}
}

// What apps can name must not take more memory than it takes on disk, for as long
// as it is stored.
func TestLeaseHasOfTheConfigWhatContainersNeed(t *testing.T) {
	registry := newRegistry(t)
	made := withConfig(t, small(t, "1"), func(config *v1.ConfigFile) {
		config.History = append(config.History, make([]v1.History, 10_000)...)
		config.Author, config.Config.Labels = "a", map[string]string{"a": "b"}
		config.Config.Cmd, config.Config.Volumes = []string{"x"}, map[string]struct{}{"/v": {}}
	})
	ref := registry.push(t, made, "fn/a:1")
	s := newStore(t, Options{})
	mustPull(t, s, ref)
	lease, err := s.Acquire(ref)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	platform := s.Platform()
	want := &v1.ConfigFile{OS: platform.OS, Architecture: platform.Architecture, Config: v1.Config{
		Env: []string{"A=b"}, Entrypoint: []string{"/func"}, Cmd: []string{"x"}, WorkingDir: "/function", User: "fn", Volumes: map[string]struct{}{"/v": {}},
	}}
	if !reflect.DeepEqual(lease.Config, want) {
		t.Errorf("%d entries of history, %d layers, %+v", len(lease.Config.History), len(lease.Config.RootFS.DiffIDs), lease.Config.Config)
	}
}

func TestReferences(t *testing.T) {
	registry := newRegistry(t)
	image := small(t, "1")
	ref := registry.push(t, image, "fn/a:1")
	s := newStore(t, Options{})
	got := mustPull(t, s, ref)
	digest := digestOf(t, image).String()
	for _, by := range []string{
		ref, ref + "@" + digest, registry.host + "/fn/a@" + digest, digest, got.ID.String(), got.ID.Hex, got.ID.Hex[:12], "sha256:" + got.ID.Hex[:20],
	} {
		if found, err := s.Get(by); err != nil || found.Target != got.Target {
			t.Errorf("%s: %v", by, err)
		}
	}
	for _, by := range []string{registry.host + "/fn/a", registry.host + "/fn/a:2", registry.host + "/fn/b@" + digest, "abcdefabcdef", "sha256:" + got.ID.Hex[:11]} {
		if _, err := s.Get(by); !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", by, err)
		}
	}
	if err := s.Tag(got.ID.Hex[:12], "busybox"); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Get("docker.io/library/busybox:latest"); err != nil || found.ID != got.ID {
		t.Errorf("tagged: %v", err)
	}
	s.mu.Lock()
	other := *got.ID.DeepCopy()
	other.Hex = other.Hex[:20] + "00000000000000000000000000000000000000000000"
	s.images[other] = &record{Target: other, Manifest: other, Config: other}
	s.mu.Unlock()
	if _, err := s.Get(got.ID.Hex[:12]); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("two of them: %v", err)
	}
	if _, err := s.Get(got.ID.Hex[:24]); err != nil {
		t.Error(err)
	}
}

func TestPullOfAnIndex(t *testing.T) {
	registry := newRegistry(t)
	here := Options{}.withDefaults().Platform
	other := v1.Platform{OS: "linux", Architecture: "s390x"}
	mine, foreign := small(t, "mine"), imageFor(t, other, layerOf(t, pack(t, regular("f", "foreign"))))
	add := func(image v1.Image, platform v1.Platform) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &platform}}
	}
	index := mutate.AppendManifests(empty.Index, add(foreign, other), add(mine, here), add(small(t, "attestation"), v1.Platform{OS: "unknown", Architecture: "unknown"}))
	ref := registry.pushIndex(t, index, "fn/multi:1")
	s := newStore(t, Options{})
	got := mustPull(t, s, ref)
	if got.Manifest != digestOf(t, mine) || got.Target != digestOf(t, index) {
		t.Errorf("got %+v", got)
	}
	for _, digest := range []v1.Hash{got.Manifest, got.Target} {
		if _, err := s.Get(registry.host + "/fn/multi@" + digest.String()); err != nil {
			t.Error(err)
		}
	}
	ref = registry.pushIndex(t, mutate.AppendManifests(empty.Index, add(foreign, other)), "fn/foreign:1")
	_, err := s.Pull(t.Context(), ref, PullOptions{})
	if refused, ok := errors.AsType[*PlatformError](err); !ok || len(refused.Have) != 1 || refused.Have[0].Architecture != "s390x" {
		t.Errorf("index for others: %v", err)
	}
	ref = registry.push(t, foreign, "fn/foreign:2")
	_, err = s.Pull(t.Context(), ref, PullOptions{})
	if refused, ok := errors.AsType[*PlatformError](err); !ok || refused.Have[0].Architecture != "s390x" {
		t.Errorf("image for others: %v", err)
	}
}

// An index that was pushed with all of its images keeps them when it is pulled
// too, which gets one only.
func TestPullKeepsWhatWasPushed(t *testing.T) {
	registry := newRegistry(t)
	here, other := Options{}.withDefaults().Platform, v1.Platform{OS: "linux", Architecture: "s390x"}
	add := func(image v1.Image, platform v1.Platform) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &platform}}
	}
	foreign := imageFor(t, other, layerOf(t, pack(t, regular("f", "foreign"))))
	ref := registry.pushIndex(t, mutate.AppendManifests(empty.Index, add(foreign, other), add(small(t, "mine"), here)), "fn/multi:1")
	s := newStore(t, Options{OrphanAge: time.Nanosecond})
	got := mustPull(t, s, ref)
	s.mu.Lock()
	r := s.images[got.Target]
	s.mu.Unlock()
	content, err := foreign.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := s.putBlob(content)
	if err != nil {
		t.Fatal(err)
	}
	r.add(blobRef{types.DockerManifestSchema2, digest, int64(len(content))}) // as if it had been pushed
	before := len(r.Blobs)
	mustPull(t, s, ref)
	if _, err := s.Collect(t.Context(), CollectOptions{MaxBytes: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	r = s.images[got.Target]
	s.mu.Unlock()
	if _, ok := s.HasBlob(digest); !ok || len(r.Blobs) != before {
		t.Errorf("%d blobs of %d, the other's manifest there: %t", len(r.Blobs), before, ok)
	}
	// But what is gone is not asked for again.
	if err := os.Remove(s.blobPath(digest)); err != nil {
		t.Fatal(err)
	}
	mustPull(t, s, ref)
	if problems, err := s.Verify(t.Context()); err != nil || len(problems) != 0 {
		t.Errorf("verify: %v %v", problems, err)
	}
}

func TestPullIsShared(t *testing.T) {
	registry := newRegistry(t)
	ref := registry.push(t, small(t, "1", "2"), "fn/a:1")
	registry.hold, registry.seen = make(chan struct{}), make(chan struct{}, 100)
	s := newStore(t, Options{})
	leaving, leave := context.WithCancelCause(t.Context())
	left := errors.New("left")
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.Pull(leaving, ref, PullOptions{}); !errors.Is(err, left) {
			t.Errorf("who left: %v", err)
		}
	})
	<-registry.seen
	for range 5 {
		wg.Go(func() {
			if _, err := s.Pull(t.Context(), ref, PullOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	for waiting := 0; waiting < 6; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		for _, f := range s.flights {
			waiting = f.waiting
		}
		s.mu.Unlock()
	}
	leave(left) // who came first does not take the others with it
	close(registry.hold)
	wg.Wait()
	if got := registry.total(); got != 3 {
		t.Errorf("%d blobs were fetched", got)
	}
}

func TestPullEndsWhenAllLeft(t *testing.T) {
	registry := newRegistry(t)
	ref := registry.push(t, small(t, "1"), "fn/a:1")
	registry.hold, registry.seen = make(chan struct{}), make(chan struct{}, 100)
	s := newStore(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-registry.seen
		cancel()
	}()
	if _, err := s.Pull(ctx, ref, PullOptions{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	s.pulling.Wait()
	checkTmp(t, s)
	close(registry.hold)
	mustPull(t, s, ref)
}

func TestPullRefusesWhatIsWrong(t *testing.T) {
	registry := newRegistry(t)
	s := newStore(t, Options{Limits: Limits{Layers: 3, ConfigEntries: 4, LayerBytes: 1 << 20, Ratio: 10, RatioFloor: 1 << 16}})
	good := layerOf(t, pack(t, regular("a", "a")))

	t.Run("blob", func(t *testing.T) {
		image := small(t, "blob")
		ref := registry.push(t, image, "fn/blob:1")
		layers, _ := image.Layers()
		bad := digestOf(t, layers[0]).String()
		size, _ := layers[0].Size()
		registry.edit = func(digest string, w http.ResponseWriter) bool {
			if digest == bad {
				_, _ = w.Write(bytes.Repeat([]byte{'x'}, int(size)))
			}
			return digest == bad
		}
		defer func() { registry.edit = nil }()
		if _, err := s.Pull(t.Context(), ref, PullOptions{}); !errors.Is(err, ErrDigest) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("diffID", func(t *testing.T) {
		image := imageOf(t, good)
		config, _ := image.ConfigFile()
		config = config.DeepCopy()
		config.RootFS.DiffIDs[0] = DigestOf([]byte("another"))
		image = rawConfig{image, config}
		if _, err := s.Pull(t.Context(), registry.push(t, image, "fn/diff:1"), PullOptions{}); !errors.Is(err, ErrDigest) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("layers missing in the config", func(t *testing.T) {
		image := imageOf(t, good)
		config, _ := image.ConfigFile()
		config = config.DeepCopy()
		config.RootFS.DiffIDs = nil
		if _, err := s.Pull(t.Context(), registry.push(t, rawConfig{image, config}, "fn/few:1"), PullOptions{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("too many layers", func(t *testing.T) {
		if _, err := s.Pull(t.Context(), registry.push(t, small(t, "1", "2", "3", "4"), "fn/many:1"), PullOptions{}); !errors.Is(err, ErrLimit) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("too many variables", func(t *testing.T) {
		made := withConfig(t, imageOf(t, good), func(config *v1.ConfigFile) { config.Config.Env = make([]string, 4) })
		if _, err := s.Pull(t.Context(), registry.push(t, made, "fn/env:1"), PullOptions{}); !errors.Is(err, ErrLimit) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("bomb", func(t *testing.T) {
		bomb := layerOf(t, pack(t, regular("zeros", string(make([]byte, 1<<19)))))
		if _, err := s.Pull(t.Context(), registry.push(t, imageOf(t, bomb), "fn/bomb:1"), PullOptions{}); !errors.Is(err, ErrLimit) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no archive", func(t *testing.T) {
		if _, err := s.Pull(t.Context(), registry.push(t, imageOf(t, static.NewLayer([]byte("text, and so long that it cannot be a block of an archive"), types.OCIUncompressedLayer)), "fn/text:1"), PullOptions{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("absent", func(t *testing.T) {
		if _, err := s.Pull(t.Context(), registry.host+"/fn/absent:1", PullOptions{}); err == nil {
			t.Error("no error")
		}
	})
	if images := s.List(); len(images) != 0 {
		t.Errorf("images: %v", images)
	}
	checkTmp(t, s)
	layers, err := os.ReadDir(filepath.Join(s.Dir(), layersDir, algorithm))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range layers {
		if _, err := s.readLayer(v1.Hash{Algorithm: algorithm, Hex: entry.Name()}); err != nil {
			t.Errorf("layer %s: %v", entry.Name(), err)
		}
	}
	mustPull(t, s, registry.push(t, small(t, "good"), "fn/good:1"))
}

// rawConfig is an image with another config, whether it fits or not.
type rawConfig struct {
	v1.Image
	config *v1.ConfigFile
}

func (r rawConfig) RawConfigFile() ([]byte, error)      { return json.Marshal(r.config) }
func (r rawConfig) ConfigFile() (*v1.ConfigFile, error) { return r.config, nil }
func (r rawConfig) ConfigName() (v1.Hash, error)        { return partial.ConfigName(r) }
func (r rawConfig) Digest() (v1.Hash, error)            { return partial.Digest(r) }
func (r rawConfig) Size() (int64, error)                { return partial.Size(r) }
func (r rawConfig) ConfigLayer() (v1.Layer, error) {
	content, err := r.RawConfigFile()
	return static.NewLayer(content, types.DockerConfigJSON), err
}

func (r rawConfig) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	if name, _ := r.ConfigName(); name == h {
		return r.ConfigLayer()
	}
	return r.Image.LayerByDigest(h)
}

func (r rawConfig) Manifest() (*v1.Manifest, error) {
	m, err := r.Image.Manifest()
	if err != nil {
		return nil, err
	}
	content, err := r.RawConfigFile()
	if err != nil {
		return nil, err
	}
	m = m.DeepCopy()
	m.Config.Digest, m.Config.Size = DigestOf(content), int64(len(content))
	return m, nil
}

func (r rawConfig) RawManifest() ([]byte, error) {
	m, err := r.Manifest()
	if err != nil {
		return nil, err
	}
	return json.Marshal(m)
}

func TestTransferThatBreaksOffIsRepeated(t *testing.T) {
	registry := newRegistry(t)
	ref := registry.push(t, small(t, "1"), "fn/a:1")
	broken := false
	registry.edit = func(_ string, w http.ResponseWriter) bool {
		if broken {
			return false
		}
		broken = true
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte("x"))
		return true
	}
	mustPull(t, newStore(t, Options{}), ref)
}

func TestPlainHTTPOnlyOnLoopback(t *testing.T) {
	asked := false
	s := newStore(t, Options{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
		asked = true
		return nil, errors.New("asked")
	})})
	for _, host := range []string{"10.1.2.3:5000", "registry.example:80"} {
		asked = false
		request, _ := http.NewRequest(http.MethodGet, "http://"+host+"/v2/", nil)
		if _, err := (plainGuard{s.opts.Transport, false}).RoundTrip(request); !errors.Is(err, errPlainHTTP) || asked {
			t.Errorf("%s: %v", host, err)
		}
		if _, err := (plainGuard{s.opts.Transport, true}).RoundTrip(request); errors.Is(err, errPlainHTTP) || !asked {
			t.Errorf("%s, allowed: %v", host, err)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestPullsAsDifferentUsersAreNotOne(t *testing.T) {
	keys := map[string]bool{}
	for _, auth := range []authn.AuthConfig{{}, {Username: "a", Password: "1"}, {Username: "a", Password: "2"}, {RegistryToken: "t"}, {IdentityToken: "t"}} {
		key, err := (&pull{name: "a", auth: auth}).key()
		if err != nil || keys[key] {
			t.Errorf("%+v: %q %v", auth, key, err)
		}
		keys[key] = true
	}
}

func TestPlatforms(t *testing.T) {
	platform := func(text string) v1.Platform {
		p, err := v1.ParsePlatform(text)
		if err != nil {
			t.Fatal(err)
		}
		return *p
	}
	tests := []struct {
		want string
		have []string
		best int // -1: none
	}{
		{"linux/amd64", []string{"linux/arm64", "linux/amd64"}, 1},
		{"linux/amd64", []string{"linux/amd64/v3", "linux/amd64"}, 1},
		{"linux/amd64", []string{"linux/amd64/v3"}, -1},
		{"linux/amd64", []string{"windows/amd64"}, -1},
		{"linux/arm64", []string{"linux/arm/v7", "linux/arm64/v8"}, 1},
		{"linux/arm", []string{"linux/arm/v6", "linux/arm/v7", "linux/arm/v5"}, 1},
		{"linux/arm/v6", []string{"linux/arm/v7", "linux/arm/v5"}, 1},
		{"linux/amd64", []string{"unknown/unknown"}, -1},
		{"linux/amd64", nil, -1},
	}
	for _, tt := range tests {
		index := &v1.IndexManifest{}
		for _, text := range tt.have {
			p := platform(text)
			index.Manifests = append(index.Manifests, v1.Descriptor{MediaType: types.OCIManifestSchema1, Platform: &p})
		}
		got, _ := choose(index, platform(tt.want))
		if tt.best < 0 && got != nil || tt.best >= 0 && got != &index.Manifests[tt.best] {
			t.Errorf("%s of %v: %+v", tt.want, tt.have, got)
		}
	}
	if got, _ := choose(&v1.IndexManifest{Manifests: []v1.Descriptor{{MediaType: types.OCIManifestSchema1}}}, platform("linux/amd64")); got == nil {
		t.Error("the only one, of a builder that did not say")
	}
}
