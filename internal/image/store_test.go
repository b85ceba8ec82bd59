package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestStoreHasOneOwner(t *testing.T) {
	s := newStore(t, Options{})
	if _, err := Open(s.Dir(), Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("second: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(s.Dir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if err := os.WriteFile(filepath.Join(s.Dir(), formatName), []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.Dir(), Options{}); err == nil || !strings.Contains(err.Error(), "format") {
		t.Errorf("other format: %v", err)
	}
}

func TestStoreRemembers(t *testing.T) {
	registry := newRegistry(t)
	ref := registry.push(t, small(t, "1"), "fn/a:1")
	s := newStore(t, Options{})
	mustPull(t, s, ref)
	lease, err := s.Acquire(ref)
	if err != nil {
		t.Fatal(err)
	}
	lease.Release()
	before, err := s.Get(ref)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openStore(t, s.Dir(), Options{})
	after, err := s.Get(ref)
	if err != nil || !after.LastUse.Equal(before.LastUse) || after.ID != before.ID || len(s.Problems()) != 0 {
		t.Errorf("got %+v, was %+v; %v %v", after, before, err, s.Problems())
	}
}

func TestDamageIsFoundAndRepaired(t *testing.T) {
	registry := newRegistry(t)
	ref := registry.push(t, small(t, "1", "2"), "fn/a:1")
	content := func(s *Store, kind string) []string {
		paths, err := filepath.Glob(filepath.Join(s.Dir(), kind, algorithm, "*"))
		if err != nil || len(paths) == 0 {
			t.Fatal(paths, err)
		}
		return paths
	}
	tests := map[string]struct {
		damage  func(t *testing.T, s *Store) error
		atOpen  bool // found without reading everything
		acquire bool // still works before the repair
	}{
		"blob missing":  {func(t *testing.T, s *Store) error { return os.Remove(s.blobPath(s.List()[0].ID)) }, true, false},
		"blob cut":      {func(t *testing.T, s *Store) error { return os.Truncate(s.blobPath(s.List()[0].ID), 3) }, true, false},
		"layer missing": {func(t *testing.T, s *Store) error { return os.RemoveAll(content(s, layersDir)[0]) }, true, false},
		"layer's record": {func(t *testing.T, s *Store) error {
			return os.WriteFile(content(s, layersDir)[0]+"/"+layerFile, []byte("{"), 0o600)
		}, true, true},
		"names": {func(t *testing.T, s *Store) error { return os.WriteFile(s.path(namesName), []byte("{"), 0o600) }, true, false},
		"image": {func(t *testing.T, s *Store) error {
			return os.WriteFile(s.recordPath(s.List()[0].Target), []byte("{"), 0o600)
		}, true, false},
		"names of another type": {func(t *testing.T, s *Store) error { return os.WriteFile(s.path(namesName), []byte("null"), 0o600) }, false, false},
		"image without digests": {func(t *testing.T, s *Store) error {
			path := s.recordPath(s.List()[0].Target)
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, []byte(strings.Replace(string(content), `"digest"`, `"other"`, 1)), 0o600)
		}, true, false},
		"layer changed": {func(t *testing.T, s *Store) error {
			return os.WriteFile(content(s, layersDir)[0]+"/fs/d/x", nil, 0o600)
		}, false, true},
		"blob overwritten": {func(t *testing.T, s *Store) error {
			path := s.blobPath(s.images[s.List()[0].Target].Layers[0].Blob)
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, make([]byte, info.Size()), 0o600)
		}, false, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, Options{})
			mustPull(t, s, ref)
			if err := tt.damage(t, s); err != nil {
				t.Fatal(err)
			}
			s.Close()
			s = openStore(t, s.Dir(), Options{})
			if found := len(s.Problems()) > 0; found != tt.atOpen {
				t.Errorf("at open: %v", s.Problems())
			}
			lease, err := s.Acquire(ref)
			if (err == nil) != tt.acquire {
				t.Errorf("acquire: %v", err)
			}
			if err == nil {
				lease.Release()
			}
			problems, err := s.Verify(t.Context())
			if err != nil || !tt.atOpen && tt.acquire && len(problems) == 0 {
				t.Errorf("verify: %v %v", problems, err)
			}
			mustPull(t, s, ref)
			if problems, err := s.Verify(t.Context()); err != nil || len(problems) != 0 {
				t.Errorf("after the pull: %v %v", problems, err)
			}
			lease, err = s.Acquire(ref)
			if err != nil {
				t.Fatal(err)
			}
			lease.Release()
		})
	}
}

