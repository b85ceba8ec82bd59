package driver

import "io"

// SocketMountPath is where a function's container sees its socket directory.
// Source: the function container contract; function kits get it by FN_LISTENER.
const SocketMountPath = "/tmp/iofs"

// Spec is everything a driver needs to make one container. It is data: a
// driver that wraps another changes a copy before it hands it on.
type Spec struct {
	ID    string // unique name of the container, [A-Za-z0-9_.-]+
	Image string // its name

	// ImageID, if set, is what EnsureImage said that the name means. The container
	// is made from that, whatever the name means by now.
	ImageID string

	// Tenant is whose container it is. What one tenant's container has used is
	// never given to another tenant's. Empty: a tenant of its own.
	Tenant string

	Env     []string // KEY=value
	Command []string // replaces the image's; empty keeps it
	Labels  map[string]string

	// SocketDir is the directory, as the server sees it, that the container
	// gets at SocketMountPath, writable. Empty: none. See also
	// Capabilities.SocketFiles.
	SocketDir string

	// Runtime is the OCI runtime to use, by the engine's name for it. Empty: the
	// default. A driver without a choice ignores it.
	Runtime string

	Limits   Limits
	Security Security
	Hostname string // empty: the engine's choice

	// Stdout and Stderr receive what the process prints, line order between
	// them as far as the engine keeps it, from one goroutine at a time. They are
	// not written to after Remove returned. Nil: discarded.
	Stdout, Stderr io.Writer

	// OnDrain, if set, is called when the container should serve no further call,
	// though its process lives: something that it needs is gone. It is called
	// once at most, at any time from Create on, and returns at once.
	OnDrain func()

	// Extensions is the side data of the call that came last, for drivers that wrap
	// another; see KeyExtender for which calls the container serves.
	Extensions map[string]string
}

// Limits bound what a container may use. Zero means no limit, unless said
// otherwise.
type Limits struct {
	MemoryBytes int64 // memory and swap together: a container never swaps
	MilliCPU    int64 // 1000 is one processor
	Processes   int64
	DiskMiB     int64 // writable layer, where the engine's storage can limit it

	OpenFiles         int64 // rlimit nofile, soft and hard; likewise the next three
	LockedMemoryBytes int64
	PendingSignals    int64
	MessageQueueBytes int64

	TmpMiB    int64 // size of the tmpfs at /tmp, 0: the kernel's default
	TmpInodes int64 // only used if TmpMiB is set
}

// Security is how far a container is fenced in.
type Security struct {
	Unprivileged bool // user 1000:1000, no capabilities, no new privileges
	ReadOnlyRoot bool // root file system read-only, tmpfs at /tmp
	Init         bool // a small init reaps zombies as process 1
	NoNetwork    bool // loopback only
}

// UnprivilegedUser is the user and group of unprivileged containers.
const UnprivilegedUser = "1000:1000"
