package escape

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Facts reads targets as JSON and writes what this process sees of its container,
// as a map of texts for people, in JSON. The page about sandboxes shows them, so
// they hold nothing that is different on another machine.
func Facts(r io.Reader, w io.Writer) error {
	var run Run
	if err := json.NewDecoder(r).Decode(&run.Targets); err != nil {
		return fmt.Errorf("read what is to be tried: %w", err)
	}
	status := statusLines()
	mounted := mountPoints()
	facts := map[string]string{
		"user, group, other groups": fmt.Sprintf("%d:%d, %s", os.Getuid(), os.Getgid(), orNone(status["Groups"])),
		"capabilities: effective, permitted, inheritable, bounding, ambient": strings.Join([]string{
			capabilities(status["CapEff"]), capabilities(status["CapPrm"]), capabilities(status["CapInh"]), capabilities(status["CapBnd"]), capabilities(status["CapAmb"]),
		}, ", "),
		"`no_new_privs`":          status["NoNewPrivs"],
		"seccomp":                 map[string]string{"0": "off", "1": "strict", "2": "filter"}[status["Seccomp"]],
		"set-uid programs":        setUID(status["NoNewPrivs"]),
		"root file system":        fileSystem("/", mounted),
		"`/tmp`":                  fileSystem("/tmp", mounted),
		"`/dev/shm`":              fileSystem("/dev/shm", mounted),
		"`/tmp/iofs`, sockets":    flagsOf(socketDir),
		"`/dev`":                  fileSystem("/dev", mounted) + ": " + nodes(),
		"`/proc`: can be read":    readable(),
		"`/proc`: read-only":      protected(mounted),
		"`/sys`":                  fileSystem("/sys", mounted),
		"control groups":          groups(),
		"other mounts":            otherMounts(mounted),
		"processes":               processList(),
		"host name":               hostName(),
		"limits of the process":   processLimits(),
		"memory, memory and swap": memoryLimits(),
		"processor time":          processorTime(),
		"processes and threads":   firstOf("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"),
		"network: interfaces":     interfaceNames(),
		"network: reaches":        run.tried(network),
		"keys":                    run.tried(keyrings),
	}
	return json.NewEncoder(w).Encode(facts)
}

func statusLines() map[string]string {
	content, _ := os.ReadFile("/proc/self/status")
	lines := map[string]string{}
	for line := range strings.Lines(string(content)) {
		name, value, _ := strings.Cut(line, ":")
		lines[name] = strings.TrimSpace(value)
	}
	return lines
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

func capabilities(hex string) string {
	if strings.Trim(hex, "0") == "" {
		return "none"
	}
	return hex
}

func setUID(noNewPrivs string) string {
	said := "give rights"
	if noNewPrivs == "1" {
		said = "give none (`no_new_privs`)"
	}
	var stat unix.Statfs_t
	if unix.Statfs("/", &stat) == nil && stat.Flags&unix.ST_NOSUID != 0 {
		said += ", nor does the file system (`nosuid`)"
	}
	return said
}

// mountPoints are kinds of file systems by where they are.
func mountPoints() map[string]string {
	content, _ := os.ReadFile("/proc/self/mounts")
	points := map[string]string{}
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) >= 3 {
			points[fields[1]] = fields[2]
		}
	}
	return points
}

// fileSystem is a mount's kind, flags and, if it is one in memory, size.
func fileSystem(path string, mounted map[string]string) string {
	kind, ok := mounted[path]
	if !ok {
		return "not there"
	}
	said := kind + ", " + flagsOf(path)
	var stat unix.Statfs_t
	if kind == "tmpfs" && unix.Statfs(path, &stat) == nil {
		size := uint64(stat.Bsize) * stat.Blocks
		switch {
		case size > 1<<30:
			said += ", no size"
		case size >= 1<<20:
			said += fmt.Sprintf(", %d MiB", size>>20)
		default:
			said += fmt.Sprintf(", %d KiB", size>>10)
		}
		if stat.Files > 0 && stat.Files < 10_000 {
			said += fmt.Sprintf(", %d inodes", stat.Files)
		}
	}
	return said
}

func flagsOf(path string) string {
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil {
		return err.Error()
	}
	said := []string{"writable"}
	if stat.Flags&unix.ST_RDONLY != 0 {
		said[0] = "read-only"
	}
	for _, flag := range []struct {
		bit  int64
		name string
	}{{unix.ST_NOSUID, "nosuid"}, {unix.ST_NODEV, "nodev"}, {unix.ST_NOEXEC, "noexec"}} {
		if stat.Flags&flag.bit != 0 {
			said = append(said, flag.name)
		}
	}
	return strings.Join(said, " ")
}

// nodes are the devices that are there and can be opened.
func nodes() string {
	var found []string
	_ = filepath.WalkDir("/dev", func(path string, _ os.DirEntry, err error) error {
		if err == nil && isDevice(path) && filepath.Dir(path) == "/dev" {
			found = append(found, filepath.Base(path))
		}
		return nil
	})
	return strings.Join(found, " ")
}

// aboutMachine are files and directories that tell of the machine.
var aboutMachine = []string{
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/kmsg", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
	"/proc/timer_list", "/proc/timer_stats", "/sys/firmware", "/sys/devices/virtual/powercap", "/sys/kernel/debug",
}

