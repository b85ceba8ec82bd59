package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
)

// errNoAnswer is the cause with which the driver's own deadline ends a request.
var errNoAnswer = errors.New("it does not answer in time")

// deadline bounds one request to the engine.
func (d *Driver) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d.opts.CallTimeout, errNoAnswer)
}

// failure translates an error of a request that ran under callCtx, a context
// from deadline. Only what the engine said keeps its own text; nothing is ever
// told from a text, as far as the engine has another way to say it.
func failure(callCtx context.Context, what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(callCtx), errNoAnswer):
		return fmt.Errorf("%s: %w: %w", what, driver.ErrUnavailable, errNoAnswer)
	case callCtx.Err() != nil:
		return fmt.Errorf("%s: %w", what, ended(callCtx))
	case lost(err):
		return fmt.Errorf("%s: %w: %w", what, driver.ErrUnavailable, err)
	case errdefs.IsNotFound(err):
		return fmt.Errorf("%s: %w: %w", what, driver.ErrGone, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// ended is the error of a context that is over: always a context error, with
// its cause if it has one of its own.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, ctx.Err()) {
		return fmt.Errorf("%w: %w", ctx.Err(), cause)
	}
	return ctx.Err()
}

// lost reports whether an error is about reaching the engine rather than an
// answer of it.
func lost(err error) bool {
	if client.IsErrConnectionFailed(err) || errdefs.IsUnavailable(err) {
		return true
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return true
	}
	_, isNet := errors.AsType[net.Error](err)
	return isNet
}

// sleep waits; false means that ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// answered reports whether the engine itself refused a request, so that its
// outcome is known.
func answered(err error) bool {
	return errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) || errdefs.IsConflict(err) ||
		errdefs.IsAlreadyExists(err) || errdefs.IsUnauthorized(err) || errdefs.IsPermissionDenied(err) ||
		errdefs.IsInternal(err) || errdefs.IsNotImplemented(err)
}

// daemonPrefix is what the client puts before what the engine answered.
const daemonPrefix = "Error response from daemon: "

// message is what the engine said.
func message(err error) string { return strings.TrimPrefix(err.Error(), daemonPrefix) }
