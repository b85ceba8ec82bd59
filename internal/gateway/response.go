package gateway

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/tinefn/tine/invoke"
)

// flushDelay is how long bytes of a streamed answer may wait for more to come
// along. Short answers of unknown length end before, so that they go out in
// one piece, with a length.
const flushDelay = 10 * time.Millisecond

// copyBuffer is what bodies pass through.
type copyBuffer [32 << 10]byte

var copyBuffers = sync.Pool{New: func() any { return new(copyBuffer) }}

// send writes status, header and body. After it has begun, a failure of the
// function can only be shown by cutting the connection, which the error makes
// the server do.
func send(w http.ResponseWriter, status int, response *invoke.Response) (err error) {
	defer func() { err = withClose(err, response.Body) }()
	if response.ContentLength >= 0 && bodyAllowed(status) {
		w.Header().Set("Content-Length", strconv.FormatInt(response.ContentLength, 10))
	}
	if !bodyAllowed(status) {
		sendBare(w, status, response.Body)
		return nil
	}
	if status != http.StatusOK || response.ContentLength == 0 {
		w.WriteHeader(status)
	}
	if held, ok := response.Body.(*invoke.HeldBody); ok && len(held.Bytes()) <= len(copyBuffer{}) {
		_, err = w.Write(held.Bytes())
		return err
	}
	out := io.Writer(w)
	if response.ContentLength < 0 {
		flusher := newDelayedFlusher(w)
		defer flusher.stop()
		out = flusher
	}
	buf := copyBuffers.Get().(*copyBuffer)
	defer copyBuffers.Put(buf)
	// The wrapper hides WriterTo: a held body would be written in one piece
	// without the client's pace being felt.
	_, err = io.CopyBuffer(onlyWriter{out}, onlyReader{response.Body}, buf[:])
	return err
}

// sendBare sends a response without a body. The client has all of it at once, whatever
// comes of the function's answer, which is read to its end: to close it before means that
// nobody waited for it.
func sendBare(w http.ResponseWriter, status int, answer io.Reader) {
	w.WriteHeader(status)
	if _, held := answer.(*invoke.HeldBody); held {
		return
	}
	_ = http.NewResponseController(w).Flush() // the server notices too
	_, _ = io.Copy(io.Discard, answer)        // whoever executed the call reports how it ended
}

type onlyReader struct{ io.Reader }

type onlyWriter struct{ io.Writer }

// bodyAllowed reports whether a response of that status can have a body.
func bodyAllowed(status int) bool {
	return status >= http.StatusOK && status != http.StatusNoContent && status != http.StatusNotModified
}

// delayedFlusher sends what was written, the header to begin with, at the
// latest after flushDelay.
type delayedFlusher struct {
	conn *http.ResponseController

	mu      sync.Mutex // guards the rest; the server's writer is not safe for concurrent use
	w       io.Writer
	timer   *time.Timer
	pending bool
	stopped bool
}

func newDelayedFlusher(w http.ResponseWriter) *delayedFlusher {
	f := &delayedFlusher{conn: http.NewResponseController(w), w: w, pending: true}
	f.mu.Lock() // the timer may fire before it is assigned
	defer f.mu.Unlock()
	f.timer = time.AfterFunc(flushDelay, f.flush)
	return f
}

func (f *delayedFlusher) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.w.Write(p)
	if err != nil || f.pending {
		return n, err
	}
	f.pending = true
	f.timer.Reset(flushDelay)
	return n, nil
}

func (f *delayedFlusher) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pending && !f.stopped {
		f.pending = false
		_ = f.conn.Flush() // the next write fails too
	}
}

// stop ends the flushing; afterwards the writer is the caller's alone again.
func (f *delayedFlusher) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	f.timer.Stop()
}

// withClose closes a body and adds what goes wrong to err.
func withClose(err error, body io.Closer) error { return errors.Join(err, body.Close()) }
