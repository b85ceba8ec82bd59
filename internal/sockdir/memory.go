package sockdir

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Memory bounds directories that are file systems in memory, one each, which are
// mounted nowhere: whoever shares one with a container mounts it there. Nothing of
// them is left when their process ends, however it does. What a function writes to
// its own counts as its memory.
type Memory struct {
	Bytes  int64 // content of files; sockets have none
	Inodes int64 // names, the directory itself included; 0: directories are on disk
}

// make makes the file system. What is in it can neither be executed nor be a
// device.
func (m Memory) make() (*os.File, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen: %w", err)
	}
	defer func() { _ = unix.Close(fs) }() // only a descriptor
	for name, value := range map[string]string{
		"mode": "0777", "size": strconv.FormatInt(m.Bytes, 10), "nr_inodes": strconv.FormatInt(m.Inodes, 10),
	} {
		if err := unix.FsconfigSetString(fs, name, value); err != nil {
			return nil, fmt.Errorf("set its %s to %s: %w", name, value, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("fsconfig: %w", err)
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsmount: %w", err)
	}
	return os.NewFile(uintptr(mount), "socket directory"), nil
}

// createInMemory makes a directory in memory. Its path goes by the descriptor, and
// means something in this process only.
func (m *Manager) createInMemory() (*Dir, error) {
	file, err := m.memory.make()
	if err != nil {
		return nil, fmt.Errorf("make a socket directory in memory, set FN_SANDBOX_SOCKETS_INODES=0 to have it on disk: %w", err)
	}
	path := "/proc/self/fd/" + strconv.Itoa(int(file.Fd()))
	return m.watchDir(&Dir{manager: m, path: path, enginePath: path, file: file, ready: make(chan struct{})})
}
