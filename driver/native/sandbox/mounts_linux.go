package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Overlay mounts layers, the topmost first, over each other, and nowhere: the
// sandbox attaches the result. It cannot be written.
func (b *Sandbox) Overlay(layers []string) (*os.File, error) {
	return b.overlay(layers, "", "")
}

// WritableOverlay is like Overlay, with a directory that takes what is written, and
// one beside it that the kernel works in. It gives the first to the sandbox's root.
func (b *Sandbox) WritableOverlay(layers []string, upper, work string) (*os.File, error) {
	if b.users != nil {
		if err := os.Chown(upper, b.ids.Host(0), b.ids.Host(0)); err != nil {
			return nil, fmt.Errorf("mount an image, writable: %w", err)
		}
	}
	return b.overlay(layers, upper, work)
}

// The kernel learned in several steps to be told of layers: as one option with all
// of their paths, which has to fit into a page; one path at a time (Linux 6.8); and
// as mounts that are attached nowhere (Linux 6.13), which is the only way that needs
// no place on the host for layers whose owners are mapped. An older kernel says
// EINVAL to each.
func (b *Sandbox) overlay(layers []string, upper, work string) (mount *os.File, err error) {
	if b.users == nil {
		mount, err = overlayOfPaths(layers, upper, work)
	} else {
		mount, err = b.overlayOfMapped(layers, upper, work)
	}
	if err != nil {
		return nil, fmt.Errorf("mount an image of %d layers: %w", len(layers), err)
	}
	return mount, nil
}

// overlayOfPaths mounts layers whose owners are as they are on disk.
func overlayOfPaths(layers []string, upper, work string) (*os.File, error) {
	mount, err := overlayByFsopen(upper, work, func(fs int) error {
		for _, dir := range layers {
			if err := unix.FsconfigSetString(fs, "lowerdir+", dir); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, unix.EINVAL) {
		return overlayByMount(layers, upper, work)
	}
	return mount, err
}

// overlayOfMapped mounts layers whose owners are shown to the sandbox as they are
// on disk, and are users of its own to the kernel.
func (b *Sandbox) overlayOfMapped(layers []string, upper, work string) (*os.File, error) {
	mapped, closeAll, err := b.mapped(layers)
	defer closeAll()
	if err != nil {
		return nil, err
	}
	mount, err := overlayByFsopen(upper, work, func(fs int) error {
		for _, layer := range mapped {
			if err := unix.FsconfigSetFd(fs, "lowerdir+", int(layer.Fd())); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, unix.EINVAL) {
		return overlayOfAttached(mapped, upper, work)
	}
	return mount, err
}

// mapped opens layers as mounts with the sandbox's users as owners.
func (b *Sandbox) mapped(layers []string) (mapped []*os.File, closeAll func(), err error) {
	closeAll = func() {
		for _, layer := range mapped {
			_ = layer.Close() // only a descriptor
		}
	}
	for _, dir := range layers {
		layer, err := cloneTree(dir, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(b.users.Fd())})
		if err != nil {
			return mapped, closeAll, fmt.Errorf("map the owners of layer %s: %w", dir, err)
		}
		mapped = append(mapped, layer)
	}
	return mapped, closeAll, nil
}

// overlayOfAttached mounts layers that are mounts, each of which has a place on the
// host for a moment.
func overlayOfAttached(layers []*os.File, upper, work string) (_ *os.File, err error) {
	dir, err := os.MkdirTemp("", "tine-layers-")
	if err != nil {
		return nil, err
	}
	var paths []string
	defer func() {
		for _, path := range paths { // the overlay has mounts of its own
			err = errors.Join(err, unix.Unmount(path, unix.MNT_DETACH), os.Remove(path))
		}
		err = errors.Join(err, os.Remove(dir))
	}()
	for i, layer := range layers {
		path := filepath.Join(dir, strconv.Itoa(i))
		if err := os.Mkdir(path, 0o700); err != nil {
			return nil, err
		}
		if err := unix.MoveMount(int(layer.Fd()), "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return nil, errors.Join(err, os.Remove(path))
		}
		paths = append(paths, path)
	}
	return overlayOfPaths(paths, upper, work)
}

func overlayByFsopen(upper, work string, lower func(fs int) error) (*os.File, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fs) }() // only a descriptor
	if err := lower(fs); err != nil {
		return nil, err
	}
	attributes := unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID
	if upper == "" {
		attributes |= unix.MOUNT_ATTR_RDONLY
	} else if err := errors.Join(unix.FsconfigSetString(fs, "upperdir", upper), unix.FsconfigSetString(fs, "workdir", work)); err != nil {
		return nil, err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, err
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(mount), "root"), nil
}

// overlayByMount names layers by descriptors, so that a page has room for some 200 of
// them however long their paths are.
func overlayByMount(layers []string, upper, work string) (*os.File, error) {
	short, closeAll, err := shortPaths(layers)
	defer closeAll()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tine-mount-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(dir) }()
	options, flags := "lowerdir="+strings.Join(short, ":"), uintptr(unix.MS_NODEV|unix.MS_NOSUID|unix.MS_RDONLY)
	if upper != "" {
		options, flags = options+",upperdir="+upper+",workdir="+work, flags&^unix.MS_RDONLY
	}
	if err := unix.Mount("overlay", dir, "overlay", flags, options); err != nil {
		return nil, err
	}
	mount, err := cloneTree(dir, &unix.MountAttr{})
	return mount, errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH))
}

// shortPaths opens directories and returns paths to them that are right for this
// process until closeAll.
func shortPaths(dirs []string) (short []string, closeAll func(), err error) {
	var open []*os.File
	closeAll = func() {
		for _, dir := range open {
			_ = dir.Close() // only a descriptor
		}
	}
	for _, dir := range dirs {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, closeAll, fmt.Errorf("open %s: %w", dir, err)
		}
		open = append(open, os.NewFile(uintptr(fd), dir))
		short = append(short, descriptors+strconv.Itoa(fd))
	}
	return short, closeAll, nil
}

// Tree is a directory as a mount that is nowhere: what a sandbox attaches is the
// directory itself.
//
// If it goes by a descriptor of this process, it is a mount that is nowhere yet, and
// the sandbox gets that.
func Tree(dir string) (*os.File, error) {
	if number, ok := strings.CutPrefix(dir, descriptors); ok {
		return mountOf(number)
	}
	tree, err := cloneTree(dir, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC})
	if err != nil {
		return nil, fmt.Errorf("share directory %s with a sandbox: %w", dir, err)
	}
	return tree, nil
}

// cloneTree is a directory as a mount of its own, attached nowhere, with attributes.
func cloneTree(dir string, attributes *unix.MountAttr) (*os.File, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, attributes); err != nil {
		return nil, errors.Join(err, unix.Close(tree))
	}
	return os.NewFile(uintptr(tree), dir), nil
}

// descriptors is where the open files of this process are.
const descriptors = "/proc/self/fd/"

// mountOf is another descriptor of a mount. Only kernels from 6.15 on copy mounts
// that are nowhere.
func mountOf(number string) (*os.File, error) {
	fd, err := strconv.Atoi(number)
	if err != nil {
		return nil, fmt.Errorf("share descriptor %s with a sandbox: %w", number, err)
	}
	mount, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("share descriptor %s with a sandbox: %w", number, err)
	}
	return os.NewFile(uintptr(mount), descriptors+number), nil
}
