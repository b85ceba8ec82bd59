package runnerrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// engagement is one call that a load balancer has sent.
type engagement struct {
	server  *Server
	stream  grpc.BidiStreamingServer[runnerpb.ClientMsg, runnerpb.RunnerMsg]
	request *requestBody            // nil: the whole request has come
	cancel  context.CancelCauseFunc // of the call, if there is more of the request
	breach  atomic.Pointer[error]   // how the load balancer broke the protocol in the middle

	call    *invoke.Call
	created time.Time

	mu      sync.Mutex // guards the rest
	started time.Time  // zero: the call has not begun to execute
	failed  error      // of telling that it has
}

// Engage serves one call.
func (s *Server) Engage(stream grpc.BidiStreamingServer[runnerpb.ClientMsg, runnerpb.RunnerMsg]) error {
	try, err := receiveTry(stream)
	if err != nil {
		return err
	}
	s.received.Add(1)
	s.begin()
	defer s.end()
	ctx := withRequestID(stream.Context())
	x := &engagement{server: s, stream: stream, created: time.Now()}
	if x.call, err = s.accept(try); err != nil {
		return x.finish(nil, err)
	}
	if err := x.receiveBody(x.call); err != nil {
		return err
	}
	if s.opts.MaxRequestBytes > 0 && x.call.ContentLength > s.opts.MaxRequestBytes {
		return x.finish(nil, model.ErrRequestTooLarge)
	}
	if x.request != nil {
		if s.opts.MaxRequestBytes > 0 {
			x.call.Body = edge.LimitBody(x.request, s.opts.MaxRequestBytes)
		}
		ctx, x.cancel = context.WithCancelCause(ctx)
		defer x.cancel(nil)
		defer func() { _ = x.request.Close() }()
		s.pumps.Go(x.request.pump)
	}
	x.call.OnStart = x.start
	response, err := s.opts.Invoker.Invoke(ctx, x.call)
	if err != nil {
		return x.finish(nil, x.blame(ctx, err))
	}
	return x.answer(response)
}

// receiveTry waits for the first message.
func receiveTry(stream grpc.BidiStreamingServer[runnerpb.ClientMsg, runnerpb.RunnerMsg]) (*runnerpb.TryCall, error) {
	message, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil, status.Error(busyCode, "the stream ended before a try")
	}
	if err != nil {
		return nil, err
	}
	try, ok := message.GetBody().(*runnerpb.ClientMsg_Try)
	if !ok {
		return nil, breached("the first message is no try")
	}
	return try.Try, nil
}

// withRequestID is a context with the identifier that the load balancer gave.
func withRequestID(ctx context.Context) context.Context {
	if ids := metadata.ValueFromIncomingContext(ctx, requestIDKey); len(ids) > 0 {
		return edge.WithRequestID(ctx, ids[0])
	}
	return ctx
}

// accept makes a call of a try, or says why it is not executed. The call is nil if it
// was not looked at.
func (s *Server) accept(try *runnerpb.TryCall) (*invoke.Call, error) {
	if s.draining.Err() != nil {
		return nil, model.ErrServerBusy
	}
	call, err := s.definitions.decodeCall(try.GetModelsCallJson())
	switch {
	case err != nil:
		return nil, err
	case s.opts.Status.Image != "" && call.Fn.Image == s.opts.Status.Image:
		return call, model.ErrInvalidImage
	case call.Detached && !s.opts.Detached:
		return call, model.ErrDetachedUnsupported
	case len(try.GetSlotHashId()) > maxCallText || !isVisible(try.GetSlotHashId()):
		return call, errors.New("slot_hash_id is no plain text")
	}
	call.Slot, call.Extensions = try.GetSlotHashId(), try.GetExtensions()
	return call, nil
}

// start notes that the call begins to execute, and tells a load balancer that waits
// for nothing else.
func (x *engagement) start() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.started.IsZero() {
		return
	}
	x.started = time.Now()
	if x.call.Detached {
		x.failed = x.begin(http.StatusAccepted, nil)
	}
}

// begin sends the beginning of an answer.
func (x *engagement) begin(code int, headers []*runnerpb.HttpHeader) error {
	meta := &runnerpb.CallResultStart_Http{Http: &runnerpb.HttpRespMeta{StatusCode: int32(code), Headers: headers}}
	return x.stream.Send(&runnerpb.RunnerMsg{Body: &runnerpb.RunnerMsg_ResultStart{ResultStart: &runnerpb.CallResultStart{Meta: meta}}})
}

