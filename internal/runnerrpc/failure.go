package runnerrpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// busyCode is the number of a gRPC status by which a runner may refuse a call that
// it has not executed. Source: the runner protocol, which takes it from HTTP.
const busyCode = codes.Code(http.StatusServiceUnavailable)

// ErrProtocol is in the chain of errors about a peer that does not keep to the
// protocol.
var ErrProtocol = errors.New("the other side does not keep to the runner protocol")

// fail writes an error into the end of a call. What is not for clients has no
// number; its text is for the load balancer's log. A call that has begun is never
// refused as busy: that would make the load balancer try another runner.
func (e *ending) fail(err error, begun bool) {
	d := model.Describe(err)
	switch {
	case d.Kind == model.ErrInternal || begun && d.Status == http.StatusServiceUnavailable:
		e.text = err.Error()
	default:
		e.code, e.text, e.user = d.Status, d.Text, d.User
	}
}

// failureOf is the error that a runner ended a call with. It wraps ErrNotPlaced if
// the runner has not executed the call.
func (c *Client) failureOf(e *ending) error {
	told := model.Told(e.code, e.text, e.user)
	if e.code == http.StatusServiceUnavailable {
		return fmt.Errorf("%w: %w: runner %s", invoke.ErrNotPlaced, told, c.address)
	}
	return fmt.Errorf("runner %s: %w", c.address, told)
}

// lost is the error of a stream that broke after the call was on its way: nobody
// knows whether it was executed.
func (c *Client) lost(ctx context.Context, err error) error {
	_, bounded := ctx.Deadline()
	switch {
	// Over gRPC the runner knows the deadline too, and may be the first to say that it has passed.
	case errors.Is(ctx.Err(), context.DeadlineExceeded), bounded && status.Code(err) == codes.DeadlineExceeded:
		return fmt.Errorf("%w: runner %s: %w", model.ErrReservation, c.address, err)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: runner %s: %w", model.ErrClientCanceled, c.address, context.Cause(ctx))
	case status.Code(err) == busyCode:
		return fmt.Errorf("%w: %w: runner %s: %w", invoke.ErrNotPlaced, model.ErrServerBusy, c.address, err)
	}
	return fmt.Errorf("runner %s was lost with the call, which may have been executed: %w", c.address, err)
}

// notPlaced is the error of a runner that did not get the call.
func (c *Client) notPlaced(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%w: %w: %w", invoke.ErrNotPlaced, model.ErrClientCanceled, context.Cause(ctx))
	case status.Code(err) == busyCode:
		return fmt.Errorf("%w: %w: runner %s: %w", invoke.ErrNotPlaced, model.ErrServerBusy, c.address, err)
	}
	return fmt.Errorf("%w: runner %s cannot be reached: %w", invoke.ErrNotPlaced, c.address, err)
}

// breach is the error of a runner that does not keep to the protocol.
func (c *Client) breach(what string) error {
	return fmt.Errorf("runner %s: %w: %s", c.address, ErrProtocol, what)
}