func TestRepairUnpacksFromBlobs(t *testing.T) {
	registry := newRegistry(t)
	s := newStore(t, Options{})
	got := mustPull(t, s, registry.push(t, small(t, "1"), "fn/a:1"))
	if err := os.RemoveAll(s.path(layersDir, algorithm)); err != nil {
		t.Fatal(err)
	}
	before := registry.total()
	if left, err := s.Repair(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("repair: %v %v", left, err)
	}
	lease, err := s.Acquire(got.ID.String())
	if err != nil || registry.total() != before {
		t.Fatalf("%v, %d fetched", err, registry.total()-before)
	}
	lease.Release()
}

func TestImageThatWasRemovedWhileLeasedDoesNotOutliveACrash(t *testing.T) {
	registry := newRegistry(t)
	ref := registry.push(t, small(t, "1"), "fn/a:1")
	for name, comesBack := range map[string]bool{"removed": false, "pulled again": true} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, Options{})
			got := mustPull(t, s, ref)
			if _, err := s.Acquire(ref); err != nil {
				t.Fatal(err)
			}
			if err := s.Remove(ref); err != nil {
				t.Fatal(err)
			}
			if comesBack {
				mustPull(t, s, ref)
			}
			if err := s.Close(); err != nil { // leases do not outlive it, as in a crash
				t.Fatal(err)
			}
			s = openStore(t, s.Dir(), Options{})
			if len(s.Problems()) != 0 {
				t.Errorf("problems: %v", s.Problems())
			}
			if _, err := s.Get(got.Target.String()); (err == nil) != comesBack {
				t.Errorf("got %v", err)
			}
			if paths, err := s.content(t.Context()); err != nil || (len(paths) > 0) != comesBack {
				t.Errorf("on disk: %v %v", paths, err)
			}
			checkTmp(t, s)
		})
	}
}

