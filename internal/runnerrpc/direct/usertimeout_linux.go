package direct

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout ends a connection whose other side does not acknowledge what was sent, or
// does not read it, for some time: TCP_USER_TIMEOUT of tcp(7). A connection that cannot
// have that has the kernel's own limits, some 15 minutes.
func setUserTimeout(c net.Conn, limit time.Duration) {
	socket, ok := c.(syscall.Conn)
	if !ok || limit <= 0 {
		return
	}
	if raw, err := socket.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(limit.Milliseconds())) //nolint:gosec // a descriptor
		})
	}
}
