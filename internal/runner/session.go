package runner

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/tinefn/tine/internal/sockdir"
	"github.com/tinefn/tine/internal/sockio"
)

// errInstanceDead says that an instance does not accept connections. Nothing
// was sent to it, so another one may serve the call.
var errInstanceDead = errors.New("instance does not accept connections")

// session is the one connection to an instance, kept between calls. The holder
// of the instance's lease uses it; only Close may come from elsewhere.
//
// A kept connection may be used again only if the last call left it clean: its
// request was sent to the end and its answer read to the end, and the function
// announced neither its close nor sent more. Each call sets the deadlines anew:
//
//	reading  a hasty one for the first byte of the answer, then the call's
//	writing  none for what the socket's buffer takes at once, then the call's
type session struct {
	socket *sockdir.Socket

	mu     sync.Mutex   // guards conn and closed against Close
	conn   *sockio.Conn // nil: not connected
	closed bool

	in     inflow        // reads conn
	reader *bufio.Reader // reads in
	out    bytes.Buffer  // of requests
	used   time.Time     // when the last call ended

	bounded bool // the connection has a write deadline
	listens bool // the function has accepted a connection once
}

// inflow reads a connection within a call's bounds.
type inflow struct {
	conn     net.Conn
	limit    int64     // bytes that may still come; lowered while a header is read
	deadline time.Time // of the call
	hasty    bool      // the connection's read deadline is an earlier one
	begun    bool      // something of the answer has come
}

func (in *inflow) Read(p []byte) (int, error) {
	if in.limit <= 0 {
		return 0, io.EOF
	}
	if in.hasty && in.begun {
		if err := in.takeTime(); err != nil {
			return 0, err
		}
	}
	n, err := in.conn.Read(p[:min(int64(len(p)), in.limit)])
	in.limit -= int64(n)
	in.begun = in.begun || n > 0
	return n, err
}

// takeTime replaces a hasty deadline by the call's own.
func (in *inflow) takeTime() error {
	in.hasty = false
	return in.conn.SetReadDeadline(in.deadline)
}

// NewSession is what a runner's pool keeps with an instance.
func NewSession(socket *sockdir.Socket) io.Closer {
	s := &session{socket: socket}
	s.reader = bufio.NewReader(&s.in)
	return s
}

// maxRest is how long a connection may rest and be used again. Many servers
// close a connection after some seconds of rest. One that was frozen meanwhile
// does so when it is thawed, in the moment in which the next request arrives.
// Source: the function container contract, which drops idle connections then.
const maxRest = time.Second

// connect makes sure of a usable connection, until the deadline. It reports
// whether the connection was used before.
func (s *session) connect(ctx context.Context, deadline time.Time) (reused bool, err error) {
	if s.conn != nil {
		if time.Since(s.used) < maxRest && s.reader.Buffered() == 0 && s.begin(deadline) == nil && s.conn.IsQuiet() {
			return true, nil
		}
		s.disconnect()
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	dialed, err := s.dial(ctx)
	if err != nil {
		return false, fmt.Errorf("%w: %w", errInstanceDead, err)
	}
	conn, ok := sockio.New(dialed).(*sockio.Conn)
	if !ok {
		return false, errors.Join(fmt.Errorf("%w: the connection to it has no descriptor", errInstanceDead), dialed.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, errors.Join(fmt.Errorf("%w: it is being removed", errInstanceDead), conn.Close())
	}
	s.conn, s.bounded = conn, false
	s.in = inflow{conn: conn, limit: math.MaxInt64}
	s.reader.Reset(&s.in)
	return false, s.begin(deadline)
}

// listenPatience is how long a function that has just made its socket may refuse
// connections. Between the two system calls by which one that makes the socket
// under its final name binds and listens, it does.
const listenPatience = 500 * time.Millisecond

// dial connects to the function.
func (s *session) dial(ctx context.Context) (net.Conn, error) {
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		conn, err := s.socket.Dial(ctx)
		if err == nil {
			s.listens = true
			return conn, nil
		}
		if s.listens || !errors.Is(err, syscall.ECONNREFUSED) || time.Since(began) > listenPatience {
			return nil, err
		}
	}
}

// attention is how long a call may take until its caller's leaving is watched
// for. Most calls have ended by then and are spared the trouble.
const attention = 5 * time.Millisecond

// begin sets the deadlines of a call.
func (s *session) begin(deadline time.Time) error {
	s.in.deadline, s.in.hasty, s.in.begun = deadline, true, false
	if s.bounded {
		s.bounded = false
		if err := s.conn.SetWriteDeadline(time.Time{}); err != nil {
			return err
		}
	}
	return s.conn.SetReadDeadline(time.Now().Add(attention))
}

// boundWriting is for what may have to wait until the function reads.
func (s *session) boundWriting() error {
	s.bounded = true
	return s.conn.SetWriteDeadline(s.in.deadline)
}

// disconnect closes the connection; the next call makes a new one.
func (s *session) disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		_ = s.conn.Close() // nothing was promised to the peer
		s.conn = nil
	}
}

// Close ends the session for good.
func (s *session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}
