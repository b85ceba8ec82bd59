package capacity

import (
	"io/fs"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Linux has two generations of control groups, and systems in transition have
// both at once: version 1 has a tree for each controller, version 2 one tree
// for all. A limit holds for a group and everything below it, so the groups
// from the server's own up to the root of each visible tree are all asked, and
// files that do not exist impose nothing.

// group is one directory of a control group tree, relative to the root.
type group struct {
	dir     string
	unified bool // version 2
}

// mount is a visible control group tree.
type mount struct {
	point       string   // where it is mounted
	root        string   // the group that is seen there
	unified     bool     // version 2
	controllers []string // of version 1
}

// usualMounts are tried where the mount table cannot be read.
var usualMounts = []mount{
	{point: "/sys/fs/cgroup", root: "/", unified: true},
	{point: "/sys/fs/cgroup/memory", root: "/", controllers: []string{"memory"}},
	{point: "/sys/fs/cgroup/cpu", root: "/", controllers: []string{"cpu"}},
}

// ownGroups returns the server's own control groups and those above them.
func ownGroups(fsys fs.FS) []group {
	own, err := fs.ReadFile(fsys, "proc/self/cgroup")
	if err != nil {
		return nil // not Linux, or no control groups
	}
	mounts := usualMounts
	if table, err := fs.ReadFile(fsys, "proc/self/mountinfo"); err == nil {
		mounts = cgroupMounts(string(table))
	}
	var groups []group
	for line := range strings.Lines(string(own)) {
		// hierarchy-ID:controllers:path, where version 2 has no controllers.
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 {
			continue
		}
		unified, controllers := fields[1] == "", strings.Split(fields[1], ",")
		for _, m := range mounts {
			if m.unified != unified || !unified && !m.hasAny(controllers) {
				continue
			}
			for _, dir := range m.upwards(fields[2]) {
				groups = append(groups, group{dir, unified})
			}
		}
	}
	return groups
}

func (m mount) hasAny(controllers []string) bool {
	return slices.ContainsFunc(controllers, func(c string) bool { return slices.Contains(m.controllers, c) })
}

// upwards lists the directory of a process's group and all above it, as far as
// the mount shows them.
func (m mount) upwards(own string) []string {
	below, inside := strings.CutPrefix(own, strings.TrimSuffix(m.root, "/"))
	if !inside || below != "" && below[0] != '/' || strings.HasPrefix(own, "/..") {
		// The group's name is that of another namespace. What a container sees
		// at the mount point is usually its own group.
		below = ""
	}
	var dirs []string
	for {
		dirs = append(dirs, strings.TrimPrefix(path.Join(m.point, below), "/"))
		if below = path.Dir("/" + strings.Trim(below, "/")); below == "/" {
			break
		}
	}
	if top := strings.TrimPrefix(m.point, "/"); !slices.Contains(dirs, top) {
		dirs = append(dirs, top)
	}
	return dirs
}

// cgroupMounts finds the control group trees in the text of a mount table,
// /proc/self/mountinfo:
//
//	35 31 0:32 /root /mount/point rw,relatime - cgroup source rw,memory
func cgroupMounts(table string) []mount {
	var mounts []mount
	for line := range strings.Lines(table) {
		before, after, ok := strings.Cut(line, " - ")
		fields, system := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(system) < 1 {
			continue
		}
		m := mount{root: unescape(fields[3]), point: unescape(fields[4])}
		switch system[0] {
		case "cgroup2":
			m.unified = true
		case "cgroup":
			m.controllers = strings.Split(system[len(system)-1], ",")
		default:
			continue
		}
		mounts = append(mounts, m)
	}
	return mounts
}

// unescape decodes the octal numbers that the mount table has for white space
// and backslashes.
func unescape(name string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(name)
}

// lowestMemoryLimit returns the lowest limit of the groups in bytes and the
// file that says so.
func lowestMemoryLimit(fsys fs.FS, groups []group) (limit int64, file string) {
	limit = math.MaxInt64
	for _, g := range groups {
		name := g.dir + "/memory.limit_in_bytes"
		if g.unified {
			name = g.dir + "/memory.max"
		}
		// "max" of version 2 is no number; version 1 has one near the largest.
		if n, ok := readNumbers(fsys, name, 1); ok && n[0] >= 0 && n[0] < limit {
			limit, file = n[0], "/"+name
		}
	}
	return limit, file
}

// lowestCPUQuota returns the lowest quota of the groups in thousandths of a
// processor and the file that says so.
func lowestCPUQuota(fsys fs.FS, groups []group) (milliCPU int64, file string) {
	milliCPU = math.MaxInt64
	for _, g := range groups {
		name := g.dir + "/cpu.max" // "<quota> <period>" in microseconds
		quota, ok := readNumbers(fsys, name, 2)
		if !g.unified {
			name = g.dir + "/cpu.cfs_quota_us"
			quota, ok = readNumbers(fsys, name, 1)
			period, okPeriod := readNumbers(fsys, g.dir+"/cpu.cfs_period_us", 1)
			quota, ok = append(quota, period...), ok && okPeriod
		}
		// A quota of -1 is none.
		if !ok || quota[0] <= 0 || quota[1] <= 0 || quota[0] > math.MaxInt64/1000 {
			continue
		}
		if milli := max(1, quota[0]*1000/quota[1]); milli < milliCPU {
			milliCPU, file = milli, "/"+name
		}
	}
	return milliCPU, file
}

// readNumbers reads a file of exactly n numbers.
func readNumbers(fsys fs.FS, name string, n int) ([]int64, bool) {
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, false
	}
	var numbers []int64
	for _, field := range strings.Fields(string(text)) {
		number, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return nil, false
		}
		numbers = append(numbers, number)
	}
	return numbers, len(numbers) == n
}
