package gateway

import (
	"context"
	"net/http"
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
