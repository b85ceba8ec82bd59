// Package runner executes calls on this machine: it is the [invoke.Invoker]
// at the end of every path. A call is admitted, gets an instance from the
// pool, is dispatched to it over HTTP, and gives the instance back when its
// answer has been read.
//
// Read this file first, then contract.go (what a function's container gets),
// dispatch.go (one exchange with a function), session.go (the connection to an
// instance) and answer.go (the function's answer as a stream).
package runner

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/pool"
	"github.com/tinefn/tine/internal/syslog"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// Options configures a [Runner].
type Options struct {
	Pool   *pool.Pool
	Logger *slog.Logger

	// Limits and Security of every container; the memory limit is the function's.
	Limits   driver.Limits
	Security driver.Security
	Hostname string      // of the containers
	Scale    model.Scale // of functions whose annotations say nothing else
	Runtimes []string    // that annotations may ask for

	// InstanceKey tells what the extensions of a call mean for a container; see
	// driver.KeyExtender. Nil: nothing.
	InstanceKey func(extensions map[string]string) string
	// Override is applied to the definitions of functions that keep instances without
	// being called, as it is to those of calls before they come here; nil: not.
	Override invoke.Overrider

	Observer Observer // nil: none

	LogOutput   bool        // write what functions print to the log, at debug level
	MaxLogBytes int64       // of one call's output, in the log and to syslog; 0: DefaultMaxLogBytes
	Syslog      *syslog.Hub // nil: apps' syslog URLs have no effect

	MaxResponseBytes       int64 // of a response body; 0: no limit
	MaxResponseHeaderBytes int64 // 0: DefaultMaxResponseHeaderBytes
	HoldBytes              int64 // response limits up to this are enforced before the first byte goes out
}

// DefaultMaxResponseHeaderBytes limits a function's response header where no
// other limit is set. It is the default of Go's HTTP client.
const DefaultMaxResponseHeaderBytes = 10 << 20

// Runner executes calls in the instances of a pool.
type Runner struct {
	opts       Options
	specs      specs
	background sync.WaitGroup // exchanges whose callers left

	mu     sync.Mutex // guards closed
	closed bool
}

var _ invoke.Invoker = (*Runner)(nil)

// New returns a runner. The pool must have been made with [NewSession].
func New(opts Options) *Runner {
	if opts.MaxResponseHeaderBytes <= 0 {
		opts.MaxResponseHeaderBytes = DefaultMaxResponseHeaderBytes
	}
	if opts.Observer == nil {
		opts.Observer = blind{}
	}
	if opts.MaxLogBytes <= 0 {
		opts.MaxLogBytes = DefaultMaxLogBytes
	}
	if opts.InstanceKey == nil {
		opts.InstanceKey = func(map[string]string) string { return "" }
	}
	return &Runner{opts: opts}
}

// maxDeadInstances is how many instances a call may find dead before it gives
// up: one killed at rest is normal, several in a row are a fault.
const maxDeadInstances = 3

// Invoke executes a call. Its errors are those of the pool and of the
// function: see the kinds of package model.
func (r *Runner) Invoke(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
	spec, err := r.admit(call)
	if err != nil {
		return nil, err
	}
	if err := prefetch(call); err != nil {
		return nil, err
	}
	admitted := time.Now()
	r.opts.Observer.Submitted()
	for attempt := 1; ; attempt++ {
		r.opts.Observer.Queued(+1)
		lease, err := r.opts.Pool.Acquire(ctx, spec)
		r.opts.Observer.Queued(-1)
		if err != nil {
			r.neverStarted(call, admitted, err)
			return nil, err
		}
		if err := mayStart(call, lease); err != nil {
			r.neverStarted(call, admitted, err)
			return nil, err
		}
		response, err := r.dispatch(ctx, call, lease, admitted, attempt == maxDeadInstances)
		if errors.Is(err, errRetry) {
			continue
		}
		return response, err
	}
}

// mayStart asks who wants to know before a call starts, once. Without their consent
// the instance goes back unused.
func mayStart(call *invoke.Call, lease *pool.Lease) error {
	ask := call.BeforeStart
	if ask == nil {
		return nil
	}
	call.BeforeStart = nil
	granted := false
	defer func() { // also in a panic
		if !granted {
			lease.ReleaseUnused()
		}
	}()
	err := ask()
	granted = err == nil
	return err
}

// Close waits for functions whose callers left. The pool must be closed: it
// ends those that do not finish.
func (r *Runner) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.background.Wait()
}

// inBackground runs f on a goroutine that Close waits for, or here and now
// when that is too late: f is short then, because its instance was ended.
func (r *Runner) inBackground(f func()) {
	r.mu.Lock()
	closed := r.closed
	if !closed {
		r.background.Go(f)
	}
	r.mu.Unlock()
	if closed {
		f()
	}
}

// admit refuses what this machine can never run and says what to run it in.
func (r *Runner) admit(call *invoke.Call) (*pool.Spec, error) {
	spec := r.specOf(call)
	return spec, r.refusal(spec)
}

// refusal is why this machine never runs something, nil if it may.
func (r *Runner) refusal(spec *pool.Spec) error {
	if name := spec.Container.Runtime; name != "" && !slices.Contains(r.opts.Runtimes, name) {
		return model.Errorf(model.ErrAnnotationValue, "Container runtime '%s' of annotation %s is not allowed on this node, FN_CONTAINER_RUNTIMES_ALLOWED is: %s",
			name, model.AnnotationRuntime, cmp.Or(strings.Join(r.opts.Runtimes, ", "), "none"))
	}
	if !r.opts.Pool.Fits(spec.Need) {
		return model.ErrTooBigForNode
	}
	return nil
}
