package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Overlay mounts layers, the topmost first, over each other, and nowhere: the
// sandbox attaches the result. It cannot be written.
func Overlay(layers []string) (*os.File, error) {
	const attributes = unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_RDONLY
	mount, err := overlay(attributes, func(set func(key, value string) error) error {
		for _, dir := range layers {
			if err := set("lowerdir+", dir); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, unix.EINVAL) { // before Linux 6.8
		return overlayByMount(layers, "", "")
	}
	if err != nil {
		return nil, fmt.Errorf("mount an image of %d layers: %w", len(layers), err)
	}
	return mount, nil
}

// WritableOverlay is like Overlay, with a directory that takes what is written, and
// one beside it that the kernel works in.
func WritableOverlay(layers []string, upper, work string) (*os.File, error) {
	mount, err := overlay(unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID, func(set func(key, value string) error) error {
		for _, dir := range layers {
			if err := set("lowerdir+", dir); err != nil {
				return err
			}
		}
		return errors.Join(set("upperdir", upper), set("workdir", work))
	})
	if errors.Is(err, unix.EINVAL) {
		return overlayByMount(layers, upper, work)
	}
	if err != nil {
		return nil, fmt.Errorf("mount an image of %d layers, writable: %w", len(layers), err)
	}
	return mount, nil
}

func overlay(attributes int, configure func(set func(key, value string) error) error) (*os.File, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fs) }() // only a descriptor
	if err := configure(func(key, value string) error { return unix.FsconfigSetString(fs, key, value) }); err != nil {
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

// overlayByMount is the older way, whose options have to fit into a page.
func overlayByMount(layers []string, upper, work string) (*os.File, error) {
	dir, err := os.MkdirTemp("", "tine-mount-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(dir) }()
	options, flags := "lowerdir="+strings.Join(layers, ":"), uintptr(unix.MS_NODEV|unix.MS_NOSUID|unix.MS_RDONLY)
	if upper != "" {
		options, flags = options+",upperdir="+upper+",workdir="+work, flags&^unix.MS_RDONLY
	}
	if err := unix.Mount("overlay", dir, "overlay", flags, options); err != nil {
		return nil, fmt.Errorf("mount an image of %d layers: %w", len(layers), err)
	}
	mount, err := Tree(dir)
	return mount, errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH))
}

// Tree is a directory as a mount that is nowhere: what a sandbox attaches is the
// directory itself.
func Tree(dir string) (*os.File, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("share directory %s with a sandbox: %w", dir, err)
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC}); err != nil {
		return nil, errors.Join(fmt.Errorf("share directory %s with a sandbox: %w", dir, err), unix.Close(tree))
	}
	return os.NewFile(uintptr(tree), dir), nil
}
