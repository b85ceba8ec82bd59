package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// report is what the process sees of its container.
type report struct {
	UID      int    `json:"uid"`
	GID      int    `json:"gid"`
	PID      int    `json:"pid"`
	PPID     int    `json:"ppid"`
	Hostname string `json:"hostname"`

	// Status holds lines of /proc/self/status: CapEff, CapPrm, CapBnd, CapInh,
	// CapAmb, NoNewPrivs, Seccomp.
	Status map[string]string `json:"status"`

	// Mounts maps mount points to "type options", the options of mount and
	// file system together, as in "tmpfs rw,nosuid,size=1024k".
	Mounts map[string]string `json:"mounts"`

	// Rlimits maps names to soft and hard limits, the largest number for none.
	Rlimits map[string][2]uint64 `json:"rlimits"`

	// Cgroup holds memory and pids limits as the kernel writes them, by the
	// file names of either cgroup version: memory.max or memory.limit_in_bytes,
	// memory.swap.max or memory.memsw.limit_in_bytes, pids.max, cpu.max or
	// cpu.cfs_quota_us. A limit that cannot be seen from inside is not there.
	Cgroup map[string]string `json:"cgroup"`

	// Writable tells of directories whether a file could be made in them.
	Writable map[string]bool `json:"writable"`

	// Readable tells of paths that say something about the machine, if they are
	// there, whether one byte or entry could be read.
	Readable map[string]bool `json:"readable"`

	Interfaces  []string          `json:"interfaces"`
	Environment map[string]string `json:"environment"`
	Header      http.Header       `json:"header,omitempty"` // raw headers of the request
}

func (r *report) write(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// inspect looks around. What cannot be read is absent from the report.
func inspect(header http.Header) *report {
	hostname, _ := os.Hostname()
	return &report{
		UID: os.Getuid(), GID: os.Getgid(), PID: os.Getpid(), PPID: os.Getppid(), Hostname: hostname,
		Status: processStatus(), Mounts: mounts(), Rlimits: rlimits(), Cgroup: cgroup(),
		Writable: map[string]bool{
			"/": writable("/"), "/tmp": writable("/tmp"), "/tmp/iofs": writable("/tmp/iofs"), "/function": writable("/function"),
		},
		Readable:   readable(),
		Interfaces: interfaces(), Environment: environment(os.Environ()), Header: header,
	}
}

func processStatus() map[string]string {
	wanted := []string{"CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb", "NoNewPrivs", "Seccomp"}
	content, _ := os.ReadFile("/proc/self/status")
	status := map[string]string{}
	for line := range strings.Lines(string(content)) {
		if name, value, ok := strings.Cut(line, ":"); ok && slices.Contains(wanted, name) {
			status[name] = strings.TrimSpace(value)
		}
	}
	return status
}

func mounts() map[string]string {
	content, _ := os.ReadFile("/proc/self/mounts")
	points := map[string]string{}
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) >= 4 {
			points[fields[1]] = fields[2] + " " + fields[3]
		}
	}
	return points
}

// Resource numbers of Linux that package syscall does not name.
const (
	rlimitMemlock    = 8
	rlimitSigpending = 11
	rlimitMsgqueue   = 12
)

func rlimits() map[string][2]uint64 {
	limits := map[string][2]uint64{}
	for name, resource := range map[string]int{
		"memlock": rlimitMemlock, "sigpending": rlimitSigpending, "msgqueue": rlimitMsgqueue,
	} {
		var limit syscall.Rlimit
		if syscall.Getrlimit(resource, &limit) == nil {
			limits[name] = [2]uint64{limit.Cur, limit.Max}
		}
	}
	// The runtime raises the soft limit of open files for itself, so the one
	// that the process was given is only seen here.
	content, _ := os.ReadFile("/proc/self/limits")
	for line := range strings.Lines(string(content)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			if fields := strings.Fields(rest); len(fields) >= 2 {
				limits["nofile"] = [2]uint64{uint64(number(fields[0], 0)), uint64(number(fields[1], 0))}
			}
		}
	}
	return limits
}

func cgroup() map[string]string {
	found := map[string]string{}
	for _, path := range []string{
		"memory.max", "memory.swap.max", "pids.max", "cpu.max",
		"memory/memory.limit_in_bytes", "memory/memory.memsw.limit_in_bytes", "pids/pids.max", "cpu/cpu.cfs_quota_us",
	} {
		if content, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", path)); err == nil {
			found[filepath.Base(path)] = strings.TrimSpace(string(content))
		}
	}
	return found
}

func writable(dir string) bool {
	file, err := os.CreateTemp(dir, "testfn")
	if err != nil {
		return false
	}
	return file.Close() == nil && os.Remove(file.Name()) == nil
}

func readable() map[string]bool {
	found := map[string]bool{}
	for _, path := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware", "/proc/uptime"} {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		file, err := os.Open(path)
		if err != nil {
			found[path] = false
			continue
		}
		if info.IsDir() {
			_, err = file.Readdirnames(1)
		} else {
			_, err = file.Read(make([]byte, 1))
		}
		found[path] = err == nil
		_ = file.Close() // it was only read
	}
	return found
}

func interfaces() []string {
	found, _ := net.Interfaces()
	names := []string{}
	for _, i := range found {
		names = append(names, i.Name)
	}
	return names
}

// containerID is the name that engines give a container's cgroup or, where
// that is hidden, the host name.
func containerID() string {
	content, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(content)) {
		if id := filepath.Base(strings.TrimSpace(line)); len(id) == 64 {
			return id
		}
	}
	hostname, _ := os.Hostname()
	return hostname
}
