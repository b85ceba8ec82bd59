//go:build linux && !race && !386

package sockio

import (
	"syscall"
	"unsafe"
)

// readNow reads without waiting. Neither number is negative.
func readNow(fd uintptr, p []byte) (int, syscall.Errno) { return transfer(syscall.SYS_READ, fd, p) }

// writeNow writes without waiting. Neither number is negative.
func writeNow(fd uintptr, p []byte) (int, syscall.Errno) { return transfer(syscall.SYS_WRITE, fd, p) }

func transfer(call, fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), 0 //nolint:gosec // it is no larger than p
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// isQuiet looks at what can be read without taking it.
func isQuiet(fd uintptr) bool {
	var one [1]byte
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&one)), uintptr(len(one)), syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	return errno == syscall.EAGAIN
}
