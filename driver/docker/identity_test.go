package docker

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// mustIdentity makes an identity that has a file.
func mustIdentity(t *testing.T, dir string) *identity {
	t.Helper()
	made, err := newIdentity(dir)
	if err != nil || made.lock == nil {
		t.Fatalf("%+v, %v", made, err)
	}
	t.Cleanup(func() { _ = made.release() })
	return made
}

// deadIDs returns the identifiers of dead processes, and locks none.
func deadIDs(t *testing.T, dir string) (ids []string) {
	t.Helper()
	dead, err := deadIdentities(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range dead {
		ids = append(ids, i.id)
		if err := i.release(); err != nil {
			t.Error(err)
		}
	}
	return ids
}

func TestIdentityIsDeadWhenItsLockIsGone(t *testing.T) {
	dir := t.TempDir()
	crashed, living := mustIdentity(t, dir), mustIdentity(t, dir)
	if crashed.id == living.id || len(crashed.id) != 2*identityBytes {
		t.Errorf("identifiers %q and %q", crashed.id, living.id)
	}
	if got := deadIDs(t, dir); len(got) != 0 {
		t.Errorf("%q are dead while both live", got)
	}
	if err := crashed.release(); err != nil { // as the kernel does it for a process that ends
		t.Fatal(err)
	}
	for range 2 {
		if got := deadIDs(t, dir); len(got) != 1 || got[0] != crashed.id {
			t.Errorf("%q are dead, want %s", got, crashed.id)
		}
	}
	if err := living.discard(); err != nil {
		t.Fatal(err)
	}
	if got := deadIDs(t, dir); len(got) != 1 {
		t.Errorf("%q are dead, with one that was discarded", got)
	}
}

func TestDeadIdentityIsTakenByOneProcessOnly(t *testing.T) {
	dir := t.TempDir()
	if err := mustIdentity(t, dir).release(); err != nil {
		t.Fatal(err)
	}
	first, err := deadIdentities(dir)
	if err != nil || len(first) != 1 {
		t.Fatalf("%v, %v", first, err)
	}
	if got := deadIDs(t, dir); len(got) != 0 {
		t.Errorf("%q taken twice", got)
	}
	if err := first[0].discard(); err != nil {
		t.Error(err)
	}
	if got := deadIDs(t, dir); len(got) != 0 {
		t.Errorf("%q after it was discarded", got)
	}
}

func TestIdentitiesAreMadeWhileOthersSweep(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				made, err := newIdentity(dir)
				if err != nil {
					t.Error(err)
					return
				}
				dead, err := deadIdentities(dir)
				if err != nil {
					t.Error(err)
				}
				for _, i := range dead {
					if i.id == made.id {
						t.Error("an identity that is in use is taken for dead")
					}
					if err := i.discard(); err != nil {
						t.Error(err)
					}
				}
				if _, err := os.Stat(made.lock.Name()); err != nil {
					t.Errorf("the file of an identity that is in use: %v", err)
				}
				if err := made.release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestCopiedDirectoryHasOtherIdentities(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	original := mustIdentity(t, dir)
	if err := os.CopyFS(other, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if got := deadIDs(t, other); len(got) != 1 || got[0] == original.id {
		t.Errorf("the copy says %q, the original %s", got, original.id)
	}
	if err := original.release(); err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(filepath.Dir(dir), "moved")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if got := deadIDs(t, moved); len(got) != 1 || got[0] != original.id {
		t.Errorf("the same directory elsewhere says %q, want %s", got, original.id)
	}
}

func TestStrangersInTheDirectoryAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	own := filepath.Join(dir, instancesDir)
	for _, name := range []string{"README", strings.Repeat("z", 2*identityBytes), "abcd"} {
		if err := os.MkdirAll(own, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(own, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(own, strings.Repeat("a", 2*identityBytes)), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := deadIDs(t, dir); len(got) != 0 {
		t.Errorf("%q are taken for identities", got)
	}
}

func TestIdentityWithoutADirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := newIdentity(file) // root may write everywhere else
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
	second, err := newIdentity("")
	if err != nil {
		t.Error(err)
	}
	if first.id == second.id || len(first.id) != 2*identityBytes {
		t.Errorf("identifiers %q and %q", first.id, second.id)
	}
	for _, i := range []*identity{first, second} {
		if err := i.discard(); err != nil {
			t.Error(err)
		}
	}
	if dead, err := deadIdentities(filepath.Join(file, "none")); err != nil || dead != nil {
		t.Errorf("got %v, %v", dead, err)
	}
}
