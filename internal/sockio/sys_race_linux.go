//go:build race

package sockio

import (
	"errors"
	"syscall"
)

// readNow and writeNow are those of the syscall package here, which tell the race
// detector what happens before what.
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