// A pull takes blobs that are there, by their size.
func TestRepairLetsAPullFetchWhatIsDamaged(t *testing.T) {
	registry := newRegistry(t)
	ref := registry.push(t, small(t, "1"), "fn/a:1")
	s := newStore(t, Options{})
	got := mustPull(t, s, ref)
	r := s.images[got.Target]
	for _, digest := range []v1.Hash{r.Config, r.Layers[0].Blob} {
		info, err := os.Stat(s.blobPath(digest))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.blobPath(digest), make([]byte, info.Size()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(s.layerPath(r.Layers[0].DiffID)); err != nil {
		t.Fatal(err)
	}
	if err := s.RepairImage(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Acquire(ref); !errors.Is(err, ErrDamaged) {
		t.Errorf("without the pull: %v", err)
	}
	mustPull(t, s, ref)
	lease, err := s.Acquire(ref)
	if err != nil {
		t.Fatal(err)
	}
	lease.Release()
	if err := s.RepairImage(t.Context(), "fn/absent:1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
}

func TestRemove(t *testing.T) {
	registry := newRegistry(t)
	s := newStore(t, Options{})
	shared := layerOf(t, pack(t, regular("shared", "x")))
	one := registry.push(t, imageOf(t, shared, layerOf(t, pack(t, regular("one", "1")))), "fn/one:1")
	two := registry.push(t, imageOf(t, shared, layerOf(t, pack(t, regular("two", "2")))), "fn/two:1")
	mustPull(t, s, one)
	mustPull(t, s, two)
	if err := s.Tag(one, "other/name:1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(one); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(one); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed name: %v", err)
	}
	lease, err := s.Acquire("other/name:1")
	if err != nil {
		t.Fatalf("other name: %v", err)
	}
	if err := s.Remove("other/name:1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("other/name:1"); !errors.Is(err, ErrNotFound) || len(s.List()) != 1 {
		t.Errorf("removed while leased: %v %v", err, s.List())
	}
	if got := contents(t, lease, "one"); got != "1" {
		t.Error(got)
	}
	lease.Release()
	lease.Release() // may be repeated
	if _, err := os.Stat(lease.Layers[0]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the last lease: %v", err)
	}
	if _, err := os.Stat(lease.Layers[1]); err != nil {
		t.Errorf("shared layer: %v", err)
	}
	if problems, err := s.Verify(t.Context()); err != nil || len(problems) != 0 {
		t.Errorf("the other image: %v %v", problems, err)
	}
	if err := s.Remove(two); err != nil {
		t.Fatal(err)
	}
	if paths, err := s.content(t.Context()); err != nil || len(paths) != 0 {
		t.Errorf("left: %v %v", paths, err)
	}
	checkTmp(t, s)
}

func TestCollect(t *testing.T) {
	registry := newRegistry(t)
	s := newStore(t, Options{})
	refs := map[string]string{}
	for _, name := range []string{"old", "kept", "leased", "new"} {
		refs[name] = registry.push(t, small(t, name), "fn/"+name+":1")
		mustPull(t, s, refs[name])
		time.Sleep(2 * time.Millisecond)
	}
	lease, err := s.Acquire(refs["leased"])
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Collect(t.Context(), CollectOptions{MaxBytes: 1 << 40, Keep: []string{refs["kept"]}})
	if err != nil || len(got.Images) != 0 || got.Left == 0 {
		t.Fatalf("enough room: %+v %v", got, err)
	}
	got, err = s.Collect(t.Context(), CollectOptions{MaxBytes: got.Left - 1, Keep: []string{refs["kept"]}})
	if err != nil || len(got.Images) != 1 || got.Images[0].Names[0] != refs["old"] && got.Images[0].Names[1] != refs["old"] {
		t.Fatalf("a little too much: %+v %v", got, err)
	}
	got, err = s.Collect(t.Context(), CollectOptions{MaxBytes: 0, Keep: []string{refs["kept"]}})
	if err != nil || len(got.Images) != 1 || got.Left == 0 {
		t.Fatalf("no room: %+v %v", got, err)
	}
	for name, there := range map[string]bool{"old": false, "new": false, "kept": true, "leased": true} {
		if _, err := s.Get(refs[name]); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
	lease.Release()
	got, err = s.Collect(t.Context(), CollectOptions{MaxBytes: 0})
	if err != nil || len(got.Images) != 2 || got.Left != 0 {
		t.Fatalf("all: %+v %v", got, err)
	}
	checkTmp(t, s)
}

func TestOrphansAreCollectedLater(t *testing.T) {
	s := newStore(t, Options{OrphanAge: 50 * time.Millisecond})
	digest, err := s.putBlob([]byte("nobody's"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Collect(t.Context(), CollectOptions{MaxBytes: 0}); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.HasBlob(digest); !ok {
		t.Fatal("a blob whose manifest may come is gone")
	}
	unpin := s.pin(digest)
	time.Sleep(60 * time.Millisecond)
	if _, err := s.Collect(t.Context(), CollectOptions{MaxBytes: 0}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.blobPath(digest)); err != nil {
		t.Fatalf("a blob that work needs is gone: %v", err)
	}
	unpin()
	if got, err := s.Collect(t.Context(), CollectOptions{MaxBytes: 0}); err != nil || got.Freed != int64(len("nobody's")) {
		t.Errorf("got %+v %v", got, err)
	}
	if _, ok := s.HasBlob(digest); ok {
		t.Error("it is still there")
	}
}

func TestQuarantineIsEmptiedLater(t *testing.T) {
	s := newStore(t, Options{})
	old := fmt.Sprint(time.Now().Add(-8 * 24 * time.Hour).UnixNano())
	for _, name := range []string{old + "-blob", fmt.Sprint(time.Now().UnixNano()) + "-blob", "by-hand"} {
		if err := os.WriteFile(s.path(quarantineDir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Collect(t.Context(), CollectOptions{MaxBytes: 0}); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(s.path(quarantineDir)); err != nil || len(left) != 2 {
		t.Errorf("left: %v %v", left, err)
	}
}

func TestNormalize(t *testing.T) {
	digest := DigestOf(nil).String()
	for name, want := range map[string]string{
		"busybox":                     "docker.io/library/busybox:latest",
		"fn/hello:0.0.1":              "docker.io/fn/hello:0.0.1",
		"localhost:5000/a":            "localhost:5000/a:latest",
		"ghcr.io/a/b:1@" + digest:     "ghcr.io/a/b@" + digest,
		"index.docker.io/library/a:1": "docker.io/library/a:1",
	} {
		if got, err := Normalize(name); got != want {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	for _, name := range []string{"", "UPPER", "a b", "a@sha256:1", "a@sha512:" + strings.Repeat("0", 128), "../a", digest} {
		if got, err := Normalize(name); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %q %v", name, got, err)
		}
	}
	for name, want := range map[string][2]string{
		"localhost:5000/a:1": {"localhost:5000/a", "1"}, "localhost:5000/a": {"localhost:5000/a", ""}, "a@" + digest: {"a", digest},
	} {
		if repository, reference := splitName(name); [2]string{repository, reference} != want {
			t.Errorf("%s: %q %q", name, repository, reference)
		}
	}
}

func TestDigestsAreFileNames(t *testing.T) {
	for _, digest := range []v1.Hash{{}, {Algorithm: "sha256", Hex: "../../etc"}, {Algorithm: "..", Hex: DigestOf(nil).Hex}, {Algorithm: "sha512", Hex: strings.Repeat("0", 128)}} {
		if err := checkDigest(digest); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v: %v", digest, err)
		}
	}
}
