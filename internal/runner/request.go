package runner

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
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
	switch {
	case err == nil:
		err = errBodyTooLong
	case int64(n) == call.ContentLength && (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)):
		err = nil // as long as it should be
	}
	if err = errors.Join(err, call.Body.Close()); err != nil {
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

// errNothingSent says that a connection took no byte of a request.
var errNothingSent = errors.New("nothing was sent")

// Sizes for a session's buffer, in bytes: bodies up to the first are copied to
// their head, so that both go out in one write, and buffers larger than the
// second are not kept.
const (
	maxJoinedBody = 8 << 10
	maxKeptBuffer = 16 << 10
)

// send writes the request, as far as the socket's buffer takes it at once. What
// is left follows on its own goroutine, which the caller ends by stop; if that
// is nothing the sender is nil.
func (s *session) send(call *invoke.Call, deadline time.Time) (*sender, error) {
	s.out.Reset()
	writeHead(&s.out, call, deadline)
	var held []byte
	body := call.Body
	if h, ok := body.(*invoke.HeldBody); ok {
		held, body = h.Bytes(), nil
	}
	if len(held) <= maxJoinedBody {
		s.out.Write(held)
		held = nil
	}
	head := s.out.Bytes()
	if s.out.Cap() > maxKeptBuffer {
		s.out = bytes.Buffer{}
	}
	n, err := s.conn.WriteNow(head)
	switch {
	case err != nil && n == 0:
		return nil, fmt.Errorf("%w: %w", errNothingSent, err)
	case err != nil:
		return nil, err
	case n == len(head) && held == nil && body == nil:
		return nil, nil
	}
	if err := s.boundWriting(); err != nil {
		return nil, err
	}
	follows := &sender{conn: s.conn, rest: [][]byte{head[n:], held}, body: body, length: call.ContentLength, done: make(chan struct{})}
	go follows.run()
	return follows, nil
}
