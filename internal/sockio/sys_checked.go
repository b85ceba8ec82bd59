//go:build unix && (!linux || race || 386)

package sockio

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// readNow and writeNow are those of the syscall package here: it tells the race detector
// what happens before what, and knows the ways of other systems.
func readNow(fd uintptr, p []byte) (int, syscall.Errno) { return transfer(syscall.Read, fd, p) }

func writeNow(fd uintptr, p []byte) (int, syscall.Errno) { return transfer(syscall.Write, fd, p) }

func transfer(call func(int, []byte) (int, error), fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, err := call(int(fd), p) //nolint:gosec // a descriptor
		if err == nil {
			return n, 0
		}
		if errno, ok := errors.AsType[syscall.Errno](err); ok && errno != syscall.EINTR {
			return 0, errno
		}
	}
}

func isQuiet(fd uintptr) bool {
	var one [1]byte
	_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT) //nolint:gosec // a descriptor
	return errors.Is(err, unix.EAGAIN)
}
