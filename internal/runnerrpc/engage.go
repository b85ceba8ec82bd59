package runnerrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/runnerrpc/direct"
	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// engagement is one call that a load balancer has sent.
type engagement struct {
	server  *Server
	stream  serverStream
	request *requestBody            // nil: the whole request has come
	cancel  context.CancelCauseFunc // of the call, if there is more of the request
	breach  atomic.Pointer[error]   // how the load balancer broke the protocol in the middle

	call    *invoke.Call
	created time.Time

	mu      sync.Mutex // guards the rest
	started time.Time  // zero: the call has not begun to execute
	failed  error      // of telling that it has
}

// Engage serves one call that comes over gRPC.
func (s *Server) Engage(stream grpc.BidiStreamingServer[runnerpb.ClientMsg, runnerpb.RunnerMsg]) error {
	s.offerDirect(stream)
	g := &grpcServerStream{stream: stream, definitions: &s.definitions}
	if err := g.receiveTry(); err != nil {
		return err
	}
	s.conns.carry(stream.Context())
	s.begin()
	defer s.end()
	return s.engage(g)
}

// engage serves one call, whose try has come.
func (s *Server) engage(stream serverStream) error {
	s.received.Add(1)
	x := &engagement{server: s, stream: stream, created: time.Now()}
	var err error
	if x.call, err = s.accept(stream); err != nil {
		return x.finish(nil, err)
	}
	ctx := contextOf(stream)
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

// offerDirect tells a load balancer that can call directly, and asks for it, that this
// runner can be called so.
func (s *Server) offerDirect(stream grpc.ServerStream) {
	asked := metadata.ValueFromIncomingContext(stream.Context(), direct.MetadataKey)
	if slices.Contains(asked, direct.Offer) && s.draining.Err() == nil {
		_ = stream.SetHeader(metadata.Pairs(direct.MetadataKey, direct.Offer)) // it goes on without
	}
}

// accept makes a call of a try, or says why it is not executed. The call is nil if it
// was not looked at.
func (s *Server) accept(stream serverStream) (*invoke.Call, error) {
	if s.draining.Err() != nil {
		return nil, model.ErrServerBusy
	}
	call, err := stream.call()
	switch {
	case err != nil:
		return nil, err
	case s.opts.Status.Image != "" && call.Fn.Image == s.opts.Status.Image:
		return call, model.ErrInvalidImage
	case call.Detached && !s.opts.Detached:
		return call, model.ErrDetachedUnsupported
	case len(call.Slot) > maxCallText || !isVisible(call.Slot):
		return call, errors.New("slot_hash_id is no plain text")
	}
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
		x.failed = errors.Join(x.stream.sendStart(http.StatusAccepted, nil), x.stream.flush())
	}
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
	if err := x.stream.sendStart(http.StatusOK, headerOf(response)); err != nil {
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

// headerOf is an answer's header as it travels. Its length is told if it is known, so
// that the load balancer can tell a short answer from one cut short.
func headerOf(response *invoke.Response) http.Header {
	edge.StripHopByHop(response.Header)
	delete(response.Header, "Content-Length")
	if response.ContentLength >= 0 {
		response.Header["Content-Length"] = []string{strconv.FormatInt(response.ContentLength, 10)}
	}
	return response.Header
}

// rooms are buffers for pieces of answers that are read.
var rooms = sync.Pool{New: func() any { return new([MaxFrameBytes]byte) }}

// copyBody sends an answer's body. It returns why the body broke, and why it could
// not be sent.
func (x *engagement) copyBody(body io.Reader) (failure, err error) {
	if held, ok := body.(*invoke.HeldBody); ok {
		for rest := held.Bytes(); len(rest) > 0; {
			n := min(len(rest), MaxFrameBytes)
			if err := x.stream.sendData(rest[:n]); err != nil {
				return nil, err
			}
			rest = rest[n:]
		}
		return nil, nil
	}
	room := rooms.Get().(*[MaxFrameBytes]byte)
	defer rooms.Put(room)
	for {
		if err := x.stream.flush(); err != nil {
			return nil, err
		}
		n, failure := body.Read(room[:])
		if n > 0 {
			if err := x.stream.sendData(room[:n]); err != nil {
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
	e := ending{success: failure == nil, created: x.created, started: started, completed: time.Now()}
	if x.call != nil {
		e.callID, e.imageName = x.call.ID, x.call.Fn.Image
	}
	if !started.IsZero() {
		e.queued, e.execution = started.Sub(e.created), e.completed.Sub(started)
	}
	if timing != nil && timing.Cold {
		e.image, e.create, e.init = timing.Image, timing.Create+timing.Start, timing.Init
	}
	if failure != nil {
		e.fail(failure, !started.IsZero())
	}
	if e.code != http.StatusServiceUnavailable && x.call != nil {
		x.server.handled.Add(1)
	}
	if err := x.stream.sendEnding(&e); err != nil {
		return fmt.Errorf("the end of the call could not be sent: %w", err)
	}
	return nil
}

// timestamp is a time as it travels.
func timestamp(t time.Time) string { return model.Timestamp{Time: t.UTC()}.String() }
