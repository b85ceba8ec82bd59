//go:build linux

package native

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/internal/durable"
)

// instanceFile lists the processes that had the directory and may have left something,
// one name a line, and last the one that has it or had it last. The store of images is locked for as
// long as a process lives, so that those before are dead when there is a next one.
const instanceFile = "instance"

// mostEarlier bounds the list. There is more than one process before only if
// something of it cannot be removed, or if it was killed while it started.
const mostEarlier = 256

// sweepTimeout bounds the removal of what earlier processes left.
const sweepTimeout = 10 * time.Second

// enlist puts the own name on the list, before there is anything that bears it.
func (d *Driver) enlist() error {
	text, err := os.ReadFile(filepath.Join(d.opts.Dir, instanceFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d.earlier = strings.Fields(string(text))
	if beyond := len(d.earlier) - mostEarlier; beyond > 0 {
		d.log.Warn("too many earlier runs have left something, that of the first ones stays", slog.Any("instances", d.earlier[:beyond]))
		d.earlier = d.earlier[beyond:]
	}
	d.starting = true
	return d.writeInstances(append(slices.Clone(d.earlier), d.instance))
}

func (d *Driver) writeInstances(names []string) error {
	var list strings.Builder
	for _, name := range names {
		list.WriteString(name + "\n")
	}
	return durable.Replace(filepath.Join(d.opts.Dir, instanceFile), []byte(list.String()), 0o600)
}

// sweep removes what earlier processes of this directory left. Those of which something
// stays are kept on the list for the next start.
func (d *Driver) sweep(ctx context.Context) error {
	d.sweepMounts()
	if len(d.earlier) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	_, networkErr := d.networks.Sweep(ctx, func(instance string) bool { return !slices.Contains(d.earlier, instance) })
	failed := make([]error, len(d.earlier))
	var all sync.WaitGroup // at one time, as one of which a process does not end takes all of it
	for i, name := range d.earlier {
		all.Go(func() { failed[i] = d.groups.Sweep(ctx, func(instance string) bool { return instance != name }) })
	}
	all.Wait()
	var left []string
	for i, name := range d.earlier {
		if err := errors.Join(failed[i], networkErr); err != nil {
			d.log.Warn("cannot remove all that an earlier run left, the next start will try again", slog.String("instance", name), slog.Any("error", err))
			left = append(left, name)
		}
	}
	d.earlier = left
	return d.writeInstances(append(slices.Clone(left), d.instance))
}

// sweepMounts removes the directories of writable root file systems.
func (d *Driver) sweepMounts() {
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

// leftovers are directories that a writable root file system was mounted at for a
// moment.
func leftovers(dir string) []string {
	found, _ := filepath.Glob(filepath.Join(dir, writablePrefix+"*")) // the pattern is right
	return found
}
