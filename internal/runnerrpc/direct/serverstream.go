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
	if _, err := s.flush(); err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	return nil
}

// begin is before a call. It reports whether all of the one before was sent.
func (s *ServerStream) begin() bool {
	n, of := s.sentLater()
	s.complete.Store(false)
	return n == of
}

// end ends a call and reports whether the connection can carry another one.
func (s *ServerStream) end(failure error, going bool) bool {
	reusable := s.complete.Load() && !going
	s.addEnd(reusable, failure)
	if reusable {
		_, err := s.flushLater()
		return err == nil
	}
	_, _ = s.flush() // who is not there any more has no need of it
	return false
}

// linger waits until the load balancer has closed the connection.
func (s *ServerStream) linger() {
	if s.SetReadDeadline(time.Now().Add(lingering)) == nil {
		_, _ = io.Copy(io.Discard, s.below) // what comes has no meaning any more
	}
}
