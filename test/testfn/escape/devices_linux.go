package escape

import (
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// standard are the nodes that programs expect in /dev.
var standard = []string{"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"}

// devices tries to use devices of the host.
func devices(r *Run) {
	for name, number := range map[string]uint64{
		"memory": unix.Mkdev(1, 1), "messages": unix.Mkdev(1, 11), "ports": unix.Mkdev(1, 4), "tunnel": unix.Mkdev(10, 200),
		"virtual machines": unix.Mkdev(10, 232), "files of programs": unix.Mkdev(10, 229), "disk": r.Device,
	} {
		kind := uint32(unix.S_IFCHR)
		if name == "disk" {
			kind = unix.S_IFBLK
		}
		for _, dir := range []string{"/tmp", "/dev/shm", "/dev", "/dev/mqueue", socketDir} {
			r.try(name+" in "+dir, func() error {
				node := filepath.Join(dir, "escape-node")
				if err := unix.Mknod(node, kind|0o666, int(number)); err != nil {
					return err
				}
				defer func() { _ = os.Remove(node) }() // of no use any more
				return opens(node, unix.O_RDWR)
			})
		}
	}
	r.try("what is in /dev", func() error {
		err := filepath.WalkDir("/dev", func(path string, _ os.DirEntry, err error) error {
			if err != nil || !isDevice(path) || filepath.Dir(path) == "/dev/pts" {
				return nil
			}
			if !slices.Contains(standard, filepath.Base(path)) && opens(path, unix.O_RDWR) == nil {
				return through("%s can be opened", path)
			}
			return nil
		})
		if err == nil {
			return errHidden
		}
		return err
	})
	for _, name := range []string{"mem", "kmem", "port", "kmsg", "kvm", "fuse", "net/tun", "loop-control", "mapper/control", "vda", "sda", "uinput", "vhost-net"} {
		r.try("/dev/"+name, func() error { return opens("/dev/"+name, unix.O_RDONLY) }, absent...)
	}
}

// isDevice asks for the file itself: a directory does not know what is mounted over
// its entries.
func isDevice(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&os.ModeDevice != 0
}
