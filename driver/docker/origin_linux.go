package docker

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// originOf tells a file from its copies: by its number and the time when it
// was made, which stay as they are when a file system is mounted elsewhere, or
// by its device where the file system does not keep that time.
func originOf(file *os.File) (string, error) {
	var stat unix.Statx_t
	if err := unix.Statx(int(file.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &stat); err != nil {
		return deviceOf(file)
	}
	if stat.Mask&unix.STATX_BTIME == 0 {
		return deviceOf(file)
	}
	return fmt.Sprintf("inode %d made %d.%09d", stat.Ino, stat.Btime.Sec, stat.Btime.Nsec), nil
}
