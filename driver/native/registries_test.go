//go:build linux

package native_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	engineimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/docker"
	"github.com/tinefn/tine/driver/native"
	"github.com/tinefn/tine/test/image"
)

func TestPullIsTriedAgainUnlessItIsRefused(t *testing.T) {
	var status, failures atomic.Int64 // how the next so many requests end; 0: the connection breaks
	address := image.FrontRegistry(t, image.Registry(t), func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Connection", "close") // HTTP itself asks again when one breaks that was used before
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/manifests/") || failures.Add(-1) < 0 {
			return false
		}
		if status.Load() == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(int(status.Load()))
		return true
	})
	ref := address + "/tine-test/flaky:1"
	push(t, ref, "flaky", authn.AuthConfig{})
	for _, tt := range []struct {
		name             string
		status, failures int64
		retries          int
		wantTried        int // again
		want             int // status of the refusal
	}{
		{"503 once", 503, 1, 2, 1, -1},
		{"429 twice", 429, 2, 2, 2, -1},
		{"cut", 0, 1, 2, 1, -1},
		{"503 too often", 503, 9, 2, 2, 0},
		{"429 too often", 429, 9, 1, 1, 429},
		{"no retries", 503, 1, 0, 0, 0},
		{"401", 401, 9, 2, 0, 401},
		{"403", 403, 9, 2, 0, 403},
		{"404", 404, 9, 2, 0, 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			d := openEmpty(t, func(o *native.Options) {
				o.PullRetries, o.Logger = tt.retries, slog.New(slog.NewTextHandler(&log, nil))
			})
			defer closeNow(t, d)
			status.Store(tt.status)
			failures.Store(tt.failures)
			err := ensure(t, d, "", ref)
			failures.Store(0)
			image.WantStatus(t, "pull", err, tt.want)
			if tried := strings.Count(log.String(), "pull failed and is tried again"); tried != tt.wantTried {
				t.Errorf("tried again %d times: %s", tried, &log)
			}
		})
	}
}

func TestPullErrors(t *testing.T) {
	address := image.FaultyRegistry(t)
	d := openEmpty(t, func(o *native.Options) { o.PullTimeout = 2 * time.Second })
	defer closeNow(t, d)
	for name, tt := range map[string]struct {
		image  string
		status int
	}{
		"refused":       {address + "/private/a:1", 401},
		"garbage":       {address + "/garbage/a:1", 400},
		"dead registry": {"127.0.0.1:1/a/b:1", 0},
		"invalid name":  {"UPPER/CASE", 400},
		"identifier":    {"sha256:" + strings.Repeat("0", 64), 400},
	} {
		t.Run(name, func(t *testing.T) {
			err := ensure(t, d, "", tt.image)
			image.WantStatus(t, tt.image, err, tt.status)
			if refused, ok := errors.AsType[*driver.PullError](err); ok && refused.Image != tt.image {
				t.Errorf("the error names %s", refused.Image)
			}
		})
	}
	if err := ensure(t, d, "", address+"/hangs/a:1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a registry that hangs: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.EnsureImage(ctx, driver.ImageRequest{Name: address + "/hangs/b:1"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a caller who leaves: %v", err)
	}
}

func TestPullsAreSharedByTheSameCredentialsOnly(t *testing.T) {
	var pulls sync.Map // who asks for the manifest -> *atomic.Int64
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	address := image.FrontRegistry(t, image.PrivateRegistry(t), func(_ http.ResponseWriter, r *http.Request) bool {
		user, password, named := r.BasicAuth()
		if named && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/") {
			count, _ := pulls.LoadOrStore(user+":"+password, &atomic.Int64{})
			count.(*atomic.Int64).Add(1)
			arrived <- struct{}{}
			<-release
		}
		return false
	})
	ref := address + "/tine-test/shared:1"
	push(t, ref, "shared", reader)
	d := openEmpty(t, func(o *native.Options) { o.AppAuthDir = apps(t, address) })
	defer closeNow(t, d)
	var waiting sync.WaitGroup
	for app, status := range map[string]int{"owner": -1, "friend": -1, "guesser": http.StatusUnauthorized} {
		waiting.Go(func() { image.WantStatus(t, app, ensure(t, d, app, ref), status) })
	}
	for range 2 { // the owner or the friend, and the guesser
		<-arrived
	}
	time.Sleep(100 * time.Millisecond) // for whoever would come too
	close(release)
	waiting.Wait()
	for who, want := range map[string]int64{"reader:secret": 1, "reader:guess": 1} {
		count, ok := pulls.Load(who)
		if !ok || count.(*atomic.Int64).Load() != want {
			t.Errorf("%s: %v", who, count)
		}
	}
}

