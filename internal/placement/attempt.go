package placement

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// attempt tries one runner. After an error that wraps invoke.ErrNotPlaced another
// may be tried; any other result is the call's.
func (x *placing) attempt(ctx context.Context, m *Member) (*invoke.Response, error) {
	body, ok := x.body.open()
	if !ok { // the sweep has asked whether it would be
		return nil, fmt.Errorf("%w: the request's body is not there any more", invoke.ErrNotPlaced)
	}
	p := x.placer
	call := *x.call
	call.Body = body
	x.attempts++
	x.attempted = time.Now()
	m.inFlight.Add(1)
	if p.tracker != nil {
		p.tracker.Began(x.call, m)
	}
	panicked := true
	defer func() {
		if panicked { // the gateway recovers
			x.release(m)
		}
	}()
	response, err := m.runner.Invoke(ctx, &call)
	panicked = false
	switch {
	case err == nil:
		p.recovered(m, m.answered(x.attempted))
		if p.tracker != nil {
			p.tracker.Answered(x.call, m)
		}
		x.body.seal()
		x.follow(m, response)
		return response, x.over(PlacedOK, nil)
	case errors.Is(err, invoke.ErrNotPlaced):
		body.Close()
		x.notPlaced(ctx, m, err)
		return nil, err
	}
	x.release(m)
	return nil, x.failed(ctx, m, err)
}

// notPlaced takes note of an attempt of which the function saw nothing.
func (x *placing) notPlaced(ctx context.Context, m *Member, err error) {
	p := x.placer
	m.inFlight.Add(-1)
	if p.tracker != nil {
		p.tracker.Ended(x.call, m, true)
	}
	x.lastErr = fmt.Errorf("%s: %w", m.Address(), err)
	if ctx.Err() != nil {
		return // the caller left meanwhile, which says nothing of the runner
	}
	// Another node may say so in other words.
	isBusy := errors.Is(err, model.ErrServerBusy) || model.Describe(err).Status == http.StatusServiceUnavailable
	p.opts.Observer.NotPlaced(isBusy)
	if !isBusy {
		p.failing(m, m.failed(x.attempted, time.Now(), p.opts.MaxBackoff), err)
		return
	}
	p.recovered(m, m.full(x.attempted, time.Now()))
	if after := model.RetryAfter(err); after > 0 && (x.retryAfter == 0 || after < x.retryAfter) {
		x.retryAfter = after
	}
}

// failed takes note of an error of a runner that took the call, and returns the
// call's error.
func (x *placing) failed(ctx context.Context, m *Member, err error) error {
	p := x.placer
	switch {
	case isOfCall(ctx, err):
		if ctx.Err() != nil {
			return x.over(PlacedAbort, err)
		}
	case model.Describe(err).Kind == model.ErrInternal:
		p.failing(m, m.lost(x.call.Fn.ID, x.attempted, time.Now(), p.opts.MaxBackoff), err)
	default: // the runner has said what was wrong
		p.recovered(m, m.answered(x.attempted))
		if p.tracker != nil {
			p.tracker.Answered(x.call, m)
		}
	}
	return x.over(PlacedError, err)
}

// isOfCall reports whether the reason for an error is the request, or the caller who
// left or whose time is over: neither says anything of the runner. That the context has
// ended is not enough, as it may have after the runner failed.
func isOfCall(ctx context.Context, err error) bool {
	switch model.Describe(err).Kind {
	case model.ErrClientCanceled, model.ErrReservation,
		model.ErrContentLengthTooLarge, model.ErrRequestTooLarge, model.ErrRequestTimeout:
		return true
	case model.ErrInternal: // as of a runner's client that gives a context's end no kind
		return ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)))
	default:
		return false
	}
}

// follow counts the call as in flight until its answer was read.
func (x *placing) follow(m *Member, response *invoke.Response) {
	end := func() {
		x.release(m)
		x.body.close()
		x.end()
	}
	if _, held := response.Body.(*invoke.HeldBody); held || response.Body == nil {
		end() // the runner is done with it
		return
	}
	response.Body = &answer{ReadCloser: response.Body, end: sync.OnceFunc(end)}
}

// release gives the room back that the call had at a runner.
func (x *placing) release(m *Member) {
	m.inFlight.Add(-1)
	m.hasRoom()
	if x.placer.tracker != nil {
		x.placer.tracker.Ended(x.call, m, false)
	}
	x.placer.line.wakeFirst()
}

// answer is the body of a response.
type answer struct {
	io.ReadCloser
	end func() // may be called more than once
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err != nil {
		a.end()
	}
	return n, err
}

func (a *answer) Close() error {
	err := a.ReadCloser.Close()
	a.end()
	return err
}

// failing tells the log that a runner began to fail.
func (p *Placer) failing(m *Member, began bool, err error) {
	if began {
		if p.tracker != nil {
			p.tracker.Lost(m)
		}
		p.opts.Logger.Warn("a runner does not take calls, others are tried before it", slog.String("runner", m.Address()), slog.Any("error", err))
	}
}

// recovered tells the log, and whoever waits, that a runner fails no more.
func (p *Placer) recovered(m *Member, recovered bool) {
	if recovered {
		p.opts.Logger.Info("a runner takes calls again", slog.String("runner", m.Address()))
		p.line.wakeAll()
	}
}
