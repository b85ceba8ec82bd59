package sockdir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// watches counts this process's inotify instances, of which the kernel allows a
// user 128 by default.
func watches(t *testing.T) int {
	t.Helper()
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, entry := range entries {
		// What was open a moment ago, for the reading itself, has no target.
		if target, err := os.Readlink(filepath.Join(dir, entry.Name())); err == nil && strings.Contains(target, "inotify") {
			count++
		}
	}
	return count
}

func TestDirectoriesTakeNoInotifyInstanceEach(t *testing.T) {
	m := newManager(t, t.TempDir())
	before := watches(t)
	if before == 0 {
		t.Fatal("none is found, so this shows nothing")
	}
	for range 20 {
		newDir(t, m)
	}
	if after := watches(t); after != before {
		t.Errorf("%d instances for 20 directories", after-before)
	}
}
