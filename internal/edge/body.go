package edge

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// checkContentLength refuses a body that says itself that it is too large.
func (rt *Router) checkContentLength(r *http.Request) error {
	if rt.maxRequestBytes > 0 && r.ContentLength > rt.maxRequestBytes {
		return model.Errorf(model.ErrContentLengthTooLarge,
			"Content-Length too large for this server, %d > max %d", r.ContentLength, rt.maxRequestBytes)
	}
	return nil
}

// limitBody puts the router's limits around the body of r, if it has one. The
// caller calls finish on the result, if there is one, when the handler is done.
func (rt *Router) limitBody(w http.ResponseWriter, r *http.Request) *timedBody {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	if _, held := r.Body.(*invoke.HeldBody); held {
		return nil // it has a length, which was checked, and it has arrived
	}
	var timed *timedBody
	if rt.bodyReadTimeout > 0 {
		timed = &timedBody{src: r.Body, conn: http.NewResponseController(w), left: rt.bodyReadTimeout}
		r.Body = timed
	}
	if rt.maxRequestBytes > 0 {
		r.Body = LimitBody(r.Body, rt.maxRequestBytes)
	}
	return timed
}

// LimitBody returns body cut to maxBytes: Read returns
// [model.ErrRequestTooLarge] where a longer one would go on. It is not safe for
// concurrent use.
func LimitBody(body io.ReadCloser, maxBytes int64) io.ReadCloser {
	return &sizedBody{ReadCloser: body, left: maxBytes}
}

type sizedBody struct {
	io.ReadCloser
	left int64 // bytes that may still come
	err  error // sticky
}

func (b *sizedBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	// One byte more than allowed tells a body that is too long from one that fits exactly.
	if int64(len(p))-1 > b.left {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n, err = int(b.left), model.ErrRequestTooLarge
	}
	b.left -= int64(n)
	b.err = err
	return n, err
}

// timedBody limits the time that reading a body may block. It does so with the
// read deadline of the connection, which it must hand back as the server needs it:
//
//   - During Read the deadline is the end of what is left of the budget.
//   - After Read has returned the end of the body, the server itself reads
//     from the connection to notice when the client leaves. The deadline is
//     cleared, or it would look like a client that left.
//   - When the handler returns before that, the server discards what is left of
//     the body to be able to use the connection again. The deadline is set once
//     more so that this cannot take for ever; the server resets it before it
//     waits for the next request.
//
// The deadline is the whole connection's, so after finish it is never touched,
// also if somebody still holds on to the body.
type timedBody struct {
	src  io.ReadCloser
	conn *http.ResponseController

	mu       sync.Mutex    // guards the rest and the deadline; not held while reading
	left     time.Duration // budget
	timedOut bool
	ended    bool // src has returned an error, usually io.EOF
	finished bool
}

func (b *timedBody) Read(p []byte) (int, error) {
	if err := b.arm(); err != nil {
		return 0, err
	}
	start := time.Now()
	n, err := b.src.Read(p)
	return n, b.settle(time.Since(start), err)
}

func (b *timedBody) Close() error { return b.src.Close() }

func (b *timedBody) arm() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.finished:
		return http.ErrBodyReadAfterClose
	case b.timedOut:
		return model.ErrRequestTimeout
	case !b.ended:
		b.setDeadlineLocked(time.Now().Add(b.left))
	}
	return nil
}

func (b *timedBody) settle(spent time.Duration, err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left -= spent
	switch {
	case b.finished || b.ended:
		return err
	case errors.Is(err, os.ErrDeadlineExceeded) && b.left > 0:
		b.ended = true // whoever reads it has given it up; the deadline stays as it is
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.timedOut = true
		return model.ErrRequestTimeout
	case err != nil:
		b.ended = true
		b.setDeadlineLocked(time.Time{})
	}
	return err
}

// finish ends the handler's use of the body.
func (b *timedBody) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finished = true
	if !b.ended && !b.timedOut {
		b.setDeadlineLocked(time.Now().Add(b.left))
	}
}

func (b *timedBody) expired() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.timedOut
}

func (b *timedBody) setDeadlineLocked(deadline time.Time) {
	// A writer that has no deadlines, as in tests without a connection, has no
	// limit either; on a closed connection Read fails by itself.
	_ = b.conn.SetReadDeadline(deadline)
}
