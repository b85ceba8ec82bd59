package docker

import (
	"path/filepath"

	"github.com/tinefn/tine/internal/cgroupfs"
)

// FreezeByEngine makes a driver find no control groups.
func FreezeByEngine(d *Driver, emptyDir string) { d.cgroups.root = filepath.Join(emptyDir, "none") }

// FreezeByVersion makes a driver, which must not have frozen yet, see the
// control groups of one version only. It reports whether there are any.
func FreezeByVersion(d *Driver, version int) bool {
	d.cgroups.once.Do(d.cgroups.load)
	var kept []cgroupMount
	for _, mount := range d.cgroups.mounts {
		if mount.version == cgroupfs.Version(version) {
			kept = append(kept, mount)
		}
	}
	d.cgroups.mounts = kept
	return len(kept) > 0
}

// Crash does to a driver's record what the end of its process does.
func Crash(d *Driver) error { return d.own.release() }

// FreezesByCgroup reports whether a container that was frozen once is frozen
// by its control group.
func FreezesByCgroup(c any) bool {
	own, ok := c.(*engineContainer)
	if !ok {
		return false
	}
	f := own.freezer.Load()
	return f != nil && f.group != nil
}

// CleanOnly makes the cleaner of a driver to be made leave all images alone but
// those whose names are meant.
func CleanOnly(opts *Options, meant func(names []string) bool) { opts.cleanOnly = meant }