// answer sends a function's answer and the end of the call. An error means that the
// load balancer is not there any more, or does not keep to the protocol.
func (x *engagement) answer(response *invoke.Response) error {
	x.start() // for an invoker that has not said so
	switch {
	case x.call.Detached:
		_, err := io.Copy(io.Discard, response.Body)
		return x.finish(response.Timing, errors.Join(err, response.Body.Close()))
	case !x.isComplete():
		x.cancel(model.ErrFunctionPrematureWrite)
		return x.finish(response.Timing, withClose(model.ErrFunctionPrematureWrite, response.Body))
	}
	if err := x.begin(http.StatusOK, headersOf(response)); err != nil {
		return withClose(err, response.Body)
	}
	failure, err := x.copyBody(response.Body)
	if err != nil {
		return withClose(err, response.Body)
	}
	return x.finish(response.Timing, withClose(failure, response.Body))
}

// withClose closes a body and adds what goes wrong to err.
func withClose(err error, body io.Closer) error { return errors.Join(err, body.Close()) }

// headersOf is an answer's header as it travels. Its length is told if it is known,
// so that the load balancer can tell a short answer from one cut short.
func headersOf(response *invoke.Response) []*runnerpb.HttpHeader {
	edge.StripHopByHop(response.Header)
	delete(response.Header, "Content-Length")
	if response.ContentLength >= 0 {
		response.Header["Content-Length"] = []string{strconv.FormatInt(response.ContentLength, 10)}
	}
	count := 0
	for _, values := range response.Header {
		count += len(values)
	}
	all := make([]runnerpb.HttpHeader, count)
	headers := make([]*runnerpb.HttpHeader, 0, count)
	for name, values := range response.Header {
		for _, value := range values {
			h := &all[len(headers)]
			h.Key, h.Value = name, value
			headers = append(headers, h)
		}
	}
	return headers
}

// piece is a message with a piece of an answer. It may be used again when sending it
// has returned: it was encoded then.
type piece struct {
	message runnerpb.RunnerMsg
	data    runnerpb.RunnerMsg_Data
	frame   runnerpb.DataFrame
}

func newPiece() *piece {
	p := &piece{}
	p.data.Data = &p.frame
	p.message.Body = &p.data
	return p
}

// rooms are buffers for pieces of answers that are read.
var rooms = sync.Pool{New: func() any { return new([MaxFrameBytes]byte) }}

// copyBody sends an answer's body. It returns why the body broke, and why it could
// not be sent.
func (x *engagement) copyBody(body io.Reader) (failure, err error) {
	p := newPiece()
	if held, ok := body.(*invoke.HeldBody); ok {
		for rest := held.Bytes(); len(rest) > 0; {
			n := min(len(rest), MaxFrameBytes)
			p.frame.Data, rest = rest[:n], rest[n:]
			if err := x.stream.Send(&p.message); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
	room := rooms.Get().(*[MaxFrameBytes]byte)
	defer rooms.Put(room)
	for {
		n, failure := body.Read(room[:])
		if n > 0 {
			p.frame.Data = room[:n]
			if err := x.stream.Send(&p.message); err != nil {
				return nil, err
			}
		}
		if errors.Is(failure, io.EOF) {
			return nil, nil
		}
		if failure != nil {
			return failure, nil
		}
	}
}

// finish sends the end of a call, which is the last that is sent.
func (x *engagement) finish(timing *invoke.Timing, failure error) error {
	if breach := x.breach.Load(); breach != nil {
		return *breach
	}
	x.mu.Lock()
	started, failed := x.started, x.failed
	x.mu.Unlock()
	if failed != nil {
		return failed
	}
	completed := time.Now()
	finished := &runnerpb.CallFinished{
		Success: failure == nil, CreatedAt: timestamp(x.created), StartedAt: timestamp(started), CompletedAt: timestamp(completed),
	}
	if x.call != nil {
		finished.Details, finished.Image = x.call.ID, x.call.Fn.Image
	}
	if !started.IsZero() {
		finished.SchedulerDuration, finished.ExecutionDuration = int64(started.Sub(x.created)), int64(completed.Sub(started))
	}
	if timing != nil && timing.Cold {
		finished.ImagePullWaitDuration, finished.CtrCreateDuration, finished.InitStartTime = int64(timing.Image), int64(timing.Create+timing.Start), int64(timing.Init)
	}
	if failure != nil {
		setFailure(finished, failure, !started.IsZero())
	}
	if finished.GetErrorCode() != http.StatusServiceUnavailable && x.call != nil {
		x.server.handled.Add(1)
	}
	if err := x.stream.Send(&runnerpb.RunnerMsg{Body: &runnerpb.RunnerMsg_Finished{Finished: finished}}); err != nil {
		return fmt.Errorf("the end of the call could not be sent: %w", err)
	}
	return nil
}

// timestamp is a time as it travels.
func timestamp(t time.Time) string { return model.Timestamp{Time: t.UTC()}.String() }
