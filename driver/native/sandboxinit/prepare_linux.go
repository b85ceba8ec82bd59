package sandboxinit

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// prepared are mounts that are made but not attached anywhere yet, except for the
// root, in which the sandbox waits.
type prepared struct {
	proc, sys, dev, pts, shm, queue int

	devices []int // those of the host, in the order of deviceNames
}

// Sizes of file systems that every sandbox has. Sources: Docker gives containers
// 64 MiB of shared memory; nothing but nodes and links is in /dev.
const (
	devBytes = "65536"
	shmBytes = "67108864"
)

// waitRoot is where the function's root is attached, in the root in which the
// sandbox waits.
const waitRoot = "/root"

// prepare makes what does not depend on the function, and leaves the host's root
// for an empty one: a sandbox that waits sees nothing of the host.
func prepare() (*prepared, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, step("take the mounts for itself", err)
	}
	var made prepared
	for _, mount := range []struct {
		to         *int
		fs         string
		attributes int
		options    []string // names and values in turn
	}{
		{&made.proc, "proc", unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC, nil},
		{&made.sys, "sysfs", unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_RDONLY, nil},
		{&made.dev, "tmpfs", unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC, []string{"mode", "0755", "size", devBytes}},
		{&made.pts, "devpts", unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC, []string{"mode", "0620", "ptmxmode", "0666"}},
		{&made.shm, "tmpfs", unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC, []string{"mode", "1777", "size", shmBytes}},
		{&made.queue, "mqueue", unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC, nil},
	} {
		detached, err := detach(mount.fs, mount.attributes, mount.options...)
		if err != nil {
			return nil, step("make a file system of kind "+mount.fs, err)
		}
		*mount.to = detached
	}
	if err := fillDev(made.dev); err != nil {
		return nil, step("fill /dev", err)
	}
	var err error
	if made.devices, err = takeDevices(); err != nil {
		return nil, step("take devices of the host", err)
	}
	return &made, leaveHost()
}

// detach makes a file system and mounts it nowhere.
func detach(kind string, attributes int, options ...string) (int, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer func() { _ = unix.Close(fs) }() // only a descriptor
	for i := 0; i+1 < len(options); i += 2 {
		if err := unix.FsconfigSetString(fs, options[i], options[i+1]); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
}

// attach puts a detached mount somewhere.
func attach(mount int, path string) error {
	return unix.MoveMount(mount, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// deviceNames are the devices that every container has. Source: the runtime
// specification of the OCI, "Default Devices".
var deviceNames = []string{"null", "zero", "full", "random", "urandom", "tty"}

// takeDevices takes devices of the host, as nobody can make any in a user namespace.
// They can be written to, and their nodes cannot be changed.
func takeDevices() (taken []int, err error) {
	for _, name := range deviceNames {
		device, err := unix.OpenTree(unix.AT_FDCWD, "/dev/"+name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("/dev/%s: %w", name, err)
		}
		attributes := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC}
		if err := unix.MountSetattr(device, "", unix.AT_EMPTY_PATH, &attributes); err != nil {
			return nil, fmt.Errorf("/dev/%s: %w", name, err)
		}
		taken = append(taken, device)
	}
	return taken, nil
}

// devLinks are the links that programs expect, from the same place.
var devLinks = [][2]string{
	{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"},
}

func fillDev(dev int) error {
	for _, name := range deviceNames { // to attach them to
		if err := unix.Mknodat(dev, name, unix.S_IFREG|0o600, 0); err != nil {
			return err
		}
	}
	for _, link := range devLinks {
		if err := unix.Symlinkat(link[0], dev, link[1]); err != nil {
			return err
		}
	}
	for _, dir := range []string{"pts", "shm", "mqueue"} {
		if err := unix.Mkdirat(dev, dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// leaveHost makes an empty file system the root.
func leaveHost() error {
	const name = "leave the host's file system"
	empty, err := detach("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, "mode", "0755", "size", "4096", "nr_inodes", "4")
	if err != nil {
		return step(name, err)
	}
	if err := unix.Mkdirat(empty, waitRoot[1:], 0o755); err != nil {
		return step(name, err)
	}
	// Any directory does: it is covered for a moment, in this mount namespace.
	if err := attach(empty, "/proc"); err != nil {
		return step(name, err)
	}
	if err := pivot("/proc"); err != nil {
		return step(name, err)
	}
	return step(name, unix.Close(empty))
}

// pivot makes the file system that is mounted at a directory the root, and takes
// the old one away.
func pivot(dir string) error {
	if err := unix.Chdir(dir); err != nil {
		return err
	}
	// Source: pivot_root(2), "pivot_root(".", ".")".
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return unix.Chdir("/")
}
