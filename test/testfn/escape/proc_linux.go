package escape

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// procAndSys tries to write and read what is about the machine.
func procAndSys(r *Run) {
	for _, path := range []string{
		"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname", "/proc/sys/kernel/randomize_va_space",
		"/proc/sys/kernel/shmmax", "/proc/sys/fs/mqueue/msg_max", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/vm/overcommit_memory",
		"/proc/sys/vm/drop_caches", "/proc/sys/fs/binfmt_misc/register", "/proc/sys/user/max_user_namespaces",
		"/sys/kernel/uevent_helper", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/power/state", "/sys/bus/pci/rescan",
		"/sys/class/net/lo/mtu",
	} {
		r.try("writing "+path, func() error { return rewrite(path) }, absent...)
	}
	// h is help, by which nothing but a message happens.
	r.try("writing /proc/sysrq-trigger", func() error { return writes("/proc/sysrq-trigger", "h") }, absent...)
	r.try("lower chance to be ended", func() error { return writes("/proc/self/oom_score_adj", "-1000") })
	for _, root := range []string{"/proc", "/sys"} {
		r.try("what can be written in "+root, func() error { return sweep(root) })
	}
	for _, path := range []string{
		"/proc/kcore", "/proc/kmsg", "/proc/kpagecount", "/proc/kpageflags", "/proc/timer_list", "/proc/sched_debug", "/proc/interrupts",
		"/proc/vmallocinfo", "/proc/slabinfo", "/proc/1/mem",
	} {
		r.try("reading "+path, func() error {
			content, err := readSome(path)
			if err == nil && len(content) == 0 {
				return errHidden // it is covered
			}
			return err
		}, slices.Concat(absent, []error{unix.EIO})...)
	}
	for _, dir := range []string{"/sys/firmware", "/sys/kernel/debug", "/sys/kernel/tracing", "/sys/kernel/security", "/sys/fs/bpf", "/sys/fs/pstore", "/proc/acpi", "/proc/scsi", "/sys/devices/virtual/powercap"} {
		r.try("listing "+dir, func() error {
			entries, err := os.ReadDir(dir)
			if err == nil && len(entries) == 0 {
				return errHidden
			}
			return err
		}, absent...)
	}
	r.try("addresses of the kernel", func() error {
		content, err := readSome("/proc/kallsyms")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(content)) {
			if address, _, _ := strings.Cut(line, " "); strings.Trim(address, "0") != "" {
				return through("%s", line)
			}
		}
		return errHidden
	}, absent...)
}

// rewrite writes what a file holds already.
func rewrite(path string) error {
	content, err := readSome(path)
	if err != nil || len(content) == 0 {
		content = []byte("0\n")
	}
	return writes(path, string(content))
}

// harmless are files in /proc that everybody may open to write, and what that
// is for.
var harmless = map[string]string{
	"/proc/pressure/cpu": "triggers of the process itself", "/proc/pressure/io": "triggers", "/proc/pressure/memory": "triggers", "/proc/pressure/irq": "triggers",
}

// sweep opens each file below a directory to write, but for those of processes.
func sweep(root string) error {
	var found []string
	seen := 0
	_ = filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return nil // it cannot be seen
		}
		if entry.IsDir() && root == "/proc" && filepath.Dir(path) == root && strings.Trim(entry.Name(), "0123456789") == "" {
			return filepath.SkipDir
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		seen++
		// Who may do everything may open also what nobody can write.
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o222 == 0 { // covered by a device, for one
			return nil
		}
		if harmless[path] == "" && opens(path, unix.O_WRONLY) == nil {
			found = append(found, path)
		}
		return nil
	})
	switch {
	case seen == 0:
		return through("nothing is there, so this shows nothing")
	case len(found) > 0:
		return through("%d files: %.500s", len(found), strings.Join(found, ", "))
	}
	return errHidden
}
