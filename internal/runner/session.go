package runner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
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

	in     io.LimitedReader // reads conn; N is lowered while a header is read
	reader *bufio.Reader    // reads in
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
		if s.reader.Buffered() == 0 && isQuiet(s.conn) {
			return true, s.conn.SetDeadline(deadline)
		}
		s.disconnect() // the function closed it, as some kits do after each answer
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	conn, err := s.socket.Dial(ctx)
	if err != nil {
		return false, fmt.Errorf("%w: %w", errInstanceDead, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, errors.Join(fmt.Errorf("%w: it is being removed", errInstanceDead), conn.Close())
	}
	s.conn = conn
	s.in = io.LimitedReader{R: conn, N: math.MaxInt64}
	s.reader.Reset(&s.in)
	return false, conn.SetDeadline(deadline)
}

// isQuiet reports whether an idle connection is open and has nothing to read,
// without blocking.
func isQuiet(conn net.Conn) bool {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		quiet = errors.Is(err, unix.EAGAIN)
		return true
	})
	return err == nil && quiet
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
	defer func() { s.in.N = math.MaxInt64 }()
	s.in.N = limit
	if _, err := s.reader.Peek(1); err != nil {
		return nil, fmt.Errorf("%w: %w", errSilent, err)
	}
	for range maxInformational {
		response, err := http.ReadResponse(s.reader, request)
		if err != nil {
			if s.in.N <= 0 {
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