func TestMovedTagIsNoticedByARefreshAlone(t *testing.T) {
	var offline atomic.Bool
	address := image.FrontRegistry(t, image.Registry(t), func(http.ResponseWriter, *http.Request) bool {
		if offline.Load() {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	ref := address + "/tine-test/moves:1"
	push(t, ref, "first", authn.AuthConfig{})
	d := openEmpty(t, nil)
	defer closeNow(t, d)
	ask := func(refresh bool) driver.Image {
		t.Helper()
		got, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: ref, Refresh: refresh})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	old := ask(false)
	if got := ask(true); got != old {
		t.Errorf("a tag that did not move: %+v, want %+v", got, old)
	}
	second := push(t, ref, "second", authn.AuthConfig{})
	if got := ask(false); got != old {
		t.Errorf("without a refresh: %+v", got)
	}
	offline.Store(true)
	if got := ask(true); got != old {
		t.Errorf("offline: %+v", got)
	}
	offline.Store(false)
	id, err := second.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	moved := ask(true)
	if moved.ID != id.String() {
		t.Errorf("after the tag moved: %+v", moved)
	}
	if got := ask(false); got != moved {
		t.Errorf("after the refresh: %+v, want %+v", got, moved)
	}
}

func TestRefreshOfAPrivateImageIsForThoseWhoMayUseIt(t *testing.T) {
	address, _ := counted(t)
	ref := address + "/tine-test/moves:1"
	push(t, ref, "first", reader)
	d := openEmpty(t, func(o *native.Options) { o.AppAuthDir, o.AccessTTL = apps(t, address), -1 })
	defer closeNow(t, d)
	refresh := func(app string) error {
		_, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: ref, Tenant: app, Refresh: true})
		return err
	}
	image.WantStatus(t, "owner, pull", refresh("owner"), -1)
	push(t, ref, "second", reader)
	image.WantStatus(t, "stranger", refresh("stranger"), http.StatusUnauthorized)
	image.WantStatus(t, "guesser", refresh("guesser"), http.StatusUnauthorized)
	image.WantStatus(t, "owner", refresh("owner"), -1)
	image.WantStatus(t, "stranger, new image", ensure(t, d, "stranger", ref), http.StatusUnauthorized)
}

