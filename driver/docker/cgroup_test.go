package docker

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestOrdersOfBothVersions(t *testing.T) {
	tests := map[string]struct {
		version              cgroupVersion
		dir, file            string
		frozen, thawed       string // of file
		status, statusFrozen string
	}{
		"v1": {cgroupV1, "sys/fs/cgroup/freezer/docker/" + testID, "freezer.state", "FROZEN", "THAWED", "freezer.state", "FROZEN\n"},
		"v2": {cgroupV2, "sys/fs/cgroup/docker/" + testID, "cgroup.freeze", "1", "0", "cgroup.events", "populated 1\nfrozen 1\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := tree(t, "", "", tt.dir)
			group := newCgroup(tt.version, filepath.Join(root, tt.dir))
			if frozen, err := group.frozen(); err != nil || frozen {
				t.Errorf("at first: frozen %t, %v", frozen, err)
			}
			if err := group.freeze(); err != nil {
				t.Error(err)
			}
			if got := read(t, root, filepath.Join(tt.dir, tt.file)); got != tt.frozen {
				t.Errorf("freeze wrote %q", got)
			}
			if err := os.WriteFile(filepath.Join(root, tt.dir, tt.status), []byte(tt.statusFrozen), 0o600); err != nil {
				t.Fatal(err)
			}
			if frozen, err := group.frozen(); err != nil || !frozen {
				t.Errorf("after freeze: frozen %t, %v", frozen, err)
			}
			if err := group.thaw(); err != nil {
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
	dir := "sys/fs/cgroup/docker/" + testID
	root := tree(t, "", "", dir)
	began := time.Now()
	if err := newCgroup(cgroupV2, filepath.Join(root, dir)).freeze(); err != nil {
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
	for _, version := range []cgroupVersion{cgroupV1, cgroupV2} {
		dir := t.TempDir()
		group := newCgroup(version, dir)
		if err := group.freeze(); !errors.Is(err, errEnded) {
			t.Errorf("v%d: freeze: %v", version, err)
		}
		if err := group.thaw(); !errors.Is(err, errEnded) {
			t.Errorf("v%d: thaw: %v", version, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("v%d: made %v, %v", version, left, err)
		}
	}
}
