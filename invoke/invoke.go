// Package invoke is the seam that every call passes: [Invoker], shaped like
// [net/http.RoundTripper]. The local runner, a remote runner, the placer and
// every piece of middleware implement it, so a kind of node is a composition
// of invokers.
package invoke

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/tinefn/tine/model"
)

// ErrNotPlaced is in the chain of every error that proves that the function
// did not see the call: nothing was sent, so another runner may try. It is the
// only error that placement retries.
var ErrNotPlaced = errors.New("call was not placed")

// Call is one request for one execution of a function.
//
// App, Fn and Trigger are shared with other calls and must not be changed, except
// by an [Overrider], which gets copies; the rest belongs to the call.
type Call struct {
	ID      string
	App     *model.App
	Fn      *model.Fn
	Trigger *model.Trigger // nil for a direct invocation

	// Header is what the function sees, except for the identifier and the
	// deadline, which the runner adds.
	Header http.Header

	// Body is read at most once; http.NoBody or nil mean none. An invoker that
	// has begun to read it closes it when it needs no more, at the latest when
	// the response ended. Close may be called beside Read, which then returns
	// soon.
	Body          io.ReadCloser
	ContentLength int64 // bytes, -1 if unknown

	// Extensions is side data from embedding programs to drivers. It travels with
	// the call from a load balancer to a runner, and no function or client sees it.
	// ExtRegistryToken is reserved.
	Extensions map[string]string

	// Container is what the call's container gets beside its definition.
	Container Container

	// Slot, if set, tells which of the function's instances may serve the call, in
	// place of its definition: those that were launched for calls with the same.
	Slot string

	// Detached says that nobody wants the answer. OnStart is what its caller waits
	// for, wherever the call is executed.
	Detached bool
	// BeforeStart, if set, is called once when an instance is held on this node, before
	// anything is sent to it, by the goroutine that called Invoke. An error ends the call
	// with it; the function sees nothing of the call, and the instance serves others.
	BeforeStart func() error

	// OnStart, if set, is called once when an instance is held and the request
	// is about to be sent to it. Of a call on another node that is not detached, it
	// is called at the latest with the answer.
	OnStart func()
}

// Container is what a container gets that no definition can ask for. Zero leaves
// it to the node.
type Container struct {
	TmpMiB    int64 // size of /tmp
	MilliCPU  int64 // processor time that it may use, 1000 is one processor
	NoNetwork bool  // loopback only
}

// ExtRegistryToken is the key of a call's extension whose value, if not empty, is
// a bearer token for the registry of the function's image. It is used if the image
// has to be asked for at the registry, and not kept longer than the function has
// instances. The newest that came with a call of the function is used.
const ExtRegistryToken = "FN_REGISTRY_TOKEN"

// Response is the answer of the function's container. The status of the
// container is always a success; the function's own travels in a header.
//
// The caller reads Body and must close it: the function's instance is busy
// until Body returns io.EOF or is closed. A Body that ends in any other error
// is cut short, and that error says why.
type Response struct {
	Header        http.Header
	Body          io.ReadCloser
	ContentLength int64 // bytes, -1 if unknown

	// Timing is complete when Body has returned io.EOF or was closed.
	Timing *Timing
}

// Timing says where a call's time went.
type Timing struct {
	Cold   bool          // an instance was launched for this call
	Queued time.Duration // from admission to holding an instance

	// What the launch of its instance took, if the call was the first to use
	// it: looking for the image or pulling it, making the container, starting
	// it, and from there until the function listened. A launch that began before
	// the call did may have taken longer than the call was queued.
	Image, Create, Start, Init time.Duration

	FirstByte time.Duration // from dispatch to the answer's header
	Body      time.Duration // from there to the end of the answer
	Total     time.Duration // from admission to the end
}

// Execution is the time in the function.
func (t *Timing) Execution() time.Duration { return t.FirstByte + t.Body }

// Invoker executes calls. It must be safe for concurrent use.
//
// A cancelled context abandons a call: Invoke returns soon, and the function
// may or may not run to its end. An error describes the failure by a kind of
// package model; no response accompanies it.
type Invoker interface {
	Invoke(ctx context.Context, call *Call) (*Response, error)
}

// InvokerFunc makes a function an [Invoker].
type InvokerFunc func(context.Context, *Call) (*Response, error)

// Invoke calls f.
func (f InvokerFunc) Invoke(ctx context.Context, call *Call) (*Response, error) {
	return f(ctx, call)
}
