package runnerrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/runnerrpc/direct"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// attempt is one call on one runner.
type attempt struct {
	client *Client
	call   *invoke.Call
	ctx    context.Context // of the caller
	cancel context.CancelFunc
	stream clientStream
	sender *sender // nil: the request is not sent by another goroutine
	began  time.Time
	timing invoke.Timing

	unsent   bool // the stream broke before it took the try
	received part // that came last
}

// open opens a stream and sends the try. If it fails, nothing is left of it.
func (c *Client) open(ctx context.Context, call *invoke.Call) (*attempt, error) {
	a := &attempt{client: c, call: call, ctx: ctx, began: time.Now()}
	if err := a.connect(); err != nil {
		return nil, err
	}
	err := a.stream.sendTry(call)
	switch {
	case errors.Is(err, io.EOF): // receiving tells why
		a.unsent = true
	case err != nil:
		a.cancel()
		if cause, ok := errors.AsType[unsendable](err); ok {
			return nil, cause.error
		}
		return nil, c.lost(a.ctx, err)
	}
	return a, nil
}

// connect opens the stream, directly if that is possible.
func (a *attempt) connect() (err error) {
	ctx, c := a.ctx, a.client
	id := edge.RequestID(ctx)
	if stream := c.direct.Open(ctx); stream != nil {
		a.stream, a.cancel = directStream{stream, c, id}, stream.Close
		return nil
	}
	if id != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, requestIDKey, id)
	}
	g := &grpcStream{client: c, offered: c.direct.Wanted()}
	if g.offered {
		ctx = metadata.AppendToOutgoingContext(ctx, direct.MetadataKey, direct.Offer)
	}
	ctx, a.cancel = context.WithCancel(ctx)
	if g.stream, err = c.rpc.Engage(ctx); err != nil {
		a.cancel()
		return c.notPlaced(a.ctx, err)
	}
	a.stream = g
	return nil
}

// run is the call from its body to the beginning of its answer. Whoever gets an
// error ends the attempt.
func (a *attempt) run() (*invoke.Response, error) {
	if !a.unsent {
		if err := a.sendBody(); err != nil {
			return nil, err
		}
	}
	if err := a.receive(); err != nil {
		return nil, err
	}
	body := &answer{attempt: a}
	var header http.Header
	switch a.received.kind {
	case partStart:
		header = a.received.header
	case partData: // Fn's runners may leave the beginning out
		body.frame = a.received.data
	case partEnding:
		if err := a.finish(&a.received.ending); err != nil {
			return nil, err
		}
		a.start()
		a.end()
		return &invoke.Response{Header: http.Header{}, Body: invoke.HoldBody(nil), Timing: &a.timing}, nil
	default:
		return nil, a.client.breach("it has sent a message without content")
	}
	a.timing.FirstByte = time.Since(a.began)
	a.start()
	response := &invoke.Response{Header: header, Body: body, ContentLength: -1, Timing: &a.timing}
	if header == nil {
		response.Header = http.Header{}
	}
	response.ContentLength = declaredLength(response.Header)
	if a.call.Detached || response.ContentLength < 0 || response.ContentLength > holdBytes {
		return response, nil
	}
	return a.hold(response, body)
}

// holdBytes is the size up to which an answer is read to its end before its
// beginning is passed on: failures that come late can be told then.
const holdBytes = 64 << 10

// hold reads a small answer to its end.
func (a *attempt) hold(response *invoke.Response, body *answer) (*invoke.Response, error) {
	var held []byte
	for {
		switch {
		case held == nil && (len(body.frame) == 0 || int64(len(body.frame)) == response.ContentLength):
			held = body.frame // usually all of it, which need not be copied
		case held == nil:
			held = append(make([]byte, 0, response.ContentLength), body.frame...)
		default:
			held = append(held, body.frame...)
		}
		if int64(len(held)) > response.ContentLength {
			return nil, a.client.breach("its answer is longer than it has said")
		}
		body.frame = nil
		err := body.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	if int64(len(held)) < response.ContentLength {
		return nil, fmt.Errorf("%w: its answer is shorter than it has said", model.ErrFunctionResponse)
	}
	a.end()
	response.Body = invoke.HoldBody(held)
	return response, nil
}

// start tells whoever waits for it that the call is being executed.
func (a *attempt) start() {
	if a.call.OnStart != nil {
		a.call.OnStart()
		a.call.OnStart = nil
	}
}

// receive waits for the next part.
func (a *attempt) receive() error {
	err := a.stream.receive(&a.received)
	if err == nil {
		return nil
	}
	if cause := a.sender.failure(); cause != nil {
		return cause // the request ended first, the stream broke for that
	}
	if a.stream.untaken(err) {
		return a.client.notPlaced(a.ctx, err)
	}
	if errors.Is(err, io.EOF) {
		return a.client.breach("it has ended a call without saying how")
	}
	return a.client.lost(a.ctx, err)
}

// finish reads the end of a call. The error is the call's.
func (a *attempt) finish(e *ending) error {
	a.report(e)
	var failure error
	if !e.success {
		failure = a.client.failureOf(e)
	}
	// What was decided is decided, whatever becomes of the connection now.
	if err := a.stream.receive(&a.received); err == nil {
		return errors.Join(failure, a.client.breach("a call went on behind its end"))
	}
	return failure
}

// report completes the times of a call by what the runner says. They are of its
// clock, except for the first byte and the total, which are of this one.
func (a *attempt) report(e *ending) {
	t := &a.timing
	t.Queued, t.Image, t.Create, t.Init = max(0, e.queued), e.image, e.prep+e.create, e.init
	t.Cold = t.Image+t.Create+t.Init > 0
	execution := max(0, e.execution)
	t.FirstByte = min(max(0, t.FirstByte-t.Queued), execution)
	t.Body = execution - t.FirstByte
	t.Total = time.Since(a.began)
}

// end gives up what the attempt has, after its end or in the middle of it.
func (a *attempt) end() {
	a.cancel()
	a.sender.stop()
	a.client.end()
}
