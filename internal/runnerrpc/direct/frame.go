package direct

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/tinefn/tine/internal/sockio"
)

// The kinds of frames that are the package's own.
const (
	kindEnd   byte = 'e'
	kindPing  byte = 'p'
	kindGoing byte = 'g'
)

const (
	headBytes   = 5        // of a frame before its content
	readBuffer  = 8 << 10  // holds most calls and answers
	writeBuffer = 2 << 10  // to begin with
	muchBytes   = 16 << 10 // go out before there is more
	keptBuffer  = 32 << 10 // for the next call
)

// errFrame is in the chain of errors about what is no frame.
var errFrame = errors.New("what came is no frame")

// framed is a connection that carries frames. One goroutine may read while another
// writes.
type framed struct {
	net.Conn
	in  *bufio.Reader
	out []byte // frames that were not sent yet
	due int    // of out, that the next frame's reader sends
	max int    // bytes of a frame
}

func newFramed(conn net.Conn, maxFrame int) framed {
	return framed{Conn: conn, in: bufio.NewReaderSize(conn, readBuffer), out: make([]byte, 0, writeBuffer), max: maxFrame}
}

// await waits until something comes. What flushLater has left goes out before that.
func (f *framed) await() error {
	_, err := f.in.Peek(1)
	return err
}

// next waits for a frame. Its content is valid until the next call. The error is
// io.EOF only if the connection ended between two frames.
func (f *framed) next() (kind byte, content []byte, err error) {
	head, err := f.in.Peek(headBytes)
	if err != nil {
		if len(head) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(head)
	kind = head[headBytes-1]
	if length == 0 || int64(length) > int64(f.max) {
		return 0, nil, fmt.Errorf("%w: its length is %d, the limit %d", errFrame, length, f.max)
	}
	whole := headBytes - 1 + int(length)
	if whole <= f.in.Size() {
		all, err := f.in.Peek(whole)
		if err != nil {
			return 0, nil, cut(err)
		}
		_, _ = f.in.Discard(whole) // which is there
		return kind, all[headBytes:], nil
	}
	_, _ = f.in.Discard(headBytes)
	// Room is made for what has come, not for what was said to come.
	content, err = io.ReadAll(io.LimitReader(f.in, int64(length-1)))
	if err == nil && len(content) < int(length-1) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return 0, nil, err
	}
	return kind, content, nil
}

// cut is the error of a connection that ended in the middle of a frame.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// begin adds the head of a frame, whose content follows until finish.
func (f *framed) begin(kind byte) (at int) {
	at = len(f.out)
	f.out = append(f.out, 0, 0, 0, 0, kind)
	return at
}

func (f *framed) finish(at int) {
	length := len(f.out) - at - (headBytes - 1)
	binary.BigEndian.PutUint32(f.out[at:], uint32(length)) //nolint:gosec // what is sent is far below 4 GiB
}

// add adds a frame to those that flush sends.
func (f *framed) add(kind byte, content []byte) {
	at := f.begin(kind)
	f.out = append(f.out, content...)
	f.finish(at)
}

// addWith adds a frame whose content is appended, and returns the content's size.
func (f *framed) addWith(kind byte, content func([]byte) []byte) int {
	at := f.begin(kind)
	f.out = content(f.out)
	f.finish(at)
	return len(f.out) - at - headBytes
}

// flush sends what was added, and returns how many bytes of it went out.
func (f *framed) flush() (int, error) {
	if len(f.out) == 0 {
		return 0, nil
	}
	n, err := f.Write(f.out)
	f.emptied()
	return n, err
}

func (f *framed) emptied() {
	if f.out = f.out[:0]; cap(f.out) > keptBuffer {
		f.out = make([]byte, 0, writeBuffer)
	}
}

// flushLater has what was added go out when the next frame is waited for. That is for who
// sends the last frame before an answer, and then waits for it: see [sockio.Conn]. After
// that, sentLater is called before anything is added.
func (f *framed) flushLater() (int, error) {
	socket, ok := f.Conn.(*sockio.Conn)
	if !ok || f.in.Buffered() > 0 { // it would go out only after what has come already
		return f.flush()
	}
	f.due = len(f.out)
	socket.WriteLater(f.out)
	return 0, nil
}

// sentLater returns how many bytes went out after flushLater, and of how many.
func (f *framed) sentLater() (n, of int) {
	if f.due == 0 {
		return 0, 0
	}
	of, n = f.due, f.due-f.Conn.(*sockio.Conn).Unwritten()
	f.due = 0
	f.emptied()
	return n, of
}
