// Package driver is the seam between Tine and a container engine. The pool
// above decides when instances are made and ended; a driver only does what it
// is told, and stays dumb.
//
// Terms: an image is the file system and defaults a container starts from; a
// container is one set of isolated processes made from a [Spec]. A container
// goes through these states, and a driver may assume that calls arrive in
// this order:
//
//	Create ── Start ──┬── Freeze ── Thaw ──┬── Remove
//	                  └────────◄───────────┘
//
// Remove is legal in every state and ends the container at once; Wait may run
// beside all other calls. Implementations pass the suite in package drivertest.
package driver

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// Errors that the pool tells apart. Drivers wrap them with what the engine said.
var (
	// ErrUnavailable: the engine does not answer, or not within the deadline
	// that the driver sets for itself. Whether the operation happened is
	// unknown. The engine may come back.
	ErrUnavailable = errors.New("container engine is not available")

	// ErrImageNotFound: the image vanished between EnsureImage and Create.
	ErrImageNotFound = errors.New("image not found")

	// ErrImageVolume: the image declares volumes and the driver is set to
	// refuse such images.
	ErrImageVolume = errors.New("image declares volumes")

	// ErrProgram: the program, the user or the directory that the image names to be
	// started is not there, or cannot be.
	ErrProgram = errors.New("the image's program cannot be started")

	// ErrNotFrozen: Freeze could not begin, and the processes run on. It comes
	// with the cause, and may be tried again.
	ErrNotFrozen = errors.New("not frozen")

	// ErrGone: the container does not exist (any more).
	ErrGone = errors.New("container is gone")
)

// PullError says that a registry, or the engine on its behalf, refused an image.
type PullError struct {
	Image   string
	Status  int    // HTTP status of the refusal, 0 if there was none
	Message string // what the engine or registry said, unwrapped
}

func (e *PullError) Error() string {
	return fmt.Sprintf("Failed to pull image '%s': %s", e.Image, e.Message)
}

// Driver makes containers on one engine, or wraps another one to change what is
// made: see [KeyExtender]. It must be safe for concurrent use.
// Every method returns by its own deadline also when the engine hangs; the
// context can only shorten that.
type Driver interface {
	// Capabilities says what this engine can do. It does not change.
	Capabilities() Capabilities

	// EnsureImage makes the image available locally, pulling it if it must, and
	// says what its name means. Concurrent equal requests share the work. Errors:
	// *PullError, ErrImageVolume, ErrUnavailable, context errors.
	EnsureImage(ctx context.Context, want ImageRequest) (Image, error)

	// Create makes a container and does not start it. If it returns an error,
	// nothing is left behind, as far as the engine answers. Errors, among others:
	// ErrImageNotFound, ErrUnavailable, ErrExhausted.
	Create(ctx context.Context, spec *Spec) (Container, error)

	// Close releases the driver. Containers that still exist are removed.
	Close(ctx context.Context) error
}

// ImageRequest names an image and says who wants it.
type ImageRequest struct {
	Name   string
	Tenant string // as in Spec

	// Token, if set, is a bearer token that the image's registry is told instead of
	// other credentials. It is a secret: it is for no log.
	Token string `json:"-"`

	// Refresh asks the registry whether the name means another image by now, which
	// is pulled then. Names that cannot move, and images that came from no registry,
	// are left alone. A registry that cannot be reached leaves the local image.
	Refresh bool
}

// String is the image's name: the rest has a secret in it.
func (r ImageRequest) String() string { return r.Name }

// Image is what an image's name means at one time.
type Image struct {
	ID     string // of the content, in the engine's form; empty: the engine has none
	Digest string // of the manifest in its registry; empty: it was never in one
}

// Container is one container. Methods other than Wait are not called
// concurrently, except that Remove may overtake any of them.
type Container interface {
	// ID is the engine's identifier, for logs.
	ID() string

	// Start runs the container's process and returns when it was started.
	Start(ctx context.Context) error

	// Wait blocks until the container's process ended, or ctx. It returns
	// ErrGone for a container that was removed, and ErrUnavailable if the
	// engine went away, in which case the caller waits again later.
	Wait(ctx context.Context) (Exit, error)

	// Freeze stops the container's processes without their knowledge; Thaw
	// lets them go on. Only if Capabilities say so.
	Freeze(ctx context.Context) error
	Thaw(ctx context.Context) error

	// Stop asks the process to end (SIGTERM) and kills it when the context
	// ends or after the engine's shortest grace period.
	Stop(ctx context.Context) error

	// Remove kills what still runs and removes the container with all it
	// owns. Removing a container that is gone already is a success.
	Remove(ctx context.Context) error
}

// MemoryMeter is implemented by containers of drivers that can tell what one holds
// without asking an engine for it. A container that wraps another passes it on by
// [HeldMemory].
type MemoryMeter interface {
	// HeldMemory is the memory in bytes that the container's processes, and the
	// kernel on their behalf, hold now: without copies of files, which the kernel
	// drops when it needs the memory. It may be called beside all other methods. An
	// error that is errors.ErrUnsupported means that nobody knows.
	HeldMemory() (int64, error)
}

// Capabilities describe an engine as data.
type Capabilities struct {
	Name    string // "docker", "fake"
	Version string // of the engine, for logs
	Freeze  bool   // Freeze and Thaw work
	Pull    bool   // EnsureImage can fetch what is not local

	// SocketFiles: Spec.SocketDir may be /proc/self/fd/<n>, a mount that is mounted
	// nowhere, which the container gets for itself.
	SocketFiles bool
}

// Exit says how a container's process ended.
type Exit struct {
	Code        int  // exit code; 128+n for signal n
	OutOfMemory bool // the kernel killed it for its memory limit
	Presumed    bool // that is likely, but the engine did not record it
}

// signalBase is added to the number of a signal that ended a process.
const signalBase = 128

func (e Exit) String() string {
	switch {
	case e.OutOfMemory && e.Presumed:
		return "killed by signal 9, and not by this server: most likely out of memory, raise the function's memory if nobody killed it by hand"
	case e.OutOfMemory:
		return "out of memory, raise the function's memory"
	case e.Code > signalBase && e.Code < 2*signalBase:
		return fmt.Sprintf("signal %d (%v)", e.Code-signalBase, syscall.Signal(e.Code-signalBase))
	}
	return fmt.Sprintf("exit code %d", e.Code)
}
