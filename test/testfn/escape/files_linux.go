package escape

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socketDir is where the function's directory of sockets is, which is the host's.
const socketDir = "/tmp/iofs"

// up leads above any directory.
var up = strings.Repeat("/..", 40)

// hostFiles tries to reach files of the host.
func hostFiles(r *Run) {
	for variant, path := range map[string]string{
		"by its path":                      r.File,
		"from above the root":              up + r.File,
		"from above the socket directory":  socketDir + up + r.File,
		"by the root of process 1":         "/proc/1/root" + r.File,
		"above the root of process 1":      "/proc/1/root" + up + r.File,
		"by the directory of process 1":    "/proc/1/cwd" + up + r.File,
		"by the root of this process":      "/proc/self/root" + up + r.File,
		"by the tasks of process 1":        "/proc/1/task/1/root" + r.File,
		"by the descriptors of itself":     "/proc/self/fd/0" + up + r.File,
		"by the mapped files of process 1": "/proc/1/map_files/.." + up + r.File,
	} {
		r.try(variant, func() error { return r.reads(path) }, slices.Concat(absent, []error{unix.ELOOP})...)
	}
	r.try("by a link", func() error {
		link := "/tmp/escape-link"
		if err := os.Symlink(r.File, link); err != nil {
			return err
		}
		defer func() { _ = os.Remove(link) }() // the file system ends with the container
		return r.reads(link)
	}, absent...)
	r.try("by a hard link", func() error {
		link := socketDir + "/escape-hard"
		if err := os.Link(r.File, link); err != nil {
			return err
		}
		return errors.Join(r.reads(link), os.Remove(link))
	}, absent...)
	r.try("by all descriptors", r.allDescriptors)
	r.try("by its handle", r.byHandle, absent...)
	r.try("by leaving a root", r.leaveRoot, absent...)
	r.try("writing it", func() error { return writes(r.File, "changed") }, absent...)
	r.try("writing it by the root of process 1", func() error { return writes("/proc/1/root"+up+r.File, "changed") }, absent...)
	r.try("a new one", func() error {
		return os.WriteFile(filepath.Join(r.Dir, "new"), nil, 0o600)
	}, absent...)
	r.try("a directory moved out of the socket directory", func() error {
		const from, to = socketDir + "/escape-dir", "/tmp/escape-dir"
		if err := os.Mkdir(from, 0o700); err != nil {
			return err
		}
		defer func() { _ = os.Remove(from) }() // the test removes the directory
		return os.Rename(from, to)
	}, unix.EXDEV)
	if !isMain() {
		// The first program of a container is often the host's file.
		r.try("writing the program of process 1", func() error { return opens("/proc/1/exe", unix.O_WRONLY) }, absent...)
	}
}

// allDescriptors follows each descriptor of each process.
func (r *Run) allDescriptors() error {
	descriptors, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, path := range descriptors {
		if r.reads(path+up+r.File) == nil || isFile(path) && r.reads(path) == nil {
			return through("%s leads there", path)
		}
	}
	return errHidden
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// byHandle opens the file by what identifies it in its file system, which the
// socket directory may be in.
func (r *Run) byHandle() error {
	// struct file_handle of open_by_handle_at(2): length, kind, and the handle.
	handle := binary.NativeEndian.AppendUint32(nil, uint32(len(r.Handle)))
	handle = binary.NativeEndian.AppendUint32(handle, uint32(r.Kind))
	handle = append(handle, r.Handle...)
	last := errHidden
	for _, place := range []string{socketDir, "/", "/etc/hosts", "/tmp"} {
		mount, err := unix.Open(place, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		fd, _, errno := unix.Syscall(unix.SYS_OPEN_BY_HANDLE_AT, uintptr(mount), uintptr(unsafe.Pointer(&handle[0])), unix.O_RDONLY)
		_ = unix.Close(mount)
		switch errno {
		case 0:
			content := make([]byte, maxRead)
			n, err := unix.Read(int(fd), content)
			if err = errors.Join(err, unix.Close(int(fd))); err == nil && r.hasMarker(content[:n]) == nil {
				return nil
			}
		case unix.ESTALE: // the right was there, the file was not
			return through("%s: handles are looked up", place)
		default:
			last = errno
		}
	}
	return last
}

// leaveRoot is how a process that may change its root leaves it: what it stands
// in is outside of the new one.
func (r *Run) leaveRoot() error {
	return apart(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		dir, err := os.MkdirTemp("/tmp", "escape-root-")
		if err != nil {
			return err
		}
		defer func() { _ = os.Remove(dir) }() // the file system ends with the container
		if err := errors.Join(unix.Chdir("/"), unix.Chroot(dir)); err != nil {
			return err
		}
		if err := errors.Join(unix.Chdir("."+up), unix.Chroot(".")); err != nil {
			return err
		}
		return r.reads(r.File)
	})
}

// descriptors looks for what was open when the program began.
func descriptors(r *Run) {
	r.try("that were left open", func() error {
		if len(leaked) > 0 {
			return through("%q", leaked)
		}
		return errHidden
	})
}

// leaked are the files that were open when this process began, but for the
// standard ones, as far as they are not the runtime's.
var leaked = func() (list []string) {
	const dir = "/proc/self/fd"
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(fd) }() // it was only read
	buffer := make([]byte, 16<<10)
	n, err := unix.ReadDirent(fd, buffer)
	if err != nil {
		return nil
	}
	_, _, names := unix.ParseDirent(buffer[:n], -1, nil)
	for _, name := range names {
		target, err := os.Readlink(filepath.Join(dir, name))
		if err != nil || strings.HasPrefix(target, "/proc/") || len(name) == 1 && name <= "2" {
			continue
		}
		if target != "anon_inode:[eventpoll]" && target != "anon_inode:[eventfd]" && !strings.HasPrefix(target, "/sys/fs/cgroup/") {
			list = append(list, target)
		}
	}
	return list
}()
