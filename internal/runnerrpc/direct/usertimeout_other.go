//go:build !linux

package direct

import (
	"net"
	"time"
)

// setUserTimeout leaves connections to the system's own limits.
func setUserTimeout(net.Conn, time.Duration) {}
