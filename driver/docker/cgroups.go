package docker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tinefn/tine/internal/cgroupfs"
)

// cgroups finds the control groups of containers in the file trees that the
// kernel shows this process. Everything here is a best effort: the engine may
// run elsewhere, this process may be in a container itself or lack rights. A
// group is used only if its path, as this process sees it, carries the
// container's identifier, which no other group has.
type cgroups struct {
	root string // where the file system begins; "" but in tests

	once   sync.Once
	mounts []cgroupMount
	err    error

	last atomic.Pointer[cgroupPlace]
}

// cgroupPlace is where a container's control group is.
type cgroupPlace struct {
	version cgroupfs.Version
	dir, id string
}

// cgroupMount is a place where a hierarchy, or a part of it, can be seen.
type cgroupMount struct {
	version cgroupfs.Version
	root    string // the group that is shown at point
	point   string
}

// find returns the group of the container id whose first process is pid.
func (c *cgroups) find(pid int, id string) (*cgroupfs.Freezer, error) {
	c.once.Do(c.load)
	if c.err != nil {
		return nil, c.err
	}
	text, err := os.ReadFile(filepath.Join(c.root, "/proc", strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return nil, err
	}
	memberships := parseMemberships(string(text))
	failed := []error{fmt.Errorf("process %d is in no control group of container %s that can be reached", pid, id)}
	for _, version := range []cgroupfs.Version{cgroupfs.V1, cgroupfs.V2} { // on a machine with both, engines use the first to freeze
		group, ok := groupOf(memberships[version], id)
		if !ok {
			continue
		}
		for _, mount := range c.mounts {
			below, ok := mount.see(group)
			if mount.version != version || !ok {
				continue
			}
			dir := filepath.Join(c.root, mount.point, below)
			found := cgroupfs.NewFreezer(version, dir)
			if err := found.Writable(); err != nil {
				failed = append(failed, err)
				continue
			}
			c.last.Store(&cgroupPlace{version, dir, id})
			return found, nil
		}
	}
	return nil, errors.Join(failed...)
}

// beside returns the group of the container id if it is where the last one
// that was found is, and nil if not. An engine keeps its groups together, so
// it need not be asked for the first process of each container.
func (c *cgroups) beside(id string) *cgroupfs.Freezer {
	last := c.last.Load()
	if last == nil || id == "" {
		return nil
	}
	name := strings.Replace(filepath.Base(last.dir), last.id, id, 1)
	found := cgroupfs.NewFreezer(last.version, filepath.Join(filepath.Dir(last.dir), name))
	if found.Writable() != nil {
		return nil
	}
	return found
}

// load reads the mount points. They do not change while a server runs, or it
// has to be restarted.
func (c *cgroups) load() {
	text, err := os.ReadFile(filepath.Join(c.root, "/proc/self/mountinfo"))
	if err != nil {
		c.err = err
		return
	}
	c.mounts = parseMounts(string(text))
}

// see returns the path of a group below the mount point.
func (m cgroupMount) see(group string) (below string, ok bool) {
	if m.root == "/" {
		return group, true
	}
	below, ok = strings.CutPrefix(group, m.root)
	return below, ok && strings.HasPrefix(below, "/")
}

// parseMounts picks the hierarchies that can freeze out of a mountinfo. The
// format is that of proc_pid_mountinfo(5): the fields before " - " end with
// optional ones, behind it are the type, the source and the super options.
func parseMounts(text string) []cgroupMount {
	var mounts []cgroupMount
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(kind) < 3 {
			continue
		}
		mount := cgroupMount{root: unescape(fields[3]), point: unescape(fields[4])}
		switch {
		case kind[0] == "cgroup2":
			mount.version = cgroupfs.V2
		case kind[0] == "cgroup" && slices.Contains(strings.Split(kind[2], ","), "freezer"):
			mount.version = cgroupfs.V1
		default:
			continue
		}
		if plain(mount.root) && plain(mount.point) {
			mounts = append(mounts, mount)
		}
	}
	return mounts
}

// parseMemberships reads a /proc/<pid>/cgroup, format of cgroups(7): lines of
// hierarchy number, controllers and path; version 2 has number 0 and no
// controllers.
func parseMemberships(text string) map[cgroupfs.Version]string {
	groups := map[cgroupfs.Version]string{}
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) < 3 {
			continue
		}
		switch {
		case fields[0] == "0" && fields[1] == "":
			groups[cgroupfs.V2] = fields[2]
		case slices.Contains(strings.Split(fields[1], ","), "freezer"):
			groups[cgroupfs.V1] = fields[2]
		}
	}
	return groups
}

// groupOf returns the container's own group, of which path is that of one of
// its processes: a program may sort its processes into groups below. Engines
// name a container's group by the identifier, <id>, or with systemd
// <engine>-<id>.scope.
func groupOf(path, id string) (group string, ok bool) {
	if id == "" || !plain(path) {
		return "", false
	}
	end := 0
	for element := range strings.SplitSeq(path[1:], "/") {
		end += len("/") + len(element)
		name, isScope := strings.CutSuffix(element, ".scope")
		if isScope {
			name = name[strings.LastIndexByte(name, '-')+1:]
		}
		if name == id {
			return path[:end], true
		}
	}
	return "", false
}

// plain reports whether a path is absolute and stays where it seems to be.
// The kernel shows a group outside this process's cgroup namespace as
// /../other, which means nothing below a mount point.
func plain(path string) bool { return filepath.IsAbs(path) && filepath.Clean(path) == path }

// unescape undoes the kernel's octal escapes of blanks in mountinfo.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace
