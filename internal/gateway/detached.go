package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// invokeDetached answers 202 as soon as the call begins to execute and lets it
// go on without the client. The body is read first, because the client may be
// gone when the function asks for it.
func (g *Gateway) invokeDetached(w http.ResponseWriter, r *http.Request, call *invoke.Call) error {
	if err := holdBody(call, g.opts.MaxDetachedBytes); err != nil {
		return err
	}
	started := make(chan struct{})
	call.Detached = true
	failed := make(chan error, 1)
	call.OnStart = func() { close(started) }
	w.Header().Set(headerCallID, call.ID)

	// The client may leave until the call begins, not after.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	stopAtClose := context.AfterFunc(g.ctx, cancel)
	if !g.goDetached(func() {
		defer cancel()
		defer stopAtClose()
		failed <- g.runDetached(ctx, call)
	}) {
		stopAtClose()
		cancel()
		return model.ErrServerBusy
	}
	select {
	case <-started:
	case err := <-failed:
		if !isClosed(started) {
			return g.callFailed(w, err)
		}
	case <-r.Context().Done():
		cancel()
		return context.Cause(r.Context())
	}
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// holdBody reads a call's body into memory.
func holdBody(call *invoke.Call, maxBytes int64) error {
	if call.Body == http.NoBody {
		return nil
	}
	body := call.Body
	if maxBytes > 0 {
		body = edge.LimitBody(body, maxBytes)
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	call.Body, call.ContentLength = invoke.HoldBody(data), int64(len(data))
	return nil
}

// runDetached executes a call, throws its answer away, and logs what it failed with.
func (g *Gateway) runDetached(ctx context.Context, call *invoke.Call) error {
	err := recovered(func() error {
		response, err := g.opts.Invoker.Invoke(ctx, call)
		if err != nil {
			return err
		}
		return discard(ctx, response.Body)
	})
	if err == nil {
		return nil
	}
	level, message := slog.LevelInfo, "detached call failed"
	attrs := []slog.Attr{slog.String("call_id", call.ID), slog.String("fn_id", call.Fn.ID), slog.Any("error", err)}
	if p, ok := errors.AsType[*edge.PanicError](err); ok {
		level, message = slog.LevelError, "detached call panicked"
		attrs = append(attrs, slog.String("stack", string(p.Stack)))
	}
	g.opts.Logger.LogAttrs(ctx, level, message, attrs...)
	return err
}

// discard reads an answer to its end and closes it. When ctx ends before, the answer is
// left to itself: it ends with its instance. It cannot be closed while it is read.
func discard(ctx context.Context, body io.ReadCloser) error {
	ended := make(chan error, 1)
	go func() {
		err := recovered(func() error {
			_, err := io.Copy(io.Discard, body)
			return err
		})
		ended <- recovered(func() error { return withClose(err, body) })
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// recovered turns a panic into an error, as the HTTP server does for calls that
// somebody waits for.
func recovered(f func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = &edge.PanicError{Cause: cause, Stack: debug.Stack()}
		}
	}()
	return f()
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
