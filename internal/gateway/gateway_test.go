package gateway

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/internal/catalog"
	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// definitions is a source with one function and one trigger.
type definitions struct{}

func (definitions) AppByID(context.Context, string) (*model.App, error) {
	return &model.App{ID: "a1", Name: "shop"}, nil
}

func (definitions) AppIDByName(_ context.Context, name string) (string, error) {
	if name != "shop" {
		return "", model.ErrAppNotFound
	}
	return "a1", nil
}

func (definitions) FnByID(_ context.Context, id string) (*model.Fn, error) {
	if id != "f1" {
		return nil, model.ErrFnNotFound
	}
	return &model.Fn{ID: "f1", AppID: "a1", Name: "pay"}, nil
}

func (definitions) TriggerBySource(_ context.Context, _, _, source string) (*model.Trigger, error) {
	if source != "/pay" && source != "/" && source != "//twice/" {
		return nil, model.ErrTriggerNotFound
	}
	return &model.Trigger{ID: "t1", AppID: "a1", FnID: "f1"}, nil
}

// function is an invoker that keeps the call and answers as it is told.
type function struct {
	answer func(ctx context.Context, call *invoke.Call) (*invoke.Response, error)

	mu     sync.Mutex
	header http.Header
	body   string
	length int64
	closed bool
}

func (f *function) Invoke(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
	body, err := io.ReadAll(call.Body)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.header, f.body, f.length = call.Header.Clone(), string(body), call.ContentLength
	f.mu.Unlock()
	if call.OnStart != nil {
		call.OnStart()
	}
	response, err := f.answer(ctx, call)
	if response != nil {
		response.Body = closeNoter{response.Body, func() { f.mu.Lock(); f.closed = true; f.mu.Unlock() }}
	}
	return response, err
}

type closeNoter struct {
	io.ReadCloser
	note func()
}

func (c closeNoter) Close() error { c.note(); return c.ReadCloser.Close() }

// says makes a function that answers with header and body.
func says(header http.Header, body string) *function {
	return &function{answer: func(context.Context, *invoke.Call) (*invoke.Response, error) {
		return &invoke.Response{Header: header.Clone(), Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}, nil
	}}
}

func fails(err error) *function {
	return &function{answer: func(context.Context, *invoke.Call) (*invoke.Response, error) { return nil, err }}
}

