package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/moby/moby/client"

	testimage "github.com/tinefn/tine/test/image"
)

// oldDockerSave is an archive as Docker before 25 wrote them: uncompressed
// layers in directories of their own, the same layer once and then as a link, the
// list at the end.
func oldDockerSave(t testing.TB, tags []string) (archive []byte, id v1.Hash) {
	t.Helper()
	layer := pack(t, regular("a", "text"))
	second := pack(t, regular("b", "text"))
	diffID := DigestOf(layer)
	config, err := json.Marshal(v1.ConfigFile{
		OS: "linux", Architecture: Options{}.withDefaults().Platform.Architecture,
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{diffID, DigestOf(second), diffID}},
	})
	if err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal([]dockerImage{{Config: "c.json", RepoTags: tags, Layers: []string{"one/layer.tar", "two/layer.tar", "three/layer.tar"}}})
	if err != nil {
		t.Fatal(err)
	}
	return pack(
		t, directory("one/"), regular("one/VERSION", "1.0"), regular("one/layer.tar", string(layer)),
		regular("two/layer.tar", string(second)), symlink("three/layer.tar", "../one/layer.tar"),
		regular("c.json", string(config)), regular("manifest.json", string(list)),
	), DigestOf(config)
}

func TestImportOfOldDockerSave(t *testing.T) {
	s := newStore(t, Options{})
	archive, id := oldDockerSave(t, []string{"fn/hello:1", "hello:latest"})
	images, err := s.Import(t.Context(), bytes.NewReader(archive))
	if err != nil || len(images) != 1 || images[0].ID != id {
		t.Fatalf("got %+v %v", images, err)
	}
	for _, ref := range []string{"fn/hello:1", "hello", id.String()} {
		lease, err := s.Acquire(ref)
		if err != nil {
			t.Fatal(err)
		}
		if len(lease.Layers) != 3 || contents(t, lease, "a") != "text" || contents(t, lease, "b") != "text" {
			t.Errorf("lease %+v", lease)
		}
		lease.Release()
	}
	if problems, err := s.Verify(t.Context()); err != nil || len(problems) != 0 {
		t.Errorf("verify: %v %v", problems, err)
	}
	checkTmp(t, s)
}

func TestImportOfDockerSaveByTarball(t *testing.T) {
	made := small(t, "1", "2")
	var archive bytes.Buffer
	zipped := gzip.NewWriter(&archive)
	if err := errors.Join(tarball.Write(name.MustParseReference("fn/a:1"), made, zipped), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	s := newStore(t, Options{})
	images, err := s.Import(t.Context(), &archive)
	if id, _ := made.ConfigName(); err != nil || len(images) != 1 || images[0].ID != id {
		t.Fatalf("got %+v %v", images, err)
	}
	if _, err := s.Get("index.docker.io/fn/a:1"); err != nil {
		t.Error(err)
	}
}

// layoutTar is an OCI layout in an archive.
func layoutTar(t testing.TB, images map[string]v1.Image) []byte {
	t.Helper()
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for ref, made := range images {
		if err := path.AppendImage(made, layout.WithAnnotations(map[string]string{annotationRef: ref})); err != nil {
			t.Fatal(err)
		}
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close()); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

func TestImportOfALayout(t *testing.T) {
	s := newStore(t, Options{})
	archive := layoutTar(t, map[string]v1.Image{"fn/a:1": small(t, "a"), "latest": small(t, "b")})
	images, err := s.Import(t.Context(), bytes.NewReader(archive))
	if err != nil || len(images) != 2 {
		t.Fatalf("got %+v %v", images, err)
	}
	named := 0
	for _, found := range images {
		named += len(found.Names)
		lease, err := s.Acquire(found.Manifest.String())
		if err != nil {
			t.Fatal(err)
		}
		lease.Release()
	}
	if named != 1 { // a tag alone is no name
		t.Errorf("%d names", named)
	}
}

// Newer engines save an image under the index that they pulled, without the
// parts of it that they do not have.
func TestImportOfASparseIndex(t *testing.T) {
	here := Options{}.withDefaults().Platform
	mine := small(t, "mine")
	add := func(made v1.Image, platform v1.Platform) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: made, Descriptor: v1.Descriptor{Platform: &platform}}
	}
	index := mutate.AppendManifests(empty.Index, add(small(t, "other"), v1.Platform{OS: "linux", Architecture: "s390x"}), add(mine, here))
	dir := t.TempDir()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	content, err := index.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := mine.ConfigName()
	if err := errors.Join(
		path.AppendImage(mine), path.RemoveDescriptors(func(v1.Descriptor) bool { return true }),
		os.WriteFile(dir+"/"+blobName(DigestOf(content)), content, 0o600),
		path.AppendDescriptor(v1.Descriptor{
			MediaType: types.OCIImageIndex, Digest: DigestOf(content), Size: int64(len(content)),
			Annotations: map[string]string{annotationName: "docker.io/fn/a:1"},
		}),
	); err != nil {
		t.Fatal(err)
	}
	pack := func() *bytes.Buffer {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		if err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close()); err != nil {
			t.Fatal(err)
		}
		return &archive
	}
	s := newStore(t, Options{})
	images, err := s.Import(t.Context(), pack())
	if err != nil || len(images) != 1 || images[0].ID != id {
		t.Fatalf("got %+v %v", images, err)
	}
	if problems, err := s.Verify(t.Context()); err != nil || len(problems) != 0 {
		t.Errorf("verify: %v %v", problems, err)
	}
	// But not without parts of the one that is needed.
	if err := os.Remove(dir + "/" + blobName(id)); err != nil {
		t.Fatal(err)
	}
	if images, err := newStore(t, Options{}).Import(t.Context(), pack()); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %+v %v", images, err)
	}
}

