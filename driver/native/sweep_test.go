//go:build linux

package native_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/driver/native"
)

// A server that was killed while it mounted a writable root file system leaves the
// directory, with or without the mount.
func TestMountsOfAnEarlierRunAreRemoved(t *testing.T) {
	dir := t.TempDir()
	here := func(o *native.Options) { o.Dir = dir }
	closeNow(t, openEmpty(t, here))
	mounted, empty := filepath.Join(dir, "writable-1"), filepath.Join(dir, "writable-2")
	if err := errors.Join(os.Mkdir(mounted, 0o700), os.Mkdir(empty, 0o700), unix.Mount("tmpfs", mounted, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mounted, unix.MNT_DETACH) }) // if it is there
	closeNow(t, openEmpty(t, here))
	for _, left := range []string{mounted, empty} {
		if _, err := os.Lstat(left); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", left, err)
		}
	}
}
