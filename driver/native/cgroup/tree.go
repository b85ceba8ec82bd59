//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/internal/cgroupfs"
)

// Mode says which versions of control groups are used, and for what.
type Mode int

// The modes, as the machine has its control groups mounted.
const (
	// V1 has a hierarchy for each controller: memory, cpu, cpuacct, pids,
	// devices and freezer, some of them perhaps together.
	V1 Mode = iota + 1
	// Hybrid has memory, cpu and pids in hierarchies of version 1, and the
	// rest in that of version 2, which needs no controllers for it: freezing,
	// ending, processor time, devices by eBPF.
	Hybrid
	// V2 has all in one hierarchy.
	V2
)

func (m Mode) String() string { return [...]string{"unknown", "v1", "hybrid", "v2"}[m] }

// limitControllers are those that have limits for each sandbox.
var limitControllers = []string{"memory", "cpu", "pids"}

// unifiedMount is where the hierarchy of version 2 is mounted if it is alone,
// by systemd's convention that all distributions follow.
const unifiedMount = "/sys/fs/cgroup"

// tree is where the hierarchies are mounted.
type tree struct {
	mode Mode
	core string            // of the hierarchy that processes are frozen and ended by
	v1   map[string]string // controller to mount point; those of one hierarchy have the same
}

// findTree looks at what is mounted. If version 2 is there beside version 1,
// it is left out if so asked.
func findTree(withoutHybrid bool) (tree, error) {
	if cgroups.IsCgroup2UnifiedMode() {
		return tree{mode: V2, core: unifiedMount}, nil
	}
	t := tree{mode: V1, v1: map[string]string{}}
	needed := append(slices.Clone(limitControllers), "devices", "freezer", "cpuacct")
	if !withoutHybrid && cgroups.IsCgroup2HybridMode() {
		t.mode = Hybrid
		needed = limitControllers
	}
	var missing []string
	for _, controller := range needed {
		point, err := cgroups.FindCgroupMountpoint("", controller)
		if err != nil {
			missing = append(missing, controller)
			continue
		}
		t.v1[controller] = point
	}
	if len(missing) > 0 {
		return tree{}, fmt.Errorf("the controllers %s of control groups are not mounted: mount version 2 (cgroup2) at %s, or version 1 with them below it",
			strings.Join(missing, ", "), unifiedMount)
	}
	t.core = t.v1["freezer"]
	if t.mode == Hybrid {
		point, err := cgroups.FindCgroupMountpoint("", "")
		if err != nil {
			return tree{}, fmt.Errorf("find where control groups of version 2 are mounted: %w", err)
		}
		t.core = point
	}
	return t, nil
}

// version is that of the core hierarchy.
func (t tree) version() cgroupfs.Version {
	if t.mode == V1 {
		return cgroupfs.V1
	}
	return cgroupfs.V2
}

// hierarchies are the mount points, the core's first.
func (t tree) hierarchies() []string {
	points := []string{t.core}
	for _, controller := range []string{"memory", "cpu", "cpuacct", "pids", "devices"} {
		if point, ok := t.v1[controller]; ok && !slices.Contains(points, point) {
			points = append(points, point)
		}
	}
	return points
}

// mount is where the controller's files are.
func (t tree) mount(controller string) string {
	if point, ok := t.v1[controller]; ok {
		return point
	}
	return t.core
}

// hasOnlyDevices reports whether a hierarchy is there for nothing but the
// access to devices, which is the same for all sandboxes of an instance, so that
// they share a group in it.
func (t tree) hasOnlyDevices(point string) bool {
	for controller, at := range t.v1 {
		if at == point && controller != "devices" {
			return false
		}
	}
	return point != t.core
}

// make makes a group, and those above it that are missing, in all hierarchies.
func (t tree) make(group string) error {
	for _, point := range t.hierarchies() {
		if err := os.MkdirAll(filepath.Join(point, group), 0o755); err != nil {
			return refused(err)
		}
	}
	if t.mode != V2 {
		return nil
	}
	return delegate(t.core, group)
}

// delegate makes the controllers of version 2 available below a group, which
// takes an order to each group from the root to it.
func delegate(root, group string) error {
	dir := root
	for element := range strings.SplitSeq("/"+group, "/") {
		dir = filepath.Join(dir, element)
		present, err := words(filepath.Join(dir, "cgroup.controllers"))
		if err != nil {
			return refused(err)
		}
		enabled, err := words(filepath.Join(dir, "cgroup.subtree_control"))
		if err != nil {
			return refused(err)
		}
		var missing, orders []string
		for _, controller := range limitControllers {
			switch {
			case !slices.Contains(present, controller):
				missing = append(missing, controller)
			case !slices.Contains(enabled, controller):
				orders = append(orders, "+"+controller)
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("the control group %s lacks the controllers %s: delegate them to it (systemd: Delegate=yes for the service that contains this server), or see that none of them is mounted as version 1 or disabled by cgroup_disable= on the kernel's command line",
				dir, strings.Join(missing, ", "))
		}
		if len(orders) == 0 {
			continue
		}
		err = write(dir, "cgroup.subtree_control", strings.Join(orders, " "))
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("control group %s has processes itself, so that groups below it cannot have limits: move them to a group below it first (in a container: the init process and this server, to /sys/fs/cgroup/init): %w", dir, err)
		}
		if err != nil {
			return refused(err)
		}
	}
	return nil
}

// refused explains why a group cannot be made or changed.
func refused(err error) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("control groups are mounted read-only: if this is a container, run it privileged or mount %s writable: %w", unifiedMount, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no right to make control groups: run as root, or give this user a delegated group as parent: %w", err)
	}
	return err
}

func words(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	return strings.Fields(string(text)), err
}