// readable are those of them that hold something for this process.
func readable() string {
	var open []string
	for _, path := range aboutMachine {
		if entries, err := os.ReadDir(path); err == nil && len(entries) > 0 {
			open = append(open, "`"+path+"`")
		} else if content, err := readSome(path); err == nil && len(content) > 0 {
			open = append(open, "`"+path+"`")
		}
	}
	if len(open) == 0 {
		return fmt.Sprintf("none of %d that tell of the machine", len(aboutMachine))
	}
	return strings.Join(open, ", ") + fmt.Sprintf("; none of %d others that tell of the machine", len(aboutMachine)-len(open))
}

func protected(mounted map[string]string) string {
	var found []string
	for _, name := range []string{"bus", "fs", "irq", "sys", "sysrq-trigger"} {
		path := "/proc/" + name
		if _, err := os.Lstat(path); os.IsNotExist(err) {
			found = append(found, name) // this kernel has none
		} else if mounted[path] != "" && strings.HasPrefix(flagsOf(path), "read-only") {
			found = append(found, name)
		}
	}
	return strings.Join(found, ", ")
}

func groups() string {
	run := Run{}
	cgroups(&run)
	said := "those above are not seen"
	var changed []string
	for _, outcome := range run.outcomes {
		switch {
		case outcome.Through && outcome.Variant == "the names of groups above":
			said = "the names of those above are seen"
		case outcome.Through:
			changed = append(changed, outcome.Variant)
		}
	}
	if len(changed) > 0 {
		return said + ", " + strings.Join(changed, ", ")
	}
	return said + ", its own is read-only"
}

// otherMounts are those that have no line of their own.
func otherMounts(mounted map[string]string) string {
	var found []string
	for path := range mounted {
		covers := strings.HasPrefix(path, "/proc/") || strings.HasPrefix(path, "/sys/") || isDevice(path)
		if !covers && !slices.Contains([]string{"/", "/tmp", "/dev", "/dev/shm", "/sys", socketDir}, path) {
			found = append(found, "`"+path+"`")
		}
	}
	slices.Sort(found)
	return strings.Join(found, ", ")
}

func processList() string {
	found, _ := filepath.Glob("/proc/[0-9]*")
	said := fmt.Sprintf("%d are seen, the function is number 1", len(found))
	if isMain() {
		return said
	}
	said = fmt.Sprintf("%d are seen, the function and its init", len(found))
	if _, err := readSome("/proc/1/environ"); err == nil {
		return said + ", which it may trace"
	}
	return said + ", which it may not trace"
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return err.Error()
	}
	return name
}

// limitNames are what the driver sets.
var limitNames = []string{"Max open files", "Max locked memory", "Max pending signals", "Max msgqueue size"}

func processLimits() string {
	content, _ := os.ReadFile("/proc/self/limits")
	var said []string
	for line := range strings.Lines(string(content)) {
		for _, name := range limitNames {
			if rest, ok := strings.CutPrefix(line, name); ok {
				if fields := strings.Fields(rest); len(fields) >= 2 && fields[0] == fields[1] {
					said = append(said, strings.TrimPrefix(name, "Max ")+" "+fields[0])
				}
			}
		}
	}
	return strings.Join(said, ", ")
}

// firstOf is the content of the first file that is there: of version 2 and 1 of
// control groups.
func firstOf(paths ...string) string {
	for _, path := range paths {
		if content, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(content))
		}
	}
	return "cannot be read"
}

// memoryLimits are of memory, and of memory and swap, in MiB.
func memoryLimits() string {
	mebibytes := func(text string) int {
		bytes, err := strconv.Atoi(text)
		if err != nil {
			return -1
		}
		return bytes >> 20
	}
	memory := mebibytes(firstOf("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"))
	both := mebibytes(firstOf("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"))
	if swap := firstOf("/sys/fs/cgroup/memory.swap.max"); swap == "0" {
		both = memory
	}
	return fmt.Sprintf("%d MiB, %d MiB", memory, both)
}

func processorTime() string {
	if limit := firstOf("/sys/fs/cgroup/cpu.max"); limit != "cannot be read" {
		quota, _, _ := strings.Cut(limit, " ")
		return quota + " µs in 100 ms"
	}
	return firstOf("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") + " µs in 100 ms"
}

func interfaceNames() string {
	found, _ := os.ReadDir("/sys/class/net")
	var names []string
	for _, entry := range found {
		// Some kernels show tunnels that lead nowhere in each namespace.
		if name := entry.Name(); name == "lo" || strings.HasPrefix(name, "eth") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// tried is what of a subject gets through.
func (r *Run) tried(try func(*Run)) string {
	one := Run{Targets: r.Targets}
	try(&one)
	var got []string
	for _, outcome := range one.outcomes {
		if outcome.Through {
			got = append(got, strings.TrimPrefix(strings.TrimPrefix(outcome.Variant, "tcp to "), "udp to "))
		}
	}
	slices.Sort(got)
	if got = slices.Compact(got); len(got) == 0 {
		return "nothing of what was tried"
	}
	return strings.Join(got, ", ")
}
