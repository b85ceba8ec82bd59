package edge

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/tinefn/tine/model"
)

// requestIDAttr is the log attribute of a request's identifier.
const requestIDAttr = "fn_request_id"

// maxRequestIDBytes bounds what a client can put into every log line.
const maxRequestIDBytes = 128

// requestContext is what the router knows of a request, in its context.
type requestContext struct {
	context.Context
	id         string // "" if identifiers are off
	params     []param
	fdkVersion string     // of the function that answered
	body       *timedBody // nil: there is none, or it has no limit of time
	failure    error      // that was answered; nil: none
}

// param is a parameter of the path, decoded.
type param struct{ name, value string }

type requestKey struct{}

// Value returns c itself for the router's key.
func (c *requestContext) Value(key any) any {
	if key == (requestKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// requestOf returns what the router knows of the request that ctx belongs to,
// or nil.
func requestOf(ctx context.Context) *requestContext {
	known, _ := ctx.Value(requestKey{}).(*requestContext)
	return known
}

// RequestID returns the identifier of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	if known := requestOf(ctx); known != nil {
		return known.id
	}
	return ""
}

// WithRequestID returns a context of a request that another node has received and
// given this identifier. One that is not presentable is dropped.
func WithRequestID(ctx context.Context, id string) context.Context {
	if !isRequestID(id) {
		return ctx
	}
	return &requestContext{Context: ctx, id: id}
}

// requestID returns an identifier if the router is set up for them: what the
// router's options make of the client's own, or that itself, if it is presentable,
// else a new one.
func (rt *Router) requestID(r *http.Request) string {
	if rt.requestIDHeader == "" {
		return ""
	}
	id := r.Header.Get(rt.requestIDHeader)
	if rt.newRequestID != nil {
		id = rt.newRequestID(id)
	}
	if isRequestID(id) {
		return id
	}
	return model.NewID()
}

// isRequestID accepts printable ASCII, so that an identifier stays within its
// log line.
func isRequestID(id string) bool {
	for i := range len(id) {
		if id[i] < ' ' || id[i] > '~' {
			return false
		}
	}
	return id != "" && len(id) <= maxRequestIDBytes
}

// LogHandler returns a handler that adds the request's identifier to records
// whose context carries one, and passes them on to next.
func LogHandler(next slog.Handler) slog.Handler { return logHandler{next} }

type logHandler struct{ next slog.Handler }

func (h logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h logHandler) Handle(ctx context.Context, record slog.Record) error {
	if id := RequestID(ctx); id != "" {
		record = record.Clone()
		record.AddAttrs(slog.String(requestIDAttr, id))
	}
	return h.next.Handle(ctx, record)
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{h.next.WithAttrs(attrs)}
}

func (h logHandler) WithGroup(name string) slog.Handler {
	return logHandler{h.next.WithGroup(name)}
}