func TestImportRefusesWhatIsWrong(t *testing.T) {
	s := newStore(t, Options{Limits: Limits{ArchiveFiles: 20}})
	archive, _ := oldDockerSave(t, []string{"a:1"})
	var many []entry
	for range 21 {
		many = append(many, regular("x", ""))
	}
	blob := "blobs/sha256/" + DigestOf([]byte("a")).Hex
	tests := map[string]struct {
		archive []byte
		want    error
	}{
		"empty":         {pack(t), ErrInvalid},
		"no archive":    {bytes.Repeat([]byte("text"), 1000), ErrInvalid},
		"cut":           {archive[:len(archive)/2], ErrInvalid},
		"list only":     {pack(t, regular("manifest.json", `[{"Config":"c.json","Layers":["l"]}]`)), ErrInvalid},
		"empty list":    {pack(t, regular("manifest.json", `[]`)), ErrInvalid},
		"bad list":      {pack(t, regular("manifest.json", `{`)), ErrInvalid},
		"bad name":      {bytes.Replace(archive, []byte(`"a:1"`), []byte(`"A:1"`), 1), ErrInvalid},
		"link cycle":    {pack(t, symlink("manifest.json", "x"), symlink("x", "manifest.json")), ErrInvalid},
		"name outside":  {pack(t, regular("../manifest.json", `[]`)), ErrInvalid},
		"other content": {pack(t, regular(blob, "b"), regular("index.json", `{"schemaVersion":2,"manifests":[]}`)), ErrDigest},
		"nothing there": {pack(t, regular("index.json", `{"schemaVersion":2,"manifests":[{"digest":"sha256:`+DigestOf([]byte("absent")).Hex+`","size":1}]}`)), ErrNotFound},
		"many files":    {pack(t, many...), ErrLimit},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if images, err := s.Import(t.Context(), bytes.NewReader(tt.archive)); !errors.Is(err, tt.want) {
				t.Errorf("got %v %v", images, err)
			}
		})
	}
	if images := s.List(); len(images) != 0 {
		t.Errorf("images: %v", images)
	}
	checkTmp(t, s)
}

func TestExportAndImport(t *testing.T) {
	registry := newRegistry(t)
	s, other := newStore(t, Options{}), newStore(t, Options{})
	ref := registry.push(t, small(t, "1", "2"), "fn/a:1")
	want := mustPull(t, s, ref)
	if err := s.Tag(ref, "second:name"); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := s.Export(t.Context(), ref, &archive); err != nil {
		t.Fatal(err)
	}
	images, err := other.Import(t.Context(), bytes.NewReader(archive.Bytes()))
	if err != nil || len(images) != 1 || images[0].ID != want.ID || images[0].Manifest != want.Manifest || len(images[0].Names) != 2 {
		t.Fatalf("got %+v %v", images, err)
	}
	// For others it is an archive of docker save, too.
	made, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := made.ConfigName(); err != nil || id != want.ID {
		t.Errorf("identifier %s %v", id, err)
	}
}

