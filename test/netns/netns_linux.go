// Package netns makes network namespaces for tests.
package netns

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/internal/osthread"
)

// New makes a network namespace that exists as long as its file, which the test's end
// closes, or a socket or a process in it. It takes its interfaces with it.
func New(t testing.TB) *os.File {
	t.Helper()
	var (
		file *os.File
		err  error
	)
	osthread.Do(func() {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			file, err = os.Open("/proc/thread-self/ns/net")
		}
	})
	if err != nil {
		t.Fatal("make a network namespace:", err)
	}
	t.Cleanup(func() { _ = file.Close() }) // only a handle
	return file
}
