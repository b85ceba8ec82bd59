package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

func TestDirectCallPassesRequestAndAnswerThrough(t *testing.T) {
	f := says(http.Header{
		"Content-Type": {"text/x"}, "Fn-Http-Status": {"404"}, "Fn-Http-H-A": {"1"}, "Custom": {"a", "b"},
		"Keep-Alive": {"timeout=5"}, "Connection": {"x-private"}, "X-Private": {"p"}, "Fn-Call-Id": {"own"},
	}, "answer")
	server, _ := serve(t, f, edge.Options{})
	response, body := do(t, newRequest(t, "POST", server.URL+"/invoke/f1?query=lost", "hello", http.Header{
		"Content-Type": {"text/y"}, "Fn-Intent": {"httprequest"}, "Is-Dry-Run": {"true"}, "X-Many": {"1", "2"},
		"Keep-Alive": {"5"}, "Te": {"trailers"}, "Proxy-Authorization": {"secret"}, "User-Agent": {"test"},
	}))
	if response.StatusCode != 200 || body != "answer" || response.ContentLength != 6 {
		t.Errorf("got %d %q, length %d", response.StatusCode, body, response.ContentLength)
	}
	ids := response.Header["Fn-Call-Id"]
	if len(ids) != 2 || len(ids[0]) != model.IDLength || ids[1] != "own" {
		t.Errorf("Fn-Call-Id: %q", ids)
	}
	for _, name := range []string{"Date", "Content-Length", "Fn-Call-Id"} {
		response.Header.Del(name)
	}
	if diff := cmp.Diff(http.Header{
		"Content-Type": {"text/x"}, "Fn-Http-Status": {"404"}, "Fn-Http-H-A": {"1"}, "Custom": {"a", "b"},
	}, response.Header); diff != "" {
		t.Errorf("answer's header (-want +got)\n%s", diff)
	}
	for _, name := range []string{"Accept-Encoding", "Content-Length"} {
		f.header.Del(name)
	}
	if diff := cmp.Diff(http.Header{
		"Content-Type": {"text/y"}, "Fn-Intent": {"httprequest"}, "Is-Dry-Run": {"true"}, "X-Many": {"1", "2"},
		"Te": {"trailers"}, "User-Agent": {"test"},
	}, f.header); diff != "" {
		t.Errorf("call's header (-want +got)\n%s", diff)
	}
	if f.body != "hello" || f.length != 5 || !f.closed {
		t.Errorf("call's body %q, length %d, answer closed: %v", f.body, f.length, f.closed)
	}
}

func TestErrorsReachTheClientInTheirForm(t *testing.T) {
	for name, test := range map[string]struct {
		err        error
		status     int
		message    string
		hasCallID  bool
		retryAfter string
	}{
		"of the function": {model.ErrFunctionFailed, 502, "function failed", true, ""},
		"timeout":         {model.ErrCallTimeout, 504, "Timed out", true, ""},
		"busy":            {errors.Join(model.ErrServerBusy, invoke.ErrNotPlaced), 503, "Timed out - server too busy", true, "15"},
		"too big":         {model.ErrTooBigForNode, 400, "Requested CPU/Memory cannot be allocated", false, ""},
		"unknown":         {errors.New("secret detail"), 500, "internal server error", true, ""},
		"pull":            {&model.Error{Kind: model.ErrImagePullFailed, Message: "Failed to pull image 'x': no", Status: 404}, 404, "Failed to pull image 'x': no", true, ""},
	} {
		for _, path := range []string{"/invoke/f1", "/t/shop/pay"} {
			t.Run(name+path, func(t *testing.T) {
				server, _ := serve(t, fails(test.err), edge.Options{})
				response, body := do(t, newRequest(t, "POST", server.URL+path, "", nil))
				if response.StatusCode != test.status || body != `{"message":"`+test.message+"\"}\n" {
					t.Errorf("got %d %q", response.StatusCode, body)
				}
				if got := response.Header.Get("Fn-Call-Id") != ""; got != test.hasCallID {
					t.Errorf("has a call ID: %v", got)
				}
				if got := response.Header.Get("Retry-After"); got != test.retryAfter {
					t.Errorf("Retry-After %q", got)
				}
				if got := response.Header.Get("Content-Type"); got != "application/json; charset=utf-8" {
					t.Errorf("Content-Type %q", got)
				}
			})
		}
	}
}

