package edge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/tinefn/tine/model"
)

// How long a client should leave a busy server alone: what the error says
// within these bounds, or what Fn says if the error says nothing.
const (
	leastRetryAfter   = time.Second
	mostRetryAfter    = 5 * time.Minute
	defaultRetryAfter = 15 * time.Second
)

// retryAfter returns the value of the header, in whole seconds.
func retryAfter(err error) string {
	after := cmp.Or(model.RetryAfter(err), defaultRetryAfter)
	after = min(max(after, leastRetryAfter), mostRetryAfter)
	return strconv.Itoa(int((after + time.Second - 1) / time.Second))
}

// PanicError is a panic of a handler, or of what is called for one, on its way to the log.
type PanicError struct {
	Cause any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Cause) }

// WriteError answers a request that failed with {"message":"..."} and the
// status of the first kind in err's chain. Failures of the platform are logged
// with their cause, which the client does not see.
//
// For a client that has left it sends nothing but the status 444, for metrics.
// A cancellation counts as that only if the request itself was cancelled or err
// says so by its kind.
func WriteError(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	log = loggerOrDiscard(log)
	d := describe(r, err)
	if d.Kind == model.ErrClientCanceled {
		logFailure(log, r, slog.LevelDebug, "client left", err)
		w.WriteHeader(d.Status)
		return
	}
	switch {
	case d.Kind == model.ErrServerBusy:
		logFailure(log, r, slog.LevelInfo, "server busy", err)
	case d.IsServerFault():
		logFailure(log, r, slog.LevelError, "request failed", err)
	}

	header := w.Header()
	// What a handler said about a body that will not come would spoil this one.
	for _, name := range []string{"Content-Encoding", "Content-Range", "Etag", "Last-Modified", "Trailer", "Transfer-Encoding"} {
		header.Del(name)
	}
	if d.Kind == model.ErrServerBusy {
		header.Set("Retry-After", retryAfter(err))
	}
	if bodyIsLost(d.Kind) && r.ProtoMajor == 1 {
		header.Set("Connection", "close")
	}
	body, err := encode(struct {
		Message string `json:"message"`
	}{d.Text})
	if err != nil { // cannot happen: any string has a JSON form
		panic(err)
	}
	writeBody(w, d.Status, append(body, '\n')) //nolint:errcheck // the client is gone, there is nobody to tell
}

// busyLogEvery is how often the log says that the server is busy. One that is
// refuses thousands of requests in that time.
const busyLogEvery = time.Second

// busyLog keeps the log from overflowing when the server does.
type busyLog struct {
	mu      sync.Mutex // guards the rest
	next    time.Time
	skipped int
}

// logger returns where a failure is to be logged: nowhere, if it is one of many.
func (b *busyLog) logger(log *slog.Logger, err error) *slog.Logger {
	if model.Describe(err).Kind != model.ErrServerBusy {
		return log
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if now.Before(b.next) {
		b.skipped++
		return nil
	}
	b.next = now.Add(busyLogEvery)
	if b.skipped > 0 {
		log = log.With(slog.Int("others", b.skipped))
		b.skipped = 0
	}
	return log
}

// describe is model.Describe with the knowledge of whether the client is there.
func describe(r *http.Request, err error) model.Description {
	d := model.Describe(err)
	_, there := errors.AsType[*clientIsThere](err)
	left := errors.Is(r.Context().Err(), context.Canceled) && !there
	switch {
	case d.Kind == model.ErrInternal && left && !isPanic(err):
		// Databases and engines rarely say that it was the context that ended them.
		return model.Describe(model.ErrClientCanceled)
	case d.Kind == model.ErrClientCanceled && !left && !errors.Is(err, model.ErrClientCanceled):
		return model.Describe(model.ErrInternal)
	}
	return d
}

// clientIsThere is an error of a request whose client has not left.
type clientIsThere struct{ error }

func (c *clientIsThere) Unwrap() error { return c.error }

// ClientIsThere marks the error of a request whose body was given up while it was read:
// the server takes the failing of that for the client's leaving, and ends the context.
func ClientIsThere(err error) error { return &clientIsThere{err} }

func isPanic(err error) bool {
	_, ok := errors.AsType[*PanicError](err)
	return ok
}

// bodyIsLost says that the rest of the request is not worth waiting for, so the
// connection cannot carry another one.
func bodyIsLost(kind model.Kind) bool {
	return kind == model.ErrContentLengthTooLarge || kind == model.ErrRequestTooLarge || kind == model.ErrRequestTimeout
}

// blameBodyTimeout replaces an error that is only a consequence of a body that
// did not arrive: the server cancels a request's context when reading from its
// connection fails.
func blameBodyTimeout(err error) error {
	if kind := model.Describe(err).Kind; kind == model.ErrInternal || kind == model.ErrClientCanceled {
		return fmt.Errorf("%w: %w", model.ErrRequestTimeout, err)
	}
	return err
}

func logFailure(log *slog.Logger, r *http.Request, level slog.Level, message string, err error) {
	attrs := []slog.Attr{
		slog.String("method", r.Method),
		slog.String("path", r.URL.Path),
		slog.Any("error", err),
	}
	if p, ok := errors.AsType[*PanicError](err); ok {
		attrs = append(attrs, slog.String("stack", string(p.Stack)))
	}
	log.LogAttrs(r.Context(), level, message, attrs...)
}
