package direct

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ServerStream is one call as its runner has it. One goroutine may send while another
// receives. What is added is sent with Flush, at the end, or when it is much. Errors are
// those of gRPC.
type ServerStream struct {
	framed
	below    net.Conn
	ctx      context.Context // ends when the load balancer leaves
	memory   any
	complete atomic.Bool // the last piece of the request has come

	flushed int    // bytes of the call that went out before its end
	sent    func() // of WhenSent; nil: nobody wants to know
}

// Context ends when the load balancer leaves.
func (s *ServerStream) Context() context.Context { return s.ctx }

// Memory is for what the user of a connection remembers with it from one call to the next.
func (s *ServerStream) Memory() *any { return &s.memory }

// Receive waits for the next frame. Its content is valid until the next call. The error is
// codes.Canceled if the load balancer left.
func (s *ServerStream) Receive() (kind byte, content []byte, err error) {
	kind, content, err = s.next()
	switch {
	case errors.Is(err, errFrame):
		return 0, nil, status.Error(codes.InvalidArgument, err.Error())
	case err != nil:
		return 0, nil, status.Error(codes.Canceled, err.Error())
	}
	return kind, content, nil
}

// EndRequest says that the last piece of the request was received, and its content is
// not used any more. Without it the connection serves no other call.
func (s *ServerStream) EndRequest() { s.complete.Store(true) }

// WhenSent has a function called once when the call's end was sent, or cannot be: a load
// balancer that is slow may take it long after the handler has returned.
func (s *ServerStream) WhenSent(f func()) { s.sent = f }

// Add adds a frame whose content is appended.
func (s *ServerStream) Add(kind byte, content func([]byte) []byte) error {
	s.addWith(kind, content)
	if len(s.out) < muchBytes {
		return nil
	}
	return s.Flush()
}

// Flush sends what was added.
func (s *ServerStream) Flush() error {
	n, err := s.flush()
	s.flushed += n
	if err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	return nil
}

// begin is before a call. It reports whether all of the one before was sent.
func (s *ServerStream) begin() bool {
	n, of := s.sentLater()
	s.complete.Store(false)
	s.flushed, s.sent = 0, nil
	return n == of
}

// end ends a call and reports whether the connection can carry another one.
func (s *ServerStream) end(failure error, going bool) bool {
	reusable := s.complete.Load() && !going
	s.addEnd(reusable, failure)
	err := s.sendEnd(reusable)
	if s.sent != nil {
		s.sent()
	}
	return reusable && err == nil
}

// sendEnd sends what is left of a call. If the connection is used again, that may be when
// the next call is waited for, which is at once. A short answer has room in the socket,
// as all of the one before was read, and counts as sent; a long one may have to wait.
func (s *ServerStream) sendEnd(reusable bool) error {
	how := s.flush
	if reusable && s.flushed <= muchBytes {
		how = s.flushLater
	}
	_, err := how()
	return err
}

// linger waits until the load balancer has closed the connection.
func (s *ServerStream) linger() {
	if s.SetReadDeadline(time.Now().Add(lingering)) == nil {
		_, _ = io.Copy(io.Discard, s.below) // what comes has no meaning any more
	}
}
