package client

import (
	"context"
	"net/http"
)

// traceHeaders are those of Zipkin's B3 propagation, in its several headers and
// in its single one, as net/http writes them.
var traceHeaders = [...]string{"B3", "X-B3-Traceid", "X-B3-Spanid", "X-B3-Parentspanid", "X-B3-Sampled", "X-B3-Flags"}

type traceKey struct{}

// WithTrace returns a context whose requests carry the B3 trace headers of header,
// which is that of the request on whose behalf they are sent. It returns ctx itself
// if header has none.
func WithTrace(ctx context.Context, header http.Header) context.Context {
	var found http.Header
	for _, name := range traceHeaders {
		if values := header[name]; len(values) > 0 {
			if found == nil {
				found = http.Header{}
			}
			found[name] = values
		}
	}
	if found == nil {
		return ctx
	}
	return context.WithValue(ctx, traceKey{}, found)
}

func traceOf(ctx context.Context) http.Header {
	found, _ := ctx.Value(traceKey{}).(http.Header)
	return found
}