func serve(t *testing.T, f invoke.Invoker, opts edge.Options) (*httptest.Server, *Gateway) {
	t.Helper()
	router, err := edge.NewRouter(opts)
	if err != nil {
		t.Fatal(err)
	}
	g := New(Options{
		Catalog: catalog.New(definitions{}, catalog.DefaultTTL), Invoker: f,
		Logger: slog.New(slog.DiscardHandler), MaxDetachedBytes: 100,
	})
	g.Register(router)
	server := httptest.NewServer(router)
	t.Cleanup(func() {
		server.Close()
		if err := g.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return server, g
}

func do(t *testing.T, request *http.Request) (*http.Response, string) {
	t.Helper()
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func newRequest(t *testing.T, method, url, body string, header http.Header) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		request.Header = header
	}
	return request
}

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

func TestTriggerEncapsulatesTheRequest(t *testing.T) {
	f := says(nil, "")
	server, _ := serve(t, f, edge.Options{})
	request := newRequest(t, "DELETE", server.URL+"/t/shop/pay?a=b%20c&d", "x", http.Header{
		"Content-Type": {"text/y"}, "Test-Header": {"1", "2"}, "Keep-Alive": {"5"}, "Fn-Call-Id": {"forged"},
		"Fn-Invoke-Type": {"detached"}, "User-Agent": {"test"}, "Authorization": {"secret"},
	})
	request.Host = "fn.example.com"
	response, _ := do(t, request)
	if response.StatusCode != 200 {
		t.Fatalf("status %d", response.StatusCode)
	}
	if diff := cmp.Diff(http.Header{
		"Content-Type": {"text/y"}, "Fn-Http-H-Test-Header": {"1", "2"}, "Fn-Http-H-Fn-Call-Id": {"forged"},
		"Fn-Http-H-Fn-Invoke-Type": {"detached"}, "Fn-Http-H-User-Agent": {"test"}, "Fn-Http-H-Authorization": {"secret"},
		"Fn-Http-H-Accept-Encoding": {"gzip"}, "Fn-Http-H-Content-Length": {"1"},
		"Fn-Http-Method": {"DELETE"}, "Fn-Intent": {"httprequest"},
		"Fn-Http-Request-Url": {"http://fn.example.com/t/shop/pay?a=b%20c&d"},
	}, f.header); diff != "" {
		t.Errorf("call's header (-want +got)\n%s", diff)
	}
}

func TestTriggerTurnsTheAnswerBack(t *testing.T) {
	f := says(http.Header{
		"Content-Type": {"text/x"}, "Fn-Http-Status": {"202"}, "Fn-Http-H-Return-Header": {"1", "2"}, "Fn-Http-H-": {"dropped"},
		"Fn-Fdk-Version": {"x"}, "Unprefixed": {"y"}, "Fn-Call-Id": {"forged"},
		"Fn-Http-H-Content-Length": {"9999"}, "Fn-Http-H-Transfer-Encoding": {"gzip"}, "Fn-Http-H-Keep-Alive": {"5"},
		"Fn-Http-H-Vary": {"Cookie"},
	}, "answer")
	server, _ := serve(t, f, edge.Options{CORSOrigins: []string{"https://page.example.com"}})
	response, body := do(t, newRequest(t, "GET", server.URL+"/t/shop/pay", "", http.Header{"Origin": {"https://page.example.com"}}))
	if response.StatusCode != 202 || body != "answer" || response.ContentLength != 6 {
		t.Errorf("got %d %q, length %d", response.StatusCode, body, response.ContentLength)
	}
	if id := response.Header.Get("Fn-Call-Id"); len(id) != model.IDLength {
		t.Errorf("Fn-Call-Id: %q", id)
	}
	for _, name := range []string{"Date", "Content-Length", "Fn-Call-Id"} {
		response.Header.Del(name)
	}
	if diff := cmp.Diff(http.Header{
		"Content-Type": {"text/x"}, "Return-Header": {"1", "2"},
		"Access-Control-Allow-Origin": {"https://page.example.com"}, "Vary": {"Cookie"},
	}, response.Header); diff != "" {
		t.Errorf("answer's header (-want +got)\n%s", diff)
	}
}

func TestStatusOfTriggerAnswers(t *testing.T) {
	for given, want := range map[string]int{
		"": 200, "200": 200, "404": 404, "302": 302, "599": 599, "204": 204, "304": 304,
		"word": 200, "0": 200, "-1": 200, "100": 502, "101": 502, "199": 502, "600": 502, "99999": 502,
	} {
		t.Run("status "+given, func(t *testing.T) {
			server, _ := serve(t, says(http.Header{"Fn-Http-Status": {given}}, ""), edge.Options{})
			response, body := do(t, newRequest(t, "GET", server.URL+"/t/shop/pay", "", nil))
			if response.StatusCode != want {
				t.Errorf("got %d, want %d", response.StatusCode, want)
			}
			if want == 502 && body != `{"message":"invalid function response"}`+"\n" {
				t.Errorf("body %q", body)
			}
		})
	}
}

func TestTriggerSourcesMatchExactly(t *testing.T) {
	server, _ := serve(t, says(nil, ""), edge.Options{})
	for path, want := range map[string]int{
		"/t/shop/pay": 200, "/t/shop": 200, "/t/shop/": 200, "/t/shop//twice/": 200, "/t/shop/p%61y": 200,
		"/t/shop/pay/": 404, "/t/shop/Pay": 404, "/t/other/pay": 404, "/t/": 404,
	} {
		if response, body := do(t, newRequest(t, "GET", server.URL+path, "", nil)); response.StatusCode != want {
			t.Errorf("%s: got %d %s, want %d", path, response.StatusCode, body, want)
		}
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

func TestContentTypeIsSniffedIfTheFunctionSetsNone(t *testing.T) {
	server, _ := serve(t, says(nil, "<html>"), edge.Options{})
	for _, path := range []string{"/invoke/f1", "/t/shop/pay"} {
		response, _ := do(t, newRequest(t, "POST", server.URL+path, "", nil))
		if got := response.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
			t.Errorf("%s: %q", path, got)
		}
	}
}

// streams answers with what the test writes to the pipe.
func streams(t *testing.T) (*function, *io.PipeWriter) {
	reader, writer := io.Pipe()
	t.Cleanup(func() { writer.Close() })
	return &function{answer: func(context.Context, *invoke.Call) (*invoke.Response, error) {
		return &invoke.Response{Header: http.Header{}, Body: reader, ContentLength: -1}, nil
	}}, writer
}

func TestStreamedAnswerArrivesPieceByPiece(t *testing.T) {
	f, writer := streams(t)
	server, _ := serve(t, f, edge.Options{})
	response, err := http.DefaultTransport.RoundTrip(newRequest(t, "POST", server.URL+"/invoke/f1", "", nil))
	if err != nil {
		t.Fatal(err) // the header came before any byte of the body
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	for _, line := range []string{"one\n", "two\n", "three\n"} {
		if _, err := io.WriteString(writer, line); err != nil {
			t.Fatal(err)
		}
		if got, err := lines.ReadString('\n'); got != line || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	writer.Close()
	if rest, err := io.ReadAll(lines); len(rest) != 0 || err != nil {
		t.Errorf("rest %q, %v", rest, err)
	}
}

func TestShortAnswerOfUnknownLengthGetsALength(t *testing.T) {
	f := &function{answer: func(context.Context, *invoke.Call) (*invoke.Response, error) {
		return &invoke.Response{Header: http.Header{}, Body: io.NopCloser(strings.NewReader("short")), ContentLength: -1}, nil
	}}
	server, _ := serve(t, f, edge.Options{})
	response, body := do(t, newRequest(t, "POST", server.URL+"/invoke/f1", "", nil))
	if response.ContentLength != 5 || body != "short" {
		t.Errorf("length %d, body %q", response.ContentLength, body)
	}
}

func TestAnswerThatBreaksLateCutsTheConnection(t *testing.T) {
	f, writer := streams(t)
	server, _ := serve(t, f, edge.Options{})
	response, err := http.DefaultTransport.RoundTrip(newRequest(t, "POST", server.URL+"/invoke/f1", "", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := writer.Write([]byte("part")); err != nil {
		t.Fatal(err)
	}
	writer.CloseWithError(model.ErrFunctionResponse)
	if got, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("the client took %q for the whole", got)
	}
}

func TestAnswerThatBreaksBeforeItsFirstByteIsAnError(t *testing.T) {
	f, writer := streams(t)
	writer.CloseWithError(model.ErrFunctionResponse)
	server, _ := serve(t, f, edge.Options{})
	response, body := do(t, newRequest(t, "POST", server.URL+"/invoke/f1", "", nil))
	if response.StatusCode != 502 || !strings.Contains(body, "error receiving function response") {
		t.Errorf("got %d %q", response.StatusCode, body)
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

func TestBodyOverTheLimitIsRefusedInFlight(t *testing.T) {
	server, _ := serve(t, says(nil, ""), edge.Options{MaxRequestBytes: 10})
	request := newRequest(t, "POST", server.URL+"/invoke/f1", "", nil)
	request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(make([]byte, 11))), -1
	response, body := do(t, request)
	if response.StatusCode != 413 || !strings.Contains(body, "Request content too large") {
		t.Errorf("got %d %q", response.StatusCode, body)
	}
}

func TestGivingUpABodyEndsAReadInProgress(t *testing.T) {
	reading := make(chan struct{})
	f := invoke.InvokerFunc(func(_ context.Context, call *invoke.Call) (*invoke.Response, error) {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			close(reading)
			io.ReadAll(call.Body)
		}()
		<-reading
		if err := call.Body.Close(); err != nil {
			t.Error(err)
		}
		<-ended
		return &invoke.Response{Header: http.Header{}, Body: io.NopCloser(strings.NewReader("early")), ContentLength: 5}, nil
	})
	server, _ := serve(t, f, edge.Options{BodyReadTimeout: time.Minute})
	reader, writer := io.Pipe()
	defer writer.Close()
	request := newRequest(t, "POST", server.URL+"/invoke/f1", "", nil)
	request.Body, request.ContentLength = reader, -1
	response, body := do(t, request)
	if response.StatusCode != 200 || body != "early" {
		t.Errorf("got %d %q", response.StatusCode, body)
	}
}

func TestConnectionIsKeptAfterACallWithABody(t *testing.T) {
	f := invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
		if _, err := io.ReadAll(call.Body); err != nil {
			return nil, err
		}
		if err := call.Body.Close(); err != nil {
			return nil, err
		}
		return &invoke.Response{Header: http.Header{}, Body: io.NopCloser(strings.NewReader("ok")), ContentLength: 2}, ctx.Err()
	})
	server, _ := serve(t, f, edge.Options{BodyReadTimeout: time.Minute})
	client := &http.Transport{}
	defer client.CloseIdleConnections()
	for i := range 3 {
		request := newRequest(t, "POST", server.URL+"/invoke/f1", "body", nil)
		var reused bool
		trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }}
		response, err := client.RoundTrip(request.WithContext(httptrace.WithClientTrace(t.Context(), trace)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Error(err)
		}
		response.Body.Close()
		if response.StatusCode != 200 || reused != (i > 0) {
			t.Errorf("call %d: status %d, reused %v", i, response.StatusCode, reused)
		}
	}
}

// TestFailedCallLeavesItsConnectionInOrder has calls that fail before, while,
// and after their body is read. The next one on the connection must be served,
// or the client be told that there is no next one.
func TestFailedCallLeavesItsConnectionInOrder(t *testing.T) {
	const size = 200_000
	for name, read := range map[string]int64{"nothing read": 0, "a part read": 1000, "all read": size + 1} {
		t.Run(name, func(t *testing.T) {
			var logged lockedLog
			server, _ := serve(t, invoke.InvokerFunc(func(_ context.Context, call *invoke.Call) (*invoke.Response, error) {
				_, _ = io.CopyN(io.Discard, call.Body, read)
				return nil, model.ErrServerBusy
			}), edge.Options{})
			server.Config.ErrorLog = log.New(&logged, "", 0)
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			for range 3 {
				go func() {
					fmt.Fprintf(conn, "POST /invoke/f1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", size, make([]byte, size))
				}()
				response, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, response.Body)
				if response.StatusCode != http.StatusServiceUnavailable {
					t.Errorf("status %d", response.StatusCode)
				}
				if response.Close != (read == 1000) {
					t.Errorf("closes: %v", response.Close)
				}
				if response.Close {
					break
				}
			}
			if text := logged.String(); strings.Contains(text, "panic") {
				t.Errorf("the log says %.200s", text)
			}
		})
	}
}

type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