// What a Docker driver pulled for an app before stays that app's: the engine would
// give it to everybody.
func TestPrivateImageOfAnEngineIsNotTakenOver(t *testing.T) {
	image.NeedEngine(t)
	address, count := counted(t)
	ref := address + "/tine-test/engine:1"
	push(t, ref, "of an engine", reader)
	state, auth := t.TempDir(), apps(t, address)
	before, err := docker.New(t.Context(), docker.Options{StateDir: state, AppAuthDir: auth})
	if err != nil {
		t.Fatal(err)
	}
	_, err = before.EnsureImage(t.Context(), driver.ImageRequest{Name: ref, Tenant: "owner"})
	if err := errors.Join(err, before.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	engine, err := docker.Connect(docker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	public := "tine-test/public:" + strings.ToLower(t.Name())
	if err := image.Build(t.Context(), public, map[string][]byte{"Dockerfile": []byte("FROM scratch\nCOPY a /a\n"), "a": []byte("a")}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{ref, public} {
		t.Cleanup(func() { image.Untag(t, name) })
	}
	d := openEmpty(t, func(o *native.Options) { o.Engine, o.StateDir, o.AppAuthDir = engine, state, auth })
	defer closeNow(t, d)
	pulled := count.blobs.Load()
	image.WantStatus(t, "stranger", ensure(t, d, "stranger", ref), http.StatusUnauthorized)
	image.WantStatus(t, "owner", ensure(t, d, "owner", ref), -1)
	if count.blobs.Load() == pulled {
		t.Error("the owner was given it without the registry's word")
	}
	image.WantStatus(t, "stranger, after the pull", ensure(t, d, "stranger", ref), http.StatusUnauthorized)
	image.WantStatus(t, "an image that was built there", ensure(t, d, "stranger", public), -1)
}

// What a Docker driver pulled before is asked for in its registry, as if this driver
// had pulled it, and what was built is looked for in the engine alone.
func TestMovedTagOfAnEnginesImageIsNoticed(t *testing.T) {
	image.NeedEngine(t)
	address := image.Registry(t)
	ref := address + "/tine-test/engine-moves:1"
	push(t, ref, "first", authn.AuthConfig{})
	before, err := docker.New(t.Context(), docker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = before.EnsureImage(t.Context(), driver.ImageRequest{Name: ref})
	if err := errors.Join(err, before.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	built := address + "/tine-test/built:1"
	build := func(content string) {
		t.Helper()
		if err := image.Build(t.Context(), built, map[string][]byte{"Dockerfile": []byte("FROM scratch\nCOPY a /a\n"), "a": []byte(content)}); err != nil {
			t.Fatal(err)
		}
	}
	build("first")
	for _, name := range []string{ref, built} {
		t.Cleanup(func() { image.Untag(t, name) })
	}
	engine, err := docker.Connect(docker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	d := openEmpty(t, func(o *native.Options) { o.Engine, o.Logger = engine, slog.New(slog.NewTextHandler(&log, nil)) })
	defer closeNow(t, d)
	ask := func(name string, refresh bool) string {
		t.Helper()
		got, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: name, Refresh: refresh})
		if err != nil {
			t.Fatal(err)
		}
		return got.ID
	}
	old, oldBuilt := ask(ref, false), ask(built, false)
	if n := strings.Count(log.String(), "taken over"); n != 2 {
		t.Errorf("%d images were taken over:\n%s", n, log.String())
	}
	if got := ask(ref, true); got != old {
		t.Errorf("a tag that did not move: %s, want %s", got, old)
	}
	second := push(t, ref, "second", authn.AuthConfig{})
	id, err := second.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the engine goes on to have the old one
		if got := ask(ref, true); got != id.String() {
			t.Errorf("after the tag moved: %s, want %s", got, id)
		}
	}
	if got := ask(built, true); got != oldBuilt {
		t.Errorf("what was not built again: %s, want %s", got, oldBuilt)
	}
	build("second")
	if got := ask(built, true); got == oldBuilt {
		t.Error("what was built again is not taken over")
	}
	if strings.Contains(log.String(), "cannot find out") {
		t.Errorf("a registry was asked for what was built:\n%s", log.String())
	}
}

// oneImage is an engine that has one image, by its digest alone.
type oneImage struct {
	id      string
	archive []byte
	saved   int
}

func (e *oneImage) ImageInspect(_ context.Context, name string, _ ...client.ImageInspectOption) (client.ImageInspectResult, error) {
	return client.ImageInspectResult{InspectResponse: engineimage.InspectResponse{ID: e.id, RepoDigests: []string{name}}}, nil
}

func (e *oneImage) ImageSave(context.Context, []string, ...client.ImageSaveOption) (client.ImageSaveResult, error) {
	e.saved++
	return io.NopCloser(bytes.NewReader(e.archive)), nil
}

func (e *oneImage) Close() error { return nil }

func TestImageIsTakenOverByItsDigestOnce(t *testing.T) {
	made, err := imageOf([]byte("engine"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := made.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	asked, err := name.NewDigest("127.0.0.1:1/tine-test/engine@sha256:" + strings.Repeat("0", 64))
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	if err := tarball.MultiRefWrite(map[name.Reference]v1.Image{asked: made}, &packed); err != nil {
		t.Fatal(err)
	}
	engine := &oneImage{id: id.String(), archive: packed.Bytes()}
	dir := t.TempDir()
	d := openEmpty(t, func(o *native.Options) { o.Dir, o.Engine = dir, engine })
	defer closeNow(t, d)
	ask := func() {
		t.Helper()
		got, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: asked.String()})
		if err != nil || got.ID != id.String() {
			t.Fatalf("%+v %v", got, err)
		}
	}
	for range 3 {
		ask()
	}
	if engine.saved != 1 {
		t.Errorf("the engine sent it %d times", engine.saved)
	}
	// What is lost of it is in the engine still.
	for _, kind := range []string{"blobs", "layers"} {
		lost, err := filepath.Glob(filepath.Join(dir, "images", kind, "sha256", "*"))
		if err != nil || len(lost) == 0 {
			t.Fatal(lost, err)
		}
		for _, path := range lost {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	ask()
	if engine.saved != 2 {
		t.Errorf("after the damage the engine had sent it %d times", engine.saved)
	}
}

func TestDamagedImageIsRepaired(t *testing.T) {
	var fetched atomic.Int64
	address := image.FrontRegistry(t, image.Registry(t), func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			fetched.Add(1)
		}
		return false
	})
	pulled := address + "/tine-test/damaged:1"
	made := push(t, pulled, "damaged", authn.AuthConfig{})
	config, err := made.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	const pushed = "tine.internal/me/damaged:1"
	archive, err := pack(made, pushed)
	if err != nil {
		t.Fatal(err)
	}
	layers := func(dir string) error { return os.RemoveAll(filepath.Join(dir, "images/layers/sha256")) }
	blobs := func(dir string) error {
		return errors.Join(os.RemoveAll(filepath.Join(dir, "images/blobs/sha256")), os.Mkdir(filepath.Join(dir, "images/blobs/sha256"), 0o700))
	}
	for name, tt := range map[string]struct {
		image  string
		damage func(dir string) error
		fetch  bool // what of it is needed is fetched again
		fails  bool
	}{
		"layer":               {pulled, layers, false, false},
		"config":              {pulled, func(dir string) error { return os.Remove(filepath.Join(dir, "images/blobs/sha256", config.Hex)) }, true, false},
		"config overwritten":  {pulled, func(dir string) error { return overwrite(filepath.Join(dir, "images/blobs/sha256", config.Hex)) }, true, false},
		"all of it":           {pulled, func(dir string) error { return errors.Join(layers(dir), blobs(dir)) }, true, false},
		"pushed, layer":       {pushed, layers, false, false},
		"pushed, all of it":   {pushed, func(dir string) error { return errors.Join(layers(dir), blobs(dir)) }, false, true},
		"identifier, layer":   {config.String(), layers, false, false},
		"identifier, all":     {config.String(), func(dir string) error { return errors.Join(layers(dir), blobs(dir)) }, false, true},
		"short id, all of it": {config.Hex[:12], func(dir string) error { return errors.Join(layers(dir), blobs(dir)) }, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d := openEmpty(t, func(o *native.Options) { o.Dir = dir })
			if tt.image == pushed {
				err = d.ImportImages(t.Context(), bytes.NewReader(archive))
			} else {
				err = ensure(t, d, "", pulled)
			}
			closeNow(t, d)
			if err := errors.Join(err, tt.damage(dir)); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			d = openEmpty(t, func(o *native.Options) { o.Dir, o.Logger = dir, slog.New(slog.NewTextHandler(&log, nil)) })
			defer closeNow(t, d)
			before := fetched.Load()
			for range 2 {
				err := ensure(t, d, "", tt.image)
				if (err != nil) != tt.fails {
					t.Errorf("got %v", err)
				}
				if _, isPull := errors.AsType[*driver.PullError](err); isPull {
					t.Errorf("it was pulled by something that is no name: %v", err)
				}
			}
			if (fetched.Load() > before) != tt.fetch {
				t.Errorf("%d blobs were fetched", fetched.Load()-before)
			}
			if n := strings.Count(log.String(), "is repaired"); n != 1 && !tt.fails {
				t.Errorf("%d lines say so: %s", n, &log)
			}
		})
	}
}

// overwrite damages a file without a change of its size.
func overwrite(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, make([]byte, info.Size()), 0o600)
}

func TestImageForOtherMachinesIsRefused(t *testing.T) {
	made, err := imageOf(nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := made.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Architecture = "s390x"
	if made, err = mutate.ConfigFile(made, config); err != nil {
		t.Fatal(err)
	}
	const named = "tine.internal/me/elsewhere:1"
	archive, err := pack(made, named)
	if err != nil {
		t.Fatal(err)
	}
	d := openEmpty(t, nil)
	defer closeNow(t, d)
	if err := d.ImportImages(t.Context(), bytes.NewReader(archive)); err != nil {
		t.Fatal(err)
	}
	err = ensure(t, d, "", named)
	image.WantStatus(t, named, err, 0)
	if err == nil || !strings.Contains(err.Error(), "linux/amd64") {
		t.Errorf("the error does not say what is needed: %v", err)
	}
}