// A real engine loads what is exported, and saves what can be imported.
func TestRoundTripWithDocker(t *testing.T) {
	local := testimage.TestFn(t)
	engine, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	known, err := engine.ImageInspect(t.Context(), local)
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(t, Options{})
	saved, err := s.ImportFromEngine(t.Context(), engine, local)
	if err != nil {
		t.Fatal(err)
	}
	if saved.ID.String() != known.ID || len(saved.Names) != 1 || !strings.HasSuffix(saved.Names[0], local) {
		t.Errorf("got %+v, the engine has %s", saved, known.ID)
	}
	if byID, err := s.ImportFromEngine(t.Context(), engine, known.ID); err != nil || byID.ID != saved.ID {
		t.Errorf("by identifier: %+v %v", byID, err)
	}
	lease, err := s.Acquire(local)
	if err != nil {
		t.Fatal(err)
	}
	if len(contents(t, lease, "function/func")) < 1000 || lease.Config.Config.WorkingDir != "/function" {
		t.Errorf("lease %+v", lease.Config.Config)
	}
	lease.Release()

	// With another file, so that the engine does not have it.
	registry := newRegistry(t)
	ref := registry.push(t, small(t, "for the engine", known.ID), "tine-test/exported:1")
	pulled := mustPull(t, s, ref)
	var archive bytes.Buffer
	if err := s.Export(t.Context(), ref, &archive); err != nil {
		t.Fatal(err)
	}
	loaded, err := engine.ImageLoad(t.Context(), &archive)
	if err != nil {
		t.Fatal(err)
	}
	said, _ := io.ReadAll(loaded)
	loaded.Close()
	found, err := engine.ImageInspect(t.Context(), ref)
	if err != nil || found.ID != pulled.ID.String() {
		t.Errorf("loaded: %s %v, it said %s", found.ID, err, said)
	}
	if _, err := engine.ImageRemove(t.Context(), ref, client.ImageRemoveOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := s.ImportFromEngine(t.Context(), engine, "tine-test/absent:1"); err == nil {
		t.Error("no error")
	}
}

func FuzzImport(f *testing.F) {
	archive, _ := oldDockerSave(f, []string{"a:1"})
	f.Add(archive)
	f.Add(layoutTar(f, map[string]v1.Image{"fn/a:1": small(f, "a")}))
	f.Add(pack(f, regular("manifest.json", `[]`), symlink("index.json", "manifest.json")))
	f.Fuzz(func(t *testing.T, archive []byte) {
		s := newStore(t, Options{Limits: Limits{LayerBytes: 1 << 20, BlobBytes: 1 << 20, ArchiveFiles: 50}})
		if _, err := s.Import(t.Context(), bytes.NewReader(archive)); err != nil {
			return
		}
		if problems, err := s.Verify(t.Context()); err != nil || len(problems) != 0 {
			t.Fatalf("imported, but: %v %v", problems, err)
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":"sha256:`+DigestOf(nil).Hex+`"},"layers":[]}`), "")
	f.Add([]byte(`{"schemaVersion":2,"manifests":[]}`), "application/vnd.oci.image.index.v1+json")
	f.Fuzz(func(t *testing.T, content []byte, mediaType string) {
		m, err := ParseManifest(content, mediaType)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if (m.Image == nil) == (m.Index == nil) {
			t.Fatal("neither or both")
		}
		if m.Index != nil {
			choose(m.Index, Options{}.withDefaults().Platform)
			return
		}
		m.isContainer()
		for _, part := range m.parts() {
			if checkDigest(part.Digest) != nil {
				t.Fatalf("digest %v", part.Digest)
			}
		}
	})
}

// Whatever a layer's first bytes pretend, reading it ends and is bounded.
func FuzzDecompress(f *testing.F) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = w.Write(make([]byte, 1000))
	w.Close()
	f.Add(zipped.Bytes())
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0})
	f.Add([]byte("plain"))
	f.Fuzz(func(t *testing.T, blob []byte) {
		limits := Limits{LayerBytes: 1 << 20, RatioFloor: 1 << 10, Ratio: 100}.withDefaults()
		r, err := decompress(bytes.NewReader(blob), limits)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		defer r.Close()
		if _, err := r.drain(t.Context()); err != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrLimit) {
			t.Fatal(err)
		}
	})
}
