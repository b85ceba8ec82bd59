package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/invoke"
)

// TestPanicOfADetachedCallDoesNotEndTheServer has an invoker that panics, as one
// of a program that embeds a node may. Where a client waits, the HTTP server
// recovers from that.
func TestPanicOfADetachedCallDoesNotEndTheServer(t *testing.T) {
	for name, test := range map[string]struct {
		begin  func(*invoke.Call)
		status int
	}{
		"before it begins": {func(*invoke.Call) {}, http.StatusInternalServerError},
		"at work":          {func(call *invoke.Call) { call.OnStart() }, http.StatusAccepted},
	} {
		t.Run(name, func(t *testing.T) {
			server, g := serve(t, invoke.InvokerFunc(func(_ context.Context, call *invoke.Call) (*invoke.Response, error) {
				test.begin(call)
				panic("for the test")
			}), edge.Options{})
			response, body := do(t, newRequest(t, "POST", server.URL+"/invoke/f1", "x", http.Header{"Fn-Invoke-Type": {"detached"}}))
			if response.StatusCode != test.status {
				t.Errorf("got %d %s", response.StatusCode, body)
			}
			if err := g.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// brokenBody is an answer that panics, as one may that a program has wrapped.
type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { panic("for the test") }

func (brokenBody) Close() error { return nil }

func TestDetachedAnswerThatPanicsIsClosedAndLogged(t *testing.T) {
	f := &function{answer: func(context.Context, *invoke.Call) (*invoke.Response, error) {
		return &invoke.Response{Header: http.Header{}, Body: brokenBody{}, ContentLength: -1}, nil
	}}
	var log lockedLog
	router, g := route(t, f, edge.Options{}, slog.NewTextHandler(&log, nil))
	w := httptest.NewRecorder()
	router.ServeHTTP(w, newRequest(t, "POST", "/invoke/f1", "", http.Header{"Fn-Invoke-Type": {"detached"}}))
	if w.Code != http.StatusAccepted {
		t.Errorf("got %d", w.Code)
	}
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if !f.isClosed() {
		t.Error("its instance stays busy for ever")
	}
	if text := log.String(); strings.Count(text, "level=") != 1 || !strings.Contains(text, "brokenBody.Read") {
		t.Errorf("the log says %s", text)
	}
}
