package direct

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Stream is one call as its load balancer has it. One goroutine may send while another
// receives. Close ends it.
//
// What is added is sent with Flush or FlushLater, or when it is much. The error io.EOF of
// these means that the connection is broken, and that receiving tells why.
type Stream struct {
	conn   *conn
	unhook func() bool // the context's end closes the connection no more
	close  sync.Once

	tryBytes int64        // of the frames up to the try; used by who sends
	written  atomic.Int64 // bytes; negative: sending has failed after so many and one more
	last     bool         // the last piece was added; used by who sends
	complete atomic.Bool  // and all was sent: who sends does not touch the connection any more

	end      error // how the stream has ended; used by who receives
	reusable bool  // the runner has said so, at the end
}

func newStream(ctx context.Context, c *conn) *Stream {
	return &Stream{conn: c, unhook: context.AfterFunc(ctx, func() { _ = c.Close() })}
}

// Memory is for what the user of a connection remembers with it from one call to the next.
func (s *Stream) Memory() *any { return &s.conn.memory }

// Add adds a frame whose content is appended, and returns the content's size.
func (s *Stream) Add(kind byte, content func([]byte) []byte) int {
	return s.conn.addWith(kind, content)
}

// EndTry says that what was added so far is the try: a runner that has not got all of it
// cannot execute the call.
func (s *Stream) EndTry() { s.tryBytes = int64(len(s.conn.out)) }

// AddPiece adds a piece of a body.
func (s *Stream) AddPiece(kind byte, piece []byte) error {
	s.conn.add(kind, piece)
	if len(s.conn.out) < muchBytes {
		return nil
	}
	return s.Flush()
}

// AddLast adds the last piece of a body. When that was sent, the stream can end while who
// sends has not returned yet, and its connection be another's.
func (s *Stream) AddLast(kind byte, piece []byte) error {
	s.last = true
	return s.AddPiece(kind, piece)
}

// Flush sends what was added.
func (s *Stream) Flush() error {
	if s.complete.Load() {
		return nil
	}
	n, err := s.conn.flush()
	s.sent(n, err != nil)
	if err != nil {
		return io.EOF
	}
	s.complete.Store(s.last)
	return nil
}

// FlushLater has what was added go out when the answer is waited for, which the same
// goroutine does next.
func (s *Stream) FlushLater() error {
	if s.written.Load() != 0 {
		return s.Flush() // the runner may have answered what it has got, and say nothing more
	}
	n, err := s.conn.flushLater()
	s.sent(n, err != nil)
	if err != nil {
		return io.EOF
	}
	s.complete.Store(s.last)
	return nil
}

// sent counts what was written.
func (s *Stream) sent(n int, failed bool) {
	if failed {
		s.written.Store(-1 - max(s.written.Load(), 0) - int64(n))
		return
	}
	s.written.Add(int64(n))
}

// Unsent reports whether the connection broke before all of the try was sent, so that
// the runner cannot have executed the call.
func (s *Stream) Unsent() bool {
	n := s.written.Load()
	return n < 0 && -1-n < s.tryBytes
}

// Receive waits for the next frame. Its content is valid until the next call. After the
// last one the error is io.EOF, or the one of gRPC that the runner's side has ended with.
// It is codes.Unavailable if the connection broke.
func (s *Stream) Receive() (kind byte, content []byte, err error) {
	if s.end != nil {
		return 0, nil, s.end
	}
	kind, content, err = s.conn.next()
	if n, of := s.conn.sentLater(); of > 0 {
		s.sent(n, n < of)
	}
	switch {
	case err != nil:
		s.end = s.broken(err)
	case kind == kindEnd:
		s.reusable, s.end = readEnd(content)
	}
	return kind, content, s.end
}

// broken is the error of a connection that broke.
func (s *Stream) broken(err error) error {
	if cause := s.conn.pool.cause(s.conn); cause != nil {
		err = cause
	}
	if errors.Is(err, errFrame) {
		return status.Error(codes.Internal, err.Error())
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("the connection was closed")
	}
	return status.Error(codes.Unavailable, err.Error())
}

// Close gives up what the stream has: the connection serves the next call if this one
// has ended in order, else it is closed, which cancels the call. Only the first Close
// has an effect.
func (s *Stream) Close() {
	s.close.Do(func() {
		// Who sends may give up a request that is not complete, while the end is received.
		if s.unhook() && s.complete.Load() && s.reusable {
			s.conn.pool.putBack(s.conn)
		} else {
			s.conn.pool.discard(s.conn)
		}
	})
}

// endBytes is the size of the end of a stream without its text.
const endBytes = 5

// addEnd adds the end of a stream.
func (f *framed) addEnd(reusable bool, err error) {
	st := status.Convert(err)
	content := make([]byte, endBytes, endBytes+len(st.Message()))
	if reusable {
		content[0] = 1
	}
	binary.BigEndian.PutUint32(content[1:], uint32(st.Code()))
	f.add(kindEnd, append(content, st.Message()...))
}

// readEnd reads the end of a stream.
func readEnd(content []byte) (reusable bool, end error) {
	if len(content) < endBytes {
		return false, status.Error(codes.Internal, fmt.Sprintf("the runner has sent an end of %d bytes", len(content)))
	}
	if code := codes.Code(binary.BigEndian.Uint32(content[1:])); code != codes.OK {
		return content[0] == 1, status.Error(code, string(content[endBytes:]))
	}
	return content[0] == 1, io.EOF
}
