package imageaccess

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/distribution/reference"

	"github.com/tinefn/tine/internal/durable"
)

// imageIn is an image that is known in repositories.
func imageIn(t testing.TB, id string, repos ...string) *Image {
	t.Helper()
	var digests []string
	for _, name := range repos {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, named.Name()+"@sha256:"+fmt.Sprintf("%064d", 1))
	}
	return NewImage(id, repos, digests)
}

func openRecord(t *testing.T, dir string) *privateRecord {
	t.Helper()
	r, damage, err := openPrivateRecord(dir)
	if err != nil || damage != nil {
		t.Fatal(err, damage)
	}
	return r
}

func TestPrivateImagesAreRemembered(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "er")
	r := openRecord(t, dir)
	if r.holds(imageIn(t, "sha256:1", "r.io/a:1")) {
		t.Error("an empty record")
	}
	for range 2 {
		if err := r.addRepo("r.io/a"); err != nil {
			t.Fatal(err)
		}
		if err := r.addImage("sha256:1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, privateFile+".new"), []byte("half"), 0o600); err != nil { // of a crash
		t.Fatal(err)
	}
	for name, r := range map[string]*privateRecord{"same": r, "read again": openRecord(t, dir)} {
		for what, tt := range map[string]struct {
			image *Image
			want  bool
		}{
			"identifier":    {imageIn(t, "sha256:1"), true},
			"repository":    {imageIn(t, "sha256:2", "r.io/a:2"), true},
			"one of two":    {imageIn(t, "sha256:2", "b:2", "r.io/a:2"), true},
			"others":        {imageIn(t, "sha256:2", "b:2", "r.io/b:1"), false},
			"other domain":  {imageIn(t, "sha256:2", "r.io:5000/a:1"), false},
			"without names": {imageIn(t, "sha256:2"), false},
		} {
			if got := r.holds(tt.image); got != tt.want {
				t.Errorf("%s, %s: %t", name, what, got)
			}
		}
	}
	if err := r.addRepo("r.io/c"); err != nil {
		t.Fatal(err)
	}
	if !openRecord(t, dir).holds(imageIn(t, "sha256:3", "r.io/c:1")) {
		t.Error("what a crash left kept the record from being written")
	}
}

func TestDamagedRecordMakesAllOfRegistriesPrivate(t *testing.T) {
	whole := privateImages{repos: with(nil, "r.io/a"), images: with(with(nil, "sha256:1"), "sha256:2")}.encode()
	for cut := range len(whole) {
		text := whole[:cut]
		if _, err := decodePrivate(text); err == nil {
			t.Errorf("cut after %d bytes: no error", cut)
		}
	}
	changed := bytes.Replace(whole, []byte("r.io/a"), []byte("r.io/b"), 1)
	if _, err := decodePrivate(changed); err == nil {
		t.Error("changed: no error")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, privateFile), changed, 0o600); err != nil {
		t.Fatal(err)
	}
	r, damage, err := openPrivateRecord(dir)
	if err != nil || damage == nil {
		t.Fatal(err, damage)
	}
	if !r.holds(imageIn(t, "sha256:9", "b:1")) || r.holds(imageIn(t, "sha256:9")) {
		t.Error("those of registries, and only those, must be private")
	}
}

func TestUnreadableRecordIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, privateFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := openPrivateRecord(dir); err == nil {
		t.Error("no error")
	}
}

func TestRecordIsBounded(t *testing.T) {
	dir := t.TempDir()
	full := privateImages{repos: map[string]struct{}{}}
	for n := range maxPrivateRepos {
		full.repos[fmt.Sprint("r.io/", n)] = struct{}{}
	}
	if err := durable.Replace(filepath.Join(dir, privateFile), full.encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	r := openRecord(t, dir)
	if err := r.addRepo("r.io/more"); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*privateRecord{"same": r, "read again": openRecord(t, dir)} {
		if known := r.current(); !known.all || len(known.repos) > 0 || !r.holds(imageIn(t, "sha256:1", "other:1")) {
			t.Errorf("%s: %d repositories", name, len(r.current().repos))
		}
	}
	if info, err := os.Stat(filepath.Join(dir, privateFile)); err != nil || info.Size() > 200 {
		t.Errorf("%v, %v", info, err)
	}
}

func FuzzPrivateRecord(f *testing.F) {
	f.Add(privateImages{all: true, repos: with(nil, "r.io/a"), images: with(nil, "sha256:1")}.encode())
	f.Add([]byte(privateTitle))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := decodePrivate(text)
		if err != nil {
			return
		}
		again, err := decodePrivate(p.encode())
		if err != nil || again.all != p.all || len(again.repos) != len(p.repos) || len(again.images) != len(p.images) {
			t.Errorf("%+v became %+v, %v", p, again, err)
		}
	})
}

func TestServersShareTheRecord(t *testing.T) {
	dir := t.TempDir()
	first, second := openRecord(t, dir), openRecord(t, dir)
	var adding sync.WaitGroup
	const each = 20
	for name, r := range map[string]*privateRecord{"a": first, "b": second} {
		adding.Go(func() {
			for i := range each {
				if err := r.addRepo(fmt.Sprintf("r.io/%s%d", name, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	adding.Wait()
	for _, name := range []string{"a", "b"} {
		for i := range each {
			image := imageIn(t, "sha256:1", fmt.Sprintf("r.io/%s%d:1", name, i))
			if !first.holds(image) || !second.holds(image) || !openRecord(t, dir).holds(image) {
				t.Errorf("%s%d was lost", name, i)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "damaged"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "damaged"), filepath.Join(dir, privateFile)); err != nil {
		t.Fatal(err)
	}
	if !first.holds(imageIn(t, "sha256:9", "r.io/other:1")) {
		t.Error("a record that was damaged meanwhile gives images away")
	}
}
