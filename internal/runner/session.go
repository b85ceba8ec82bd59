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
	"net/http"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/internal/sockdir"
	"github.com/tinefn/tine/model"
)

// errInstanceDead says that an instance does not accept connections. Nothing
// was sent to it, so another one may serve the call.
var errInstanceDead = errors.New("instance does not accept connections")

// session is the one connection to an instance, kept between calls. The holder
// of the instance's lease uses it; only Close may come from elsewhere.
type session struct {
	socket *sockdir.Socket

	mu     sync.Mutex // guards conn and closed against Close
	conn   net.Conn   // nil: not connected
	closed bool

	raw    syscall.RawConn // of conn
	in     inflow          // reads conn
	reader *bufio.Reader   // reads in
	out    bytes.Buffer    // of requests
	quiet  bool            // what peek found

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

// connect makes sure of a usable connection, until the deadline. It reports
// whether the connection was used before.
func (s *session) connect(ctx context.Context, deadline time.Time) (reused bool, err error) {
	if s.conn != nil {
		if s.reader.Buffered() == 0 && s.begin(deadline) == nil && s.isQuiet() {
			return true, nil
		}
		s.disconnect() // the function closed it, as some kits do after each answer
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	conn, err := s.dial(ctx)
	if err != nil {
		return false, fmt.Errorf("%w: %w", errInstanceDead, err)
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return false, errors.Join(fmt.Errorf("%w: %w", errInstanceDead, err), conn.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, errors.Join(fmt.Errorf("%w: it is being removed", errInstanceDead), conn.Close())
	}
	s.conn, s.raw = conn, raw
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

// begin sets the deadlines of a call, a hasty one for reading. Writing has none,
// as a small request finds room in the socket's buffer; see boundWriting.
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

// boundWriting is for requests that may have to wait for the function to read.
func (s *session) boundWriting() error {
	s.bounded = true
	return s.conn.SetWriteDeadline(s.in.deadline)
}

// isQuiet reports whether an idle connection is open and has nothing to read,
// without blocking. What is there to read cannot be an answer to a call that
// was not sent yet.
func (s *session) isQuiet() bool {
	s.quiet = false
	return s.raw.Read(s.peek) == nil && s.quiet
}

func (s *session) peek(fd uintptr) bool {
	var one [1]byte
	_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	s.quiet = errors.Is(err, unix.EAGAIN)
	return true
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

// maxInformational is how many 1xx answers may precede the real one.
const maxInformational = 5

// errSilent says that not a single byte of an answer came before an error, so
// that reading may begin again on the same connection.
var errSilent = errors.New("no answer yet")

// request tells http.ReadResponse what the answer is to.
var request = &http.Request{Method: http.MethodPost}

// readHeader reads an answer's status and header, of at most limit bytes.
func (s *session) readHeader(limit int64) (*http.Response, error) {
	defer func() { s.in.limit = math.MaxInt64 }()
	s.in.limit = limit
	if _, err := s.reader.Peek(1); err != nil {
		return nil, fmt.Errorf("%w: %w", errSilent, err)
	}
	for range maxInformational {
		response, err := http.ReadResponse(s.reader, request)
		if err != nil {
			if s.in.limit <= 0 {
				return nil, model.ErrFunctionHeaderTooBig
			}
			return nil, err
		}
		if response.StatusCode >= http.StatusOK {
			return response, nil
		}
	}
	return nil, errors.New("too many informational answers")
}

// hasWholeBody reports whether an answer of unknown length has arrived to its
// end already, so that nothing is gained by passing it on in pieces.
func (s *session) hasWholeBody(answer *http.Response) bool {
	if !slices.Equal(answer.TransferEncoding, []string{"chunked"}) {
		return false
	}
	arrived, err := s.reader.Peek(s.reader.Buffered())
	return err == nil && endsWithin(arrived)
}

// endsWithin reports whether a chunked body (RFC 9112, section 7.1) ends within
// the bytes, without a trailer. What it does not understand does not end.
func endsWithin(chunks []byte) bool {
	for {
		line, rest, found := bytes.Cut(chunks, []byte("\r\n"))
		size, err := strconv.ParseUint(string(line), 16, 31)
		switch {
		case !found || err != nil:
			return false
		case size == 0:
			return bytes.HasPrefix(rest, []byte("\r\n"))
		case uint64(len(rest)) < size+2:
			return false
		}
		chunks = rest[size+2:]
	}
}
