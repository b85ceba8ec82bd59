package image

import (
	"archive/tar"
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// entry is one of a layer, with its body.
type entry struct {
	tar.Header
	body string
}

func regular(name, body string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, body}
}

func directory(name string) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, ""}
}

func symlink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, ""}
}

func hardLink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}, ""}
}

func special(name string, kind byte) entry {
	return entry{tar.Header{Typeflag: kind, Name: name, Mode: 0o644, Devmajor: 1, Devminor: 3}, ""}
}

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, e := range entries {
		e.Size = int64(len(e.body))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

func layerOf(t testing.TB, content []byte, options ...tarball.LayerOption) v1.Layer {
	t.Helper()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }, options...)
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// imageOf makes an image for this host.
func imageOf(t testing.TB, layers ...v1.Layer) v1.Image {
	t.Helper()
	platform := Options{}.withDefaults().Platform
	return imageFor(t, platform, layers...)
}

func imageFor(t testing.TB, platform v1.Platform, layers ...v1.Layer) v1.Image {
	t.Helper()
	image, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = platform.OS, platform.Architecture, platform.Variant
	config.Config = v1.Config{Env: []string{"A=b"}, Entrypoint: []string{"/func"}, WorkingDir: "/function", User: "fn"}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	return image
}

// withConfig changes an image's config.
func withConfig(t testing.TB, image v1.Image, edit func(*v1.ConfigFile)) v1.Image {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	edit(config)
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	return image
}

// small is an image of one file, which is different for each text.
func small(t testing.TB, texts ...string) v1.Image {
	t.Helper()
	var layers []v1.Layer
	for i, text := range texts {
		layers = append(layers, layerOf(t, pack(t, directory("d"), regular("d/"+string(rune('a'+i)), text))))
	}
	return imageOf(t, layers...)
}

// fakeRegistry is a registry in memory that counts the blobs it is asked for.
type fakeRegistry struct {
	host string
	mu   sync.Mutex
	gets map[string]int // by digest
	hold chan struct{}  // if not nil, blobs wait for it
	seen chan struct{}  // if not nil, gets a value for each request for a blob
	edit func(digest string, w http.ResponseWriter) bool
}

func newRegistry(t testing.TB) *fakeRegistry {
	t.Helper()
	f := &fakeRegistry{gets: map[string]int{}}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if digest := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]; r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			f.mu.Lock()
			f.gets[digest]++
			hold, seen, edit := f.hold, f.seen, f.edit
			f.mu.Unlock()
			if seen != nil {
				seen <- struct{}{}
			}
			if hold != nil {
				select {
				case <-hold:
				case <-r.Context().Done():
					return
				}
			}
			if edit != nil && edit(digest, w) {
				return
			}
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	f.host = strings.TrimPrefix(server.URL, "http://")
	return f
}

func (f *fakeRegistry) push(t testing.TB, image v1.Image, repository string) string {
	t.Helper()
	ref, err := name.ParseReference(f.host + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image); err != nil {
		t.Fatal(err)
	}
	return ref.String()
}

func (f *fakeRegistry) pushIndex(t testing.TB, index v1.ImageIndex, repository string) string {
	t.Helper()
	ref, err := name.ParseReference(f.host + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	return ref.String()
}

func (f *fakeRegistry) total() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	sum := 0
	for _, n := range f.gets {
		sum += n
	}
	return sum
}

func newStore(t testing.TB, opts Options) *Store {
	t.Helper()
	return openStore(t, t.TempDir(), opts)
}

func openStore(t testing.TB, dir string, opts Options) *Store {
	t.Helper()
	needRoot(t)
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func needRoot(t testing.TB) {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("needs Linux and root: owners and whiteouts of layers")
	}
}

func mustPull(t testing.TB, s *Store, ref string) Image {
	t.Helper()
	image, err := s.Pull(t.Context(), ref, PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// contents of a lease's topmost file with that path.
func contents(t testing.TB, lease *Lease, path string) string {
	t.Helper()
	for _, layer := range lease.Layers {
		if content, err := os.ReadFile(filepath.Join(layer, path)); err == nil {
			return string(content)
		}
	}
	t.Fatalf("no layer has %s", path)
	return ""
}

// checkTmp fails if work left something half written.
func checkTmp(t testing.TB, s *Store) {
	t.Helper()
	for _, dir := range []string{tmpDir, removedDir} {
		entries, err := os.ReadDir(s.path(dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			t.Errorf("left in %s: %s", dir, e.Name())
		}
	}
}

func digestOf(t testing.TB, image interface{ Digest() (v1.Hash, error) }) v1.Hash {
	t.Helper()
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}
