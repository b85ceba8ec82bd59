package gateway

import (
	"context"
	"fmt"
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

// runDetached executes a call and throws its answer away. It recovers from a
// panic, as the HTTP server does for calls that somebody waits for.
func (g *Gateway) runDetached(ctx context.Context, call *invoke.Call) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v", cause)
			g.opts.Logger.LogAttrs(ctx, slog.LevelError, "detached call panicked",
				slog.String("call_id", call.ID), slog.String("fn_id", call.Fn.ID), slog.Any("error", err), slog.String("stack", string(debug.Stack())))
		}
	}()
	response, err := g.opts.Invoker.Invoke(ctx, call)
	if err == nil {
		_, err = io.Copy(io.Discard, response.Body)
		err = withClose(err, response.Body)
	}
	if err != nil {
		g.opts.Logger.LogAttrs(ctx, slog.LevelInfo, "detached call failed",
			slog.String("call_id", call.ID), slog.String("fn_id", call.Fn.ID), slog.Any("error", err))
	}
	return err
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
