package sandboxinit

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroupDir is where programs look for their limits.
const cgroupDir = "/sys/fs/cgroup"

// shownControllers are those of version 1 that programs look for, to know how much
// memory and how many processors they have.
var shownControllers = []string{"memory", "cpu", "cpuacct", "pids"}

// showCgroups lets the function see its own control group, and nothing above, to
// read. It needs /proc and /sys.
func showCgroups() error {
	// The namespace that the clone made has the group for its root in which the
	// sandbox was born, not the one that it is in now.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return step("hide the control groups above its own", err)
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return step("find its control groups", err)
	}
	const attributes = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_RDONLY
	hierarchies := shownHierarchies(string(text))
	if len(hierarchies) == 0 {
		unified, err := detach("cgroup2", attributes)
		if err != nil {
			return step("show its control group", err)
		}
		return step("show its control group", attachInside(unified, cgroupDir))
	}
	parent, err := detach("tmpfs", attributes&^unix.MOUNT_ATTR_RDONLY, "mode", "0755", "size", "16384")
	if err != nil {
		return step("show its control groups", err)
	}
	if err := attachInside(parent, cgroupDir); err != nil {
		return step("show its control groups", err)
	}
	for _, controllers := range hierarchies {
		if err := showHierarchy(controllers, attributes); err != nil {
			return step("show its control group of "+strings.Join(controllers, ","), err)
		}
	}
	return step("protect its control groups", unix.Mount("", cgroupDir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""))
}

// showHierarchy mounts a hierarchy of version 1 at its usual place, with a link for
// each of its controllers.
func showHierarchy(controllers []string, attributes int) error {
	fs, err := unix.Fsopen("cgroup", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fs) }() // only a descriptor
	for _, controller := range controllers {
		if err := unix.FsconfigSetFlag(fs, controller); err != nil {
			return err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return err
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return err
	}
	name := strings.Join(controllers, ",")
	dir := filepath.Join(cgroupDir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if len(controllers) > 1 {
		for _, controller := range controllers {
			if err := os.Symlink(name, filepath.Join(cgroupDir, controller)); err != nil {
				return err
			}
		}
	}
	return attachInside(mount, dir)
}

// shownHierarchies picks the hierarchies of version 1 that are to be shown out of a
// /proc/self/cgroup, format of cgroups(7). There are none with version 2 alone.
func shownHierarchies(text string) (hierarchies [][]string) {
	for line := range strings.Lines(text) {
		fields := strings.SplitN(line, ":", 3)
		if len(fields) < 3 || fields[1] == "" {
			continue
		}
		controllers := strings.Split(fields[1], ",")
		if slices.ContainsFunc(controllers, func(c string) bool { return slices.Contains(shownControllers, c) }) {
			hierarchies = append(hierarchies, controllers)
		}
	}
	return hierarchies
}
