//go:build linux

package native

import (
	"slices"

	"github.com/tinefn/tine/driver/native/sandbox"
)

// What a sandbox that waits costs the machine in memory at most. Measured are 0.6 MB
// of its control group for one that begins with sandbox-init, of which 0.2 to 0.6 MB
// are free when it ends, and 3.7 MB for one that begins with the server's own program;
// the rest is for what the kernel has of its namespaces, interfaces and control groups.
const (
	waitingBytes     = 3 << 19
	waitingSelfBytes = 5 << 20
)

// WaitingBytes is what a sandbox that waits for a function costs the machine in memory,
// with the program that FindInit finds here.
func WaitingBytes() int64 {
	if _, args, err := sandbox.FindInit(); err == nil && slices.Contains(args, sandbox.SelfArg) {
		return waitingSelfBytes
	}
	return waitingBytes
}
