package escape

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroups tries to change limits and to see groups of others.
func cgroups(r *Run) {
	const dir = "/sys/fs/cgroup"
	r.try("writing what is shown", func() error {
		seen := 0
		err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return nil
			}
			seen++
			if err := opens(path, unix.O_WRONLY); err == nil {
				return through("%s can be written", path)
			}
			return nil
		})
		if seen == 0 {
			return through("nothing is shown, so this shows nothing")
		}
		if err != nil {
			return err
		}
		return errHidden
	})
	r.try("making a group", func() error {
		controllers, _ := filepath.Glob(dir + "/*")
		for _, path := range append(controllers, dir) {
			group := filepath.Join(path, "escape")
			if os.Mkdir(group, 0o755) == nil { //nolint:gosec // as groups are
				return through("in %s: %v", path, os.Remove(group))
			}
		}
		return errHidden
	})
	for _, controller := range []string{"", "memory", "devices", "pids"} {
		for _, file := range []string{"cgroup.procs", "release_agent", "notify_on_release", "memory.limit_in_bytes", "memory.max", "pids.max", "devices.allow", "cgroup.freeze", "cgroup.kill"} {
			path := filepath.Join(dir, controller, file)
			r.try("writing "+path, func() error {
				if file == "cgroup.procs" {
					return writes(path, "0") // which is the process itself
				}
				return rewrite(path)
			}, absent...)
		}
	}
	r.try("mounting version 1", func() error { return unix.Mount("cgroup", "/tmp", "cgroup", 0, "memory") })
	r.try("mounting version 2", func() error { return unix.Mount("cgroup2", "/tmp", "cgroup2", 0, "") })
	r.try("the names of groups above", func() error {
		content, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(content)) {
			if fields := strings.SplitN(strings.TrimSpace(line), ":", 3); len(fields) == 3 && fields[2] != "/" {
				return through("%s", strings.TrimSpace(line))
			}
		}
		return errHidden
	})
}
