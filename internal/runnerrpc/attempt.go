package runnerrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// attempt is one call on one runner.
type attempt struct {
	client *Client
	call   *invoke.Call
	ctx    context.Context // of the caller
	cancel context.CancelFunc
	stream grpc.BidiStreamingClient[runnerpb.ClientMsg, runnerpb.RunnerMsg]
	sender *sender // nil: the request is not sent by another goroutine
	began  time.Time
	timing invoke.Timing

	unsent   bool               // the stream broke before it took the try
	received runnerpb.RunnerMsg // the message that came last
}

// open opens a stream and sends the try. If it fails, nothing is left of it.
func (c *Client) open(ctx context.Context, call *invoke.Call) (*attempt, error) {
	a := &attempt{client: c, call: call, ctx: ctx, began: time.Now()}
	text, err := c.written.encode(call)
	if err != nil {
		return nil, fmt.Errorf("call %s cannot be written for a runner: %w", call.ID, err)
	}
	if len(text) > c.maxCall {
		return nil, fmt.Errorf("call %s is of %d bytes without its body, a runner takes %d: raise FN_GRPC_MAX_MESSAGE_SIZE on all nodes, or make the definition smaller", call.ID, len(text), c.maxCall)
	}
	if id := edge.RequestID(ctx); id != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, requestIDKey, id)
	}
	ctx, a.cancel = context.WithCancel(ctx)
	if a.stream, err = c.rpc.Engage(ctx); err != nil {
		a.cancel()
		return nil, c.notPlaced(a.ctx, err)
	}
	try := &runnerpb.TryCall{ModelsCallJson: text, SlotHashId: call.Slot, Extensions: call.Extensions}
	err = a.stream.Send(&runnerpb.ClientMsg{Body: &runnerpb.ClientMsg_Try{Try: try}})
	switch {
	case errors.Is(err, io.EOF): // receiving tells why
		a.unsent = true
	case err != nil:
		a.cancel()
		return nil, c.lost(a.ctx, err)
	}
	return a, nil
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
	switch message := a.received.GetBody().(type) {
	case *runnerpb.RunnerMsg_ResultStart:
		header = answerHeader(message.ResultStart.GetHttp().GetHeaders())
	case *runnerpb.RunnerMsg_Data: // Fn's runners may leave the beginning out
		body.frame = message.Data.GetData()
	case *runnerpb.RunnerMsg_Finished:
		if err := a.finish(message.Finished); err != nil {
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

// receive waits for the next message.
func (a *attempt) receive() error {
	err := a.stream.RecvMsg(&a.received)
	if err == nil {
		a.unsent = false // who answers has got something
		return nil
	}
	if cause := a.sender.failure(); cause != nil {
		return cause // the request ended first, the stream broke for that
	}
	if a.unsent && status.Code(err) == codes.Unavailable {
		return a.client.notPlaced(a.ctx, err)
	}
	if errors.Is(err, io.EOF) {
		return a.client.breach("it has ended a call without saying how")
	}
	return a.client.lost(a.ctx, err)
}

// finish reads the end of a call. The error is the call's.
func (a *attempt) finish(finished *runnerpb.CallFinished) error {
	a.report(finished)
	var failure error
	if !finished.GetSuccess() {
		failure = a.client.failureOf(finished)
	}
	// What was decided is decided, whatever becomes of the connection now.
	if err := a.stream.RecvMsg(&a.received); err == nil {
		return errors.Join(failure, a.client.breach("a call went on behind its end"))
	}
	return failure
}

// report completes the times of a call by what the runner says. They are of its
// clock, except for the first byte and the total, which are of this one.
func (a *attempt) report(finished *runnerpb.CallFinished) {
	t := &a.timing
	t.Queued = max(0, time.Duration(finished.GetSchedulerDuration()))
	t.Image = time.Duration(finished.GetImagePullWaitDuration())
	t.Create = time.Duration(finished.GetCtrPrepDuration()) + time.Duration(finished.GetCtrCreateDuration())
	t.Init = time.Duration(finished.GetInitStartTime())
	t.Cold = t.Image+t.Create+t.Init > 0
	execution := max(0, time.Duration(finished.GetExecutionDuration()))
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

// answerHeader is the header of an answer.
func answerHeader(sent []*runnerpb.HttpHeader) http.Header {
	header := make(http.Header, len(sent))
	for _, h := range sent {
		name := textproto.CanonicalMIMEHeaderKey(h.GetKey())
		header[name] = append(header[name], h.GetValue())
	}
	return header
}
