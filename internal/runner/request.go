package runner

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// prefetchBytes is the size up to which a request's body is read before an
// instance is taken, so that a slow sender of a small request holds none, and
// up to which an answer is taken off its instance at once.
const prefetchBytes = 64 << 10

// errBodyTooLong says that a body went on behind its declared length.
var errBodyTooLong = errors.New("the request's body is longer than declared")

// prefetch reads a small body of known length into memory.
func prefetch(call *invoke.Call) error {
	if call.Body == nil || call.Body == http.NoBody {
		call.Body, call.ContentLength = http.NoBody, 0
	}
	if held, ok := call.Body.(*invoke.HeldBody); ok {
		call.ContentLength = int64(len(held.Bytes()))
		return nil
	}
	if call.ContentLength < 0 || call.ContentLength > prefetchBytes {
		return nil
	}
	// The end of the body is read too: until then it counts as unfinished, and
	// closing it would cost the client its connection.
	data := make([]byte, call.ContentLength+1)
	n, err := io.ReadFull(call.Body, data)
	if err == nil || int64(n) < call.ContentLength {
		return bodyError(cmp.Or(err, errBodyTooLong))
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return bodyError(err)
	}
	if err := call.Body.Close(); err != nil {
		return bodyError(err)
	}
	call.Body = invoke.HoldBody(data[:n])
	return nil
}

// bodyError says why a request's body could not be read: for a reason with a
// kind of its own, or because the client left.
func bodyError(err error) error {
	if model.Describe(err).Kind != model.ErrInternal {
		return err
	}
	return fmt.Errorf("%w: %w", model.ErrClientCanceled, err)
}

// ours are the headers that a caller has no say in.
var ours = map[string]bool{"Fn-Call-Id": true, "Fn-Deadline": true, "Content-Length": true, "Transfer-Encoding": true, "Host": true}

// writeHead writes the request line and the header as the function container
// contract has them.
func writeHead(b *bytes.Buffer, call *invoke.Call, deadline time.Time) {
	b.WriteString("POST /call HTTP/1.1\r\nHost: localhost\r\nFn-Call-Id: ")
	b.WriteString(call.ID)
	// Whole seconds is all that every function kit reads. Rounded up, because a
	// function with a timeout of a second must not find it over at once.
	b.WriteString("\r\nFn-Deadline: ")
	b.Write(deadline.Add(time.Second-1).UTC().Truncate(time.Second).AppendFormat(b.AvailableBuffer(), time.RFC3339))
	if call.ContentLength >= 0 {
		b.WriteString("\r\nContent-Length: ")
		b.Write(strconv.AppendInt(b.AvailableBuffer(), call.ContentLength, 10))
	} else {
		b.WriteString("\r\nTransfer-Encoding: chunked")
	}
	b.WriteString("\r\n")
	_ = call.Header.WriteSubset(b, ours) // a buffer does not fail
	b.WriteString("\r\n")
}

// sender streams a request's body to the function while the answer is awaited.
type sender struct {
	body    io.ReadCloser
	stopped atomic.Bool // set before body is closed: errors mean nothing then
	done    chan struct{}
	err     error // why the body could not be read; set before done is closed
}

// errNothingSent says that a connection took no byte of a request.
var errNothingSent = errors.New("nothing was sent")

// maxKeptBuffer is the largest buffer that a session keeps for its next
// request, in bytes.
const maxKeptBuffer = 8 << 10

// send writes the request. A body that is not in memory follows on its own
// goroutine, which the caller ends by stop; otherwise the sender is nil.
func (s *session) send(call *invoke.Call, deadline time.Time) (*sender, error) {
	conn := s.conn
	defer s.trimBuffer()
	s.out.Reset()
	writeHead(&s.out, call, deadline)
	held, inMemory := call.Body.(*invoke.HeldBody)
	if inMemory {
		s.out.Write(held.Bytes())
	}
	if !inMemory || s.out.Len() > maxKeptBuffer {
		if err := s.boundWriting(); err != nil {
			return nil, fmt.Errorf("%w: %w", errNothingSent, err)
		}
	}
	if n, err := conn.Write(s.out.Bytes()); err != nil {
		if n == 0 {
			return nil, fmt.Errorf("%w: %w", errNothingSent, err)
		}
		return nil, err
	}
	if inMemory {
		return nil, nil
	}
	body := &sender{body: call.Body, done: make(chan struct{})}
	go body.run(conn, call.ContentLength)
	return body, nil
}

// trimBuffer gives up a buffer that one large request needed.
func (s *session) trimBuffer() {
	if s.out.Cap() > maxKeptBuffer {
		s.out = bytes.Buffer{}
	}
}

func (s *sender) run(conn net.Conn, length int64) {
	defer close(s.done)
	if err := s.copy(conn, length); err != nil {
		s.err = err
		_ = conn.Close() // the function must not take a part for the whole
	}
}

// copy returns errors of reading only: those of writing show in the answer.
func (s *sender) copy(conn net.Conn, length int64) error {
	out := bufio.NewWriterSize(conn, 32<<10)
	var framed io.Writer = out
	var chunked io.WriteCloser
	if length < 0 {
		chunked = httputil.NewChunkedWriter(out)
		framed = chunked
	}
	buf := make([]byte, 32<<10)
	var sent int64
	for {
		n, readErr := s.body.Read(buf)
		sent += int64(n)
		if n > 0 {
			if _, err := framed.Write(buf[:n]); err != nil {
				return nil
			}
			if err := out.Flush(); err != nil {
				return nil
			}
		}
		if readErr == io.EOF {
			break
		}
		if readErr != nil {
			if s.stopped.Load() {
				return nil
			}
			return bodyError(readErr)
		}
	}
	if length >= 0 && sent != length {
		return bodyError(io.ErrUnexpectedEOF)
	}
	if chunked != nil {
		if err := chunked.Close(); err != nil {
			return nil
		}
		if _, err := out.WriteString("\r\n"); err != nil {
			return nil
		}
	}
	_ = out.Flush() // as above
	return nil
}

// finished reports whether the whole body was handed over.
func (s *sender) finished() bool {
	if s == nil {
		return true
	}
	select {
	case <-s.done:
		return s.err == nil
	default:
		return false
	}
}

// stop ends the sending; the connection must be closed if it is not finished.
// It returns why the body could not be read, if that is what ended it.
func (s *sender) stop() error {
	if s == nil {
		return nil
	}
	s.stopped.Store(true)
	err := s.body.Close()
	<-s.done
	return errors.Join(s.err, err)
}
