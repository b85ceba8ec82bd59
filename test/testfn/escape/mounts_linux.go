package escape

import (
	"errors"
	"os/exec"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mounts tries to change what is mounted.
func mounts(r *Run) {
	for variant, attempt := range map[string]func() error{
		"file system in memory":  func() error { return unix.Mount("tmpfs", "/tmp", "tmpfs", 0, "") },
		"processes":              func() error { return unix.Mount("proc", "/tmp", "proc", 0, "") },
		"kernel's objects":       func() error { return unix.Mount("sysfs", "/tmp", "sysfs", 0, "") },
		"debugging files":        func() error { return unix.Mount("debugfs", "/tmp", "debugfs", 0, "") },
		"device":                 func() error { return unix.Mount("/dev/vda", "/tmp", "ext4", 0, "") },
		"copy":                   func() error { return unix.Mount("/", "/tmp", "", unix.MS_BIND|unix.MS_REC, "") },
		"root to write":          func() error { return unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND, "") },
		"/proc/sys to write":     func() error { return unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND, "") },
		"/sys to write":          func() error { return unix.Mount("", "/sys", "", unix.MS_REMOUNT|unix.MS_BIND, "") },
		"shared":                 func() error { return unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, "") },
		"over a mask":            func() error { return unix.Unmount("/proc/kcore", 0) },
		"socket directory":       func() error { return unix.Unmount(socketDir, unix.MNT_DETACH) },
		"other root":             func() error { return unix.PivotRoot("/tmp", "/tmp") },
		"system call fspick":     func() error { return descriptor(unix.Fspick(unix.AT_FDCWD, "/", 0)) },
		"system call fsopen":     func() error { return descriptor(unix.Fsopen("tmpfs", 0)) },
		"system call open_tree":  func() error { return descriptor(unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE)) },
		"system call move_mount": func() error { return unix.MoveMount(unix.AT_FDCWD, "/tmp", unix.AT_FDCWD, "/proc", 0) },
		"system call mount_setattr": func() error {
			return unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
		},
	} {
		r.try(variant, attempt, absent...)
	}
}

func descriptor(fd int, err error) error {
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// namespaces tries to get out of its own, and into new ones, in which it would
// have rights and reach more of the kernel.
func namespaces(r *Run) {
	for name, flag := range map[string]int{
		"mounts": unix.CLONE_NEWNS, "network": unix.CLONE_NEWNET, "IPC": unix.CLONE_NEWIPC, "host name": unix.CLONE_NEWUTS,
		"processes": unix.CLONE_NEWPID, "control groups": unix.CLONE_NEWCGROUP, "time": unix.CLONE_NEWTIME,
	} {
		r.try("new "+name, func() error { return apart(func() error { return unix.Unshare(flag) }) })
	}
	// The kernel wants a process with one thread for this, so a new one is made.
	r.try("new users", func() error {
		child := exec.Command("/proc/self/exe", "exit", "0")
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
		return child.Run()
	})
	r.try("new users by clone3", func() error {
		args := struct{ flags, rest [1]uint64 }{flags: [1]uint64{1 << 63}} // a flag that there is not
		return call(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), 64)
	})
	files, _ := filepath.Glob("/proc/1/ns/*")
	for _, file := range files {
		r.try("join "+file, func() error { return join(file) })
	}
	r.try("join by process", func() error {
		return apart(func() error {
			fd, err := unix.PidfdOpen(1, 0)
			if err != nil {
				return err
			}
			return errors.Join(unix.Setns(fd, unix.CLONE_NEWNET), unix.Close(fd))
		})
	})
}

func join(file string) error {
	return apart(func() error {
		fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return errors.Join(unix.Setns(fd, 0), unix.Close(fd))
	})
}
