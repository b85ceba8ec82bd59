//go:build linux

package native

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/internal/durable"
)

// instanceFile has the name of the process that has the directory, or had it last.
// The store of images is locked for as long as a process lives, so that the one
// before is dead when there is a next one.
const instanceFile = "instance"

// sweepTimeout bounds the removal of what an earlier process left.
const sweepTimeout = 10 * time.Second

// sweep removes what the last process of this directory left, and leaves its own
// name for the next.
func (d *Driver) sweep() error {
	path := filepath.Join(d.opts.Dir, instanceFile)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if last := strings.TrimSpace(string(text)); last != "" {
		ctx, cancel := context.WithTimeout(d.background, sweepTimeout)
		defer cancel()
		alive := func(instance string) bool { return instance != last }
		_, networkErr := d.networks.Sweep(ctx, alive)
		if err := errors.Join(d.groups.Sweep(ctx, alive), networkErr); err != nil {
			d.log.Warn("cannot remove all that an earlier run left", slog.String("instance", last), slog.Any("error", err))
		}
		for _, dir := range leftovers(d.opts.Dir) {
			// Who was killed at that moment has left the mount as well.
			if err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
				d.log.Warn("cannot unmount what an earlier run left", slog.String("directory", dir), slog.Any("error", err))
			}
			if err := os.Remove(dir); err != nil {
				d.log.Warn("cannot remove what an earlier run left", slog.Any("error", err))
			}
		}
	}
	return durable.Replace(path, []byte(d.instance+"\n"), 0o600)
}

// leftovers are directories that a writable root file system was mounted at for a
// moment.
func leftovers(dir string) []string {
	found, _ := filepath.Glob(filepath.Join(dir, writablePrefix+"*")) // the pattern is right
	return found
}
