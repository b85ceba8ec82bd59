package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tinefn/tine/internal/catalog"
	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/model"
)

type traceKey struct{}

// traced is a source that notes what the context of its questions carries.
type traced struct {
	definitions
	got *[]any
}

func (s traced) FnByID(ctx context.Context, id string) (*model.Fn, error) {
	*s.got = append(*s.got, ctx.Value(traceKey{}))
	return s.definitions.FnByID(ctx, id)
}

func TestTraceOfTheRequestReachesTheSource(t *testing.T) {
	var got []any
	router, err := edge.NewRouter(edge.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g := New(Options{
		Catalog: catalog.New(traced{got: &got}, 0), Invoker: says(nil, ""), Logger: slog.New(slog.DiscardHandler),
		Trace: func(ctx context.Context, header http.Header) context.Context {
			return context.WithValue(ctx, traceKey{}, header.Get("X-Trace"))
		},
	})
	g.Register(router)
	server := httptest.NewServer(router)
	defer server.Close()
	do(t, newRequest(t, "POST", server.URL+"/invoke/f1", "", http.Header{"X-Trace": {"direct"}}))
	do(t, newRequest(t, "GET", server.URL+"/t/shop/pay", "", http.Header{"X-Trace": {"trigger"}}))
	if len(got) != 2 || got[0] != "direct" || got[1] != "trigger" {
		t.Errorf("got %v", got)
	}
}
