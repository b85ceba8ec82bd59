package escape

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelAttempts tries what is about the kernel, and so about the whole machine.
// Arguments are wrong where success would do harm: rights are looked at first.
func kernelAttempts(r *Run) {
	nowhere := uintptr(unsafe.Pointer(&[8]byte{}))
	name := uintptr(unsafe.Pointer(unsafe.StringData("escape\x00")))
	r.call("load a module", unix.SYS_INIT_MODULE, nowhere, 8, name)
	r.try("load a module from a file", func() error {
		file, err := os.Open("/proc/self/exe")
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }() // it was only read
		return unix.FinitModule(int(file.Fd()), "", 0)
	})
	r.call("remove a module", unix.SYS_DELETE_MODULE, name, unix.O_NONBLOCK)
	r.call("load another kernel", unix.SYS_KEXEC_LOAD, 0, 0, 0, 0)
	r.call("load another kernel from a file", unix.SYS_KEXEC_FILE_LOAD, ^uintptr(0), ^uintptr(0), 0, 0, 0)
	r.call("restart", unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, unix.LINUX_REBOOT_CMD_CAD_OFF)
	r.call("swap", unix.SYS_SWAPON, name, 0)
	r.call("no swap", unix.SYS_SWAPOFF, name)
	r.call("accounting", unix.SYS_ACCT, name)
	r.call("quotas", unix.SYS_QUOTACTL, 0, name, 0, 0)
	r.call("messages of the kernel", unix.SYS_SYSLOG, 3, nowhere, 8) // SYSLOG_ACTION_READ_ALL
	r.try("program in the kernel", func() error { return apart(loadProgram) })
	r.try("map in the kernel", func() error {
		// BPF_MAP_CREATE of an array: type, size of key and value, entries.
		attr := [20]uint32{2, 4, 8, 1}
		return call(unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	})
	r.try("performance counters", func() error {
		attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
		_, err := unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
		return err
	})
	const userOnly = 1 // UFFD_USER_MODE_ONLY, which needs no right
	r.call("page faults", unix.SYS_USERFAULTFD, unix.O_CLOEXEC|userOnly)
	r.try("rings", func() error {
		var params [120]byte
		return call(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)))
	})
	r.call("watch for all files", unix.SYS_FANOTIFY_INIT, 0, unix.O_RDONLY) // FAN_CLASS_NOTIF without FAN_REPORT_FID
	r.try("time", func() error {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
			return err
		}
		return call(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, uintptr(unsafe.Pointer(&now)))
	})
	r.try("speed of time", func() error {
		var now unix.Timex
		if _, err := unix.Adjtimex(&now); err != nil {
			return err
		}
		_, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_FREQUENCY, Freq: now.Freq})
		return err
	})
	r.try("host name", func() error { return unix.Sethostname([]byte("escaped")) })
	r.try("domain name", func() error { return unix.Setdomainname([]byte("escaped")) })
	r.try("priority above others", func() error { return apart(func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -20) }) })
	r.try("scheduling above others", func() error {
		return apart(func() error {
			param := int32(50)
			return call(unix.SYS_SCHED_SETSCHEDULER, 0, 1 /* SCHED_FIFO */, uintptr(unsafe.Pointer(&param)))
		})
	})
	r.try("limits above its own", func() error {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			return err
		}
		limit.Max++
		return unix.Prlimit(0, unix.RLIMIT_NOFILE, &limit, nil)
	})
	r.call("terminals", unix.SYS_VHANGUP)
	r.call("personality", unix.SYS_PERSONALITY, 0x0040000) // ADDR_NO_RANDOMIZE
	portAttempts(r)
	r.try("other user", func() error { return apart(func() error { return call(unix.SYS_SETRESUID, 0, 0, 0) }) })
	r.try("other group", func() error { return apart(func() error { return call(unix.SYS_SETRESGID, 0, 0, 0) }) })
	r.try("other groups", func() error {
		return apart(func() error {
			root := uint32(0)
			return call(unix.SYS_SETGROUPS, 1, uintptr(unsafe.Pointer(&root)))
		})
	})
	r.try("capabilities", func() error {
		return apart(func() error {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			data := [2]unix.CapUserData{{Effective: 1 << unix.CAP_SYS_ADMIN, Permitted: 1 << unix.CAP_SYS_ADMIN}}
			return unix.Capset(&header, &data[0])
		})
	})
	r.try("capabilities of programs", func() error {
		const file = "/tmp/escape-capable"
		if err := os.WriteFile(file, nil, 0o700); err != nil { //nolint:gosec // a program is executable
			return err
		}
		defer func() { _ = os.Remove(file) }() // the file system ends with the container
		// struct vfs_cap_data of linux/capability.h, revision 2: CAP_SYS_ADMIN, permitted and effective.
		value := [20]byte{0: 1, 3: 2, 6: 0x20}
		return unix.Setxattr(file, "security.capability", value[:], 0)
	}, unix.ENOTSUP)
}

// loadProgram loads the filter that lets everything through, which also users
// without rights may have where the administrator wants so: two instructions,
// r0 = 0 and exit.
func loadProgram() error {
	code := [16]byte{0: 0xb7, 8: 0x95}
	license := [4]byte{'G', 'P', 'L'}
	attr := struct {
		kind, count     uint32
		code, license   uint64
		level, size     uint32
		log             uint64
		version, flags  uint32
		name            [16]byte
		index, expected uint32
	}{kind: 1, count: 2, code: uint64(uintptr(unsafe.Pointer(&code))), license: uint64(uintptr(unsafe.Pointer(&license)))}
	return call(unix.SYS_BPF, 5, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
}
