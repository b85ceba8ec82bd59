package invoke

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/tinefn/tine/model"
)

// CallListener is told about calls; a nil function is not called. Its functions are
// called by many goroutines at the same time.
type CallListener struct {
	// BeforeCall is called when an instance is held, just before the call is
	// dispatched to it; on a load balancer before the call is placed. It may change
	// Header and Extensions, the latter with effect on a load balancer alone. An error
	// fails the call with it, keeps later listeners from being called, and AfterCall
	// of all of them. A call that gets no instance is not told.
	BeforeCall func(ctx context.Context, call *Call) error

	// AfterCall is called when the call is over: its answer was read to the end,
	// which for a small one is before the client gets it, or it failed. The context is
	// not cancelled, also if the call's was. An error keeps later listeners from being
	// called; it is logged, and the caller never sees it.
	AfterCall func(ctx context.Context, call *Call, outcome Outcome) error
}

// Outcome says how a call ended.
type Outcome struct {
	Status             string // StatusSuccess, StatusTimeout or StatusError
	Err                error  // nil: it succeeded
	Started, Completed time.Time
	Timing             *Timing // nil if the call failed before it had an answer
}

// What a call ended as, in the words of Fn.
const (
	StatusSuccess = "success"
	StatusTimeout = "timeout" // the function ran out of time
	StatusError   = "error"   // anything else, also a caller that left
)

// ListenOptions configures [Listen].
type ListenOptions struct {
	// AtOnce calls BeforeCall before anything else happens to the call, as a load
	// balancer does, not when an instance is held.
	AtOnce bool
	Logger *slog.Logger // of errors of AfterCall; nil: none
}

// Listen returns middleware that tells the listeners, in their order, of the calls
// that pass it.
func Listen(listeners []CallListener, opts ListenOptions) func(Invoker) Invoker {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return func(next Invoker) Invoker {
		if len(listeners) == 0 {
			return next
		}
		return &listening{next: next, listeners: listeners, opts: opts}
	}
}

type listening struct {
	next      Invoker
	listeners []CallListener
	opts      ListenOptions
}

// errPanicked is what listeners are told of a call that ended in a panic.
var errPanicked = errors.New("a part of the server panicked")

// Invoke passes the call on.
func (l *listening) Invoke(ctx context.Context, call *Call) (*Response, error) {
	h := &hearing{listening: l, ctx: context.WithoutCancel(ctx), call: call}
	if l.opts.AtOnce {
		if err := h.before(ctx); err != nil {
			return nil, err
		}
	} else {
		earlier, asked := call.BeforeStart, false
		call.BeforeStart = func() error {
			asked = true
			if earlier != nil {
				if err := earlier(); err != nil {
					return err
				}
			}
			return h.before(ctx)
		}
		defer func() {
			if !asked { // the call may come again
				call.BeforeStart = earlier
			}
		}()
	}
	returned := false
	defer func() {
		if !returned {
			h.after(errPanicked, nil)
		}
	}()
	response, err := l.next.Invoke(ctx, call)
	returned = true
	if err != nil {
		h.after(err, nil)
		return nil, err
	}
	if _, held := response.Body.(*HeldBody); held { // the call is over
		h.after(nil, response.Timing)
		return response, nil
	}
	response.Body = &heardBody{ReadCloser: response.Body, hearing: h, timing: response.Timing}
	return response, nil
}

// hearing is one call as its listeners see it.
type hearing struct {
	*listening
	ctx     context.Context
	call    *Call
	started time.Time // zero: BeforeCall has not passed
	once    sync.Once
}

func (h *hearing) before(ctx context.Context) error {
	for _, listener := range h.listeners {
		if listener.BeforeCall == nil {
			continue
		}
		if err := listener.BeforeCall(ctx, h.call); err != nil {
			return err
		}
	}
	h.started = time.Now()
	return nil
}

// after tells how the call ended, once, if it has begun.
func (h *hearing) after(err error, timing *Timing) {
	if h.started.IsZero() {
		return
	}
	h.once.Do(func() {
		outcome := Outcome{Status: statusOf(err), Err: err, Started: h.started, Completed: time.Now(), Timing: timing}
		for _, listener := range h.listeners {
			if listener.AfterCall == nil {
				continue
			}
			if err := listener.AfterCall(h.ctx, h.call, outcome); err != nil {
				h.opts.Logger.LogAttrs(h.ctx, slog.LevelWarn, "a listener failed after a call",
					slog.String("call_id", h.call.ID), slog.String("fn_id", h.call.Fn.ID), slog.Any("error", err))
				return
			}
		}
	})
}

func statusOf(err error) string {
	switch {
	case err == nil:
		return StatusSuccess
	case model.Describe(err).Kind == model.ErrCallTimeout:
		return StatusTimeout
	}
	return StatusError
}

// heardBody is an answer that listeners want to know the end of.
type heardBody struct {
	io.ReadCloser
	hearing *hearing
	timing  *Timing
}

func (b *heardBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.hearing.after(nil, b.timing)
	case err != nil:
		b.hearing.after(err, b.timing)
	}
	return n, err
}

// Close before the end gives the rest up: whoever called has left.
func (b *heardBody) Close() error {
	err := b.ReadCloser.Close()
	b.hearing.after(model.ErrClientCanceled, b.timing)
	return err
}
