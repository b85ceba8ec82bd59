package escape

import (
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// processes tries to reach a process of the host, and the container's first one,
// which may be the driver's.
func processes(r *Run) {
	r.try("environments that can be read", r.environments)
	outside := func(variant string, attempt func() error) { r.try(variant, attempt, unix.ESRCH, unix.EINVAL) }
	pid := r.PID
	outside("signal", func() error { return unix.Kill(pid, unix.SIGKILL) })
	outside("signal to the group", func() error { return unix.Kill(-pid, unix.SIGKILL) })
	outside("trace", func() error { return apart(func() error { return unix.PtraceSeize(pid) }) })
	outside("attach", func() error { return apart(func() error { return unix.PtraceAttach(pid) }) })
	outside("read memory", func() error { return peek(pid) })
	outside("hold", func() error { return pidfd(pid) })
	outside("priority", func() error { return unix.Setpriority(unix.PRIO_PROCESS, pid, 19) })
	outside("processors", func() error {
		var set unix.CPUSet
		set.Set(0)
		return unix.SchedSetaffinity(pid, &set)
	})
	outside("limits", func() error {
		return unix.Prlimit(pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil)
	})
	if isMain() {
		return
	}
	r.try("trace process 1", func() error { return apart(func() error { return unix.PtraceSeize(1) }) })
	r.try("read memory of process 1", func() error { return peek(1) })
	r.try("memory file of process 1", func() error { return opens("/proc/1/mem", unix.O_RDWR) })
	r.try("environment of process 1", func() error {
		_, err := readSome("/proc/1/environ")
		return err
	})
	r.try("descriptors of process 1", func() error {
		fd, err := unix.PidfdOpen(1, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }() // only a descriptor
		_, err = unix.PidfdGetfd(fd, 0, 0)
		return err
	})
}

// environments looks for the marker in those of all processes that can be seen.
func (r *Run) environments() error {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	if len(files) == 0 {
		return through("no process can be seen, so this shows nothing")
	}
	for _, file := range files {
		for _, name := range []string{file, filepath.Join(filepath.Dir(file), "cmdline")} {
			if content, err := os.ReadFile(name); err == nil && r.hasMarker(content) == nil {
				return through("%s is the host's", name)
			}
		}
	}
	return errHidden
}

// peek reads memory of a process, at an address where there is none: rights are
// looked at first.
func peek(pid int) error {
	var b [8]byte
	local := []unix.Iovec{{Base: &b[0], Len: 8}}
	_, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&b[0])), Len: 8}}, 0)
	return err
}

func pidfd(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
