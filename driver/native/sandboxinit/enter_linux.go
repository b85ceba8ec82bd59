package sandboxinit

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/driver/native/job"
)

// socketDir is where the function sees its directory of sockets. Source: the
// function container contract.
const socketDir = "/tmp/iofs"

// maskedFiles and maskedDirs are what a container must not read, and readOnly what
// it must not write. Source: the defaults of the OCI's runtimes and of Docker.
var (
	maskedFiles = []string{"/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/timer_list", "/proc/timer_stats"}
	maskedDirs  = []string{"/proc/acpi", "/proc/scsi", "/sys/devices/virtual/powercap", "/sys/firmware"}
	readOnly    = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// enter makes the function's file system the root and puts into it what was
// prepared.
func (p *prepared) enter(todo *job.Job, with files) error {
	if err := attach(with.root, waitRoot); err != nil {
		return step("attach the root file system", err)
	}
	if err := pivot(waitRoot); err != nil {
		return step("enter the root file system", err)
	}
	for _, mount := range []struct {
		detached int
		path     string
	}{{p.proc, "/proc"}, {p.sys, "/sys"}, {p.dev, "/dev"}, {p.pts, "/dev/pts"}, {p.shm, "/dev/shm"}, {p.queue, "/dev/mqueue"}} {
		if err := attachInside(mount.detached, mount.path); err != nil {
			return step("attach "+mount.path, err)
		}
	}
	for i, name := range deviceNames {
		if err := attachOver(p.devices[i], "/dev/"+name, 0); err != nil {
			return step("attach /dev/"+name, err)
		}
	}
	if err := showCgroups(); err != nil {
		return err
	}
	if !todo.NoTmp {
		if err := attachTmp(todo); err != nil {
			return step("attach /tmp", err)
		}
	}
	if todo.HasSockets {
		if err := os.MkdirAll(socketDir, 0o755); err != nil {
			return step("make the directory of sockets", err)
		}
		if err := attachInside(with.sockets, socketDir); err != nil {
			return step("attach the directory of sockets", err)
		}
	}
	return mask()
}

// attachInside attaches a mount to a directory, and not to where a link of the
// image leads to.
func attachInside(mount int, dir string) error {
	return attachOver(mount, dir, unix.O_DIRECTORY)
}

// attachOver is attachInside for anything, opened with further flags.
func attachOver(mount int, path string, flags uint64) error {
	at, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | flags, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(at) }() // only a descriptor
	return errors.Join(
		unix.MoveMount(mount, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH),
		unix.Close(mount))
}

func attachTmp(todo *job.Job) error {
	options := []string{"mode", "1777"}
	if todo.TmpBytes > 0 {
		options = append(options, "size", strconv.FormatUint(todo.TmpBytes, 10))
		if todo.TmpInodes > 0 {
			options = append(options, "nr_inodes", strconv.FormatUint(todo.TmpInodes, 10))
		}
	}
	tmp, err := detach("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, options...)
	if err != nil {
		return err
	}
	return attachInside(tmp, "/tmp")
}

// mask hides what a container must not see. What this kernel does not have needs
// no hiding.
func mask() error {
	empty, err := detach("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_RDONLY, "mode", "0755", "size", "4096", "nr_inodes", "1")
	if err != nil {
		return step("hide directories", err)
	}
	defer func() { _ = unix.Close(empty) }() // only a descriptor
	for _, dir := range maskedDirs {
		if err := cover(empty, "", dir, 0); err != nil {
			return step("hide "+dir, err)
		}
	}
	for _, file := range maskedFiles {
		kind := "/dev/null"
		from := unix.AT_FDCWD
		if info, err := os.Lstat(file); err == nil && info.IsDir() {
			kind, from = "", empty
		}
		if err := cover(from, kind, file, 0); err != nil {
			return step("hide "+file, err)
		}
	}
	for _, name := range readOnly {
		if err := cover(unix.AT_FDCWD, name, name, unix.MOUNT_ATTR_RDONLY); err != nil {
			return step("protect "+name, err)
		}
	}
	return nil
}

// cover mounts a copy of one place over another, if that is there.
func cover(dir int, name, over string, attributes uint64) error {
	if _, err := os.Lstat(over); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	tree, err := unix.OpenTree(dir, name, flags)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(tree) }() // only a descriptor
	if attributes != 0 {
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: attributes}); err != nil {
			return err
		}
	}
	return unix.MoveMount(tree, "", unix.AT_FDCWD, over, unix.MOVE_MOUNT_F_EMPTY_PATH)
}
