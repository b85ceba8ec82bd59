package fake

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/tinefn/tine/driver"
)

// Script says how one container behaves. The zero value is a function that
// works at once.
type Script struct {
	CreateDelay time.Duration // Create takes so long
	StartDelay  time.Duration // Start takes so long
	SocketDelay time.Duration // from the start to the socket
	FreezeDelay time.Duration // Freeze takes so long
	ThawDelay   time.Duration // Thaw takes so long
	RemoveDelay time.Duration // Remove takes so long

	CreateErr, StartErr, FreezeErr, ThawErr error // what the operation returns

	// RemoveFailures is how many times Remove fails with driver.ErrUnavailable
	// before it succeeds.
	RemoveFailures int

	Hang []Op // operations that block until their context or the call timeout ends

	NeverSocket bool      // the function runs and never listens
	BadSocket   BadSocket // what it makes instead of a socket

	Exit      *driver.Exit  // how the process ends by itself, ExitAfter its start; nil: never
	ExitAfter time.Duration // of Exit

	HeldMemory int64 // what it is said to hold of memory, in bytes; 0: nobody knows

	// CrashOnCall makes the process end with status 1 in the middle of its
	// first answer.
	CrashOnCall bool

	// Handler is the function; nil: that of the engine. It must return when its
	// request's context ends, as that means that the process was killed.
	Handler http.Handler

	// Main runs instead of a function and returns the exit code. When ctx ends
	// the process was killed and must return.
	Main func(ctx context.Context, p *Process) int
}

// Process is what a Main sees.
type Process struct {
	Spec       *driver.Spec
	Stdout     io.Writer
	Stderr     io.Writer
	Terminated <-chan struct{} // closed by SIGTERM
}

// BadSocket is a way to break the hand-over of a function's socket.
type BadSocket int

// The ways. In all cases the name lsnr.sock appears.
const (
	GoodSocket   BadSocket = iota
	AbsoluteLink           // a link to an absolute path, of a socket in the same directory
	ParentLink             // a link out of the directory
	DanglingLink           // a link to a name that is not there
	PlainFile              // a regular file
	DirectSocket           // the socket itself, without a link: unusual, and legal
)

// Echo is the function of engines without another: it answers its request's
// body and content type.
func Echo(w http.ResponseWriter, r *http.Request) {
	if contentType := r.Header.Get("Content-Type"); contentType != "" {
		w.Header().Set("Content-Type", contentType)
	}
	_, _ = io.Copy(w, r.Body) // an error means that the caller left
}
