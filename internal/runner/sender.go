package runner

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http/httputil"
	"sync/atomic"
)

// sender sends what is left of a request while the answer is awaited.
type sender struct {
	conn   net.Conn
	rest   [][]byte      // of what is in memory, as it goes over the wire
	body   io.ReadCloser // what follows it; nil: nothing
	length int64         // of body, -1 if unknown

	stopped  atomic.Bool // set before body is closed: errors mean nothing then
	done     chan struct{}
	complete bool  // the whole request was written; set before done is closed
	err      error // why the body could not be read; likewise
}

func (s *sender) run() {
	defer close(s.done)
	for _, rest := range s.rest {
		if _, err := s.conn.Write(rest); err != nil {
			return // it shows in the answer
		}
	}
	if s.body == nil {
		s.complete = true
		return
	}
	if s.err = s.copy(); s.err != nil {
		_ = s.conn.Close() // the function must not take a part for the whole
	}
}

// copy streams the body. It returns errors of reading only: those of writing
// show in the answer.
func (s *sender) copy() error {
	out := bufio.NewWriterSize(s.conn, 32<<10)
	var framed io.Writer = out
	var chunked io.WriteCloser
	if s.length < 0 {
		chunked = httputil.NewChunkedWriter(out)
		framed = chunked
	}
	buf := make([]byte, 32<<10)
	for left := s.length; ; {
		n, readErr := s.body.Read(buf)
		if s.length >= 0 && int64(n) > left {
			return bodyError(errBodyTooLong)
		}
		left -= int64(n)
		if n > 0 {
			if _, err := framed.Write(buf[:n]); err != nil {
				return nil
			}
			if err := out.Flush(); err != nil {
				return nil
			}
		}
		if readErr == io.EOF {
			if s.length >= 0 && left != 0 {
				return bodyError(io.ErrUnexpectedEOF)
			}
			break
		}
		if readErr != nil {
			if s.stopped.Load() {
				return nil
			}
			return bodyError(readErr)
		}
	}
	if chunked != nil {
		if err := errors.Join(chunked.Close(), writeLineEnd(out)); err != nil {
			return nil
		}
	}
	s.complete = out.Flush() == nil
	return nil
}

func writeLineEnd(w io.Writer) error {
	_, err := io.WriteString(w, "\r\n")
	return err
}

// finished reports whether the whole request was handed over.
func (s *sender) finished() bool {
	if s == nil {
		return true
	}
	select {
	case <-s.done:
		return s.complete
	default:
		return false
	}
}

// stop ends the sending and waits for that: after it nobody reads the body. The
// connection cannot carry another request if this one is not finished. It
// returns why the body could not be read, if that is what ended it.
func (s *sender) stop() error {
	if s == nil {
		return nil
	}
	if !s.stopped.Swap(true) {
		_ = s.conn.SetWriteDeadline(longAgo) // on a connection that is closed, writing has ended
		if s.body != nil {
			_ = s.body.Close() // what is left of it does not matter
		}
	}
	<-s.done
	return s.err
}
