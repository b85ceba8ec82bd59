package sandbox

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// waitInfo is the siginfo_t of waitid(2), as far as it is filled in for the end of
// a child: on 64-bit machines the union begins 16 bytes in.
type waitInfo struct {
	signo, errno, code int32
	_                  int32
	pid                int32
	uid                uint32
	status             int32
	_                  [100]byte
}

// cldExited is the code of a child that ended by itself: CLD_EXITED.
const cldExited = 1

// waitid looks whether the process of a pidfd has ended, and then takes note.
func waitid(pidfd int, info *waitInfo) error {
	return unix.Waitid(unix.P_PIDFD, pidfd, (*unix.Siginfo)(unsafe.Pointer(info)), unix.WEXITED|unix.WNOHANG, nil)
}