func TestUnknownFunctionHasNoCallID(t *testing.T) {
	server, _ := serve(t, says(nil, ""), edge.Options{})
	response, body := do(t, newRequest(t, "POST", server.URL+"/invoke/nope", "", nil))
	if response.StatusCode != 404 || body != `{"message":"Fn not found"}`+"\n" || response.Header.Get("Fn-Call-Id") != "" {
		t.Errorf("got %d %q %q", response.StatusCode, body, response.Header.Get("Fn-Call-Id"))
	}
}

func TestDetachedCallIsAcceptedWhenItBegins(t *testing.T) {
	release := make(chan struct{})
	ended := make(chan error, 1)
	f := &function{answer: func(ctx context.Context, _ *invoke.Call) (*invoke.Response, error) {
		<-release
		ended <- ctx.Err()
		return nil, model.ErrFunctionFailed
	}}
	server, _ := serve(t, f, edge.Options{})
	response, body := do(t, newRequest(t, "POST", server.URL+"/invoke/f1", "work", http.Header{"Fn-Invoke-Type": {"detached"}}))
	if response.StatusCode != 202 || body != "" || response.ContentLength != 0 || response.Header.Get("Fn-Call-Id") == "" {
		t.Errorf("got %d %q, length %d", response.StatusCode, body, response.ContentLength)
	}
	close(release)
	if err := <-ended; err != nil {
		t.Errorf("the call ended with its client: %v", err)
	}
	if f.body != "work" {
		t.Errorf("the function got %q", f.body)
	}
}

func TestDetachedCallThatNeverBeginsFails(t *testing.T) {
	never := invoke.InvokerFunc(func(context.Context, *invoke.Call) (*invoke.Response, error) { return nil, model.ErrServerBusy })
	server, _ := serve(t, never, edge.Options{})
	response, _ := do(t, newRequest(t, "POST", server.URL+"/invoke/f1", "", http.Header{"Fn-Invoke-Type": {"detached"}}))
	if response.StatusCode != 503 {
		t.Errorf("got %d", response.StatusCode)
	}
}

func TestDetachedBodyIsBounded(t *testing.T) {
	server, _ := serve(t, says(nil, ""), edge.Options{})
	response, body := do(t, newRequest(t, "POST", server.URL+"/invoke/f1", strings.Repeat("x", 101), http.Header{"Fn-Invoke-Type": {"detached"}}))
	if response.StatusCode != 413 || !strings.Contains(body, "Request content too large") {
		t.Errorf("got %d %q", response.StatusCode, body)
	}
}

func TestCloseGivesUpDetachedCallsAtItsDeadline(t *testing.T) {
	f := &function{answer: func(ctx context.Context, _ *invoke.Call) (*invoke.Response, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	server, g := serve(t, f, edge.Options{})
	if response, _ := do(t, newRequest(t, "POST", server.URL+"/invoke/f1", "", http.Header{"Fn-Invoke-Type": {"detached"}})); response.StatusCode != 202 {
		t.Fatalf("got %d", response.StatusCode)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := g.Close(ctx); err == nil {
		t.Error("no error although a call was given up")
	}
}

func TestCloseGivesUpADetachedCallWhoseAnswerHasBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, writer := streams(t)
		router, g := route(t, f, edge.Options{}, slog.DiscardHandler)
		w := httptest.NewRecorder()
		router.ServeHTTP(w, newRequest(t, "POST", "/invoke/f1", "", http.Header{"Fn-Invoke-Type": {"detached"}}))
		if w.Code != 202 {
			t.Fatalf("got %d", w.Code)
		}
		synctest.Wait()
		time.AfterFunc(time.Hour, func() { writer.Close() }) // the function takes that long
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := g.Close(ctx); err == nil || time.Since(began) != time.Second {
			t.Errorf("closed after %v: %v", time.Since(began), err)
		}
		if f.isClosed() {
			t.Error("the answer was closed while it is read")
		}
		time.Sleep(2 * time.Hour)
		if !f.isClosed() {
			t.Error("the answer was never closed")
		}
	})
}

func TestDetachedCallAfterCloseIsRefused(t *testing.T) {
	server, g := serve(t, says(nil, ""), edge.Options{})
	if err := g.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	response, _ := do(t, newRequest(t, "POST", server.URL+"/invoke/f1", "", http.Header{"Fn-Invoke-Type": {"detached"}}))
	if response.StatusCode != 503 {
		t.Errorf("got %d", response.StatusCode)
	}
}
