package cgroupfs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tree writes the files of a group below a new directory, as they look while
// its processes run.
func tree(t *testing.T, dir string) (root string) {
	t.Helper()
	root = t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"cgroup.freeze": "0\n", "cgroup.events": "populated 1\nfrozen 0\n"}
	if strings.HasPrefix(dir, "freezer/") {
		files = map[string]string{"freezer.state": "THAWED\n"}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(root, dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func read(t *testing.T, root, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(text), "\n")
}

func TestOrdersOfBothVersions(t *testing.T) {
	tests := map[string]struct {
		version              Version
		dir, file            string
		frozen, thawed       string // of file
		status, statusFrozen string
	}{
		"v1": {V1, "freezer/group", "freezer.state", "FROZEN", "THAWED", "freezer.state", "FROZEN\n"},
		"v2": {V2, "unified/group", "cgroup.freeze", "1", "0", "cgroup.events", "populated 1\nfrozen 1\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := tree(t, tt.dir)
			group := NewFreezer(tt.version, filepath.Join(root, tt.dir))
			if frozen, err := group.Frozen(); err != nil || frozen {
				t.Errorf("at first: frozen %t, %v", frozen, err)
			}
			if err := group.Freeze(); err != nil {
				t.Error(err)
			}
			if got := read(t, root, filepath.Join(tt.dir, tt.file)); got != tt.frozen {
				t.Errorf("freeze wrote %q", got)
			}
			if err := os.WriteFile(filepath.Join(root, tt.dir, tt.status), []byte(tt.statusFrozen), 0o600); err != nil {
				t.Fatal(err)
			}
			if frozen, err := group.Frozen(); err != nil || !frozen {
				t.Errorf("after freeze: frozen %t, %v", frozen, err)
			}
			if err := group.Thaw(); err != nil {
				t.Error(err)
			}
			if got := read(t, root, filepath.Join(tt.dir, tt.file)); got != tt.thawed {
				t.Errorf("thaw wrote %q", got)
			}
		})
	}
}

// A process that waits in the kernel stops late, so the wait for it is short
// and the freeze counts all the same.
func TestFreezeDoesNotWaitForProcessesThatStopLate(t *testing.T) {
	dir := "unified/group"
	root := tree(t, dir)
	began := time.Now()
	if err := NewFreezer(V2, filepath.Join(root, dir)).Freeze(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("took %v", took)
	}
	if got := read(t, root, dir+"/cgroup.freeze"); got != "1" {
		t.Errorf("the order is %q", got)
	}
}

func TestRemovedControlGroupMeansThatTheProcessEnded(t *testing.T) {
	for _, version := range []Version{V1, V2} {
		dir := t.TempDir()
		group := NewFreezer(version, dir)
		if err := group.Freeze(); !errors.Is(err, ErrEnded) {
			t.Errorf("v%d: freeze: %v", version, err)
		}
		if err := group.Thaw(); !errors.Is(err, ErrEnded) {
			t.Errorf("v%d: thaw: %v", version, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("v%d: made %v, %v", version, left, err)
		}
	}
}

func TestFreezeWaitWaits(t *testing.T) {
	dir := "unified/group"
	root := tree(t, dir)
	freezer := NewFreezer(V2, filepath.Join(root, dir))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := freezer.FreezeWait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while a process runs: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- freezer.FreezeWait(t.Context()) }()
	time.Sleep(10 * time.Millisecond)
	if err := os.WriteFile(filepath.Join(root, dir, "cgroup.events"), []byte("populated 1\nfrozen 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
