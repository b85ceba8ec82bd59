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

func (f *function) isClosed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
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
	router, g := route(t, f, opts, slog.DiscardHandler)
	server := httptest.NewServer(router)
	t.Cleanup(func() {
		server.Close()
		if err := g.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return server, g
}

// route makes a gateway that no server serves.
func route(t *testing.T, f invoke.Invoker, opts edge.Options, log slog.Handler) (*edge.Router, *Gateway) {
	t.Helper()
	router, err := edge.NewRouter(opts)
	if err != nil {
		t.Fatal(err)
	}
	g := New(Options{
		Catalog: catalog.New(definitions{}, catalog.DefaultTTL), Invoker: f,
		Logger: slog.New(log), MaxDetachedBytes: 100,
	})
	g.Register(router)
	return router, g
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

func TestBodyOverTheLimitIsRefusedInFlight(t *testing.T) {
	server, _ := serve(t, says(nil, ""), edge.Options{MaxRequestBytes: 10})
	request := newRequest(t, "POST", server.URL+"/invoke/f1", "", nil)
	request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(make([]byte, 11))), -1
	response, body := do(t, request)
	if response.StatusCode != 413 || !strings.Contains(body, "Request content too large") {
		t.Errorf("got %d %q", response.StatusCode, body)
	}
}

// giveUp closes a call's body while it is read.
func giveUp(t *testing.T, call *invoke.Call) {
	t.Helper()
	reading, ended := make(chan struct{}), make(chan struct{})
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
}

func TestGivingUpABodyEndsAReadInProgress(t *testing.T) {
	f := invoke.InvokerFunc(func(_ context.Context, call *invoke.Call) (*invoke.Response, error) {
		giveUp(t, call)
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

// What a client gets whose call failed in the middle of its upload is why it failed: it
// has neither left nor been slow, though reading from it was broken off.
func TestCallThatFailsInTheMiddleOfAnUploadIsNoFaultOfTheClient(t *testing.T) {
	for name, limit := range map[string]time.Duration{"without a limit": 0, "with one": time.Minute} {
		for want, failure := range map[int]error{500: errors.New("its runner was lost"), 502: model.ErrFunctionFailed} {
			t.Run(fmt.Sprintf("%s, %d", name, want), func(t *testing.T) {
				f := invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
					giveUp(t, call)
					time.Sleep(10 * time.Millisecond) // the server ends the context
					return nil, failure
				})
				server, _ := serve(t, f, edge.Options{BodyReadTimeout: limit})
				conn, err := net.Dial("tcp", server.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				fmt.Fprint(conn, "POST /invoke/f1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\na part")
				response, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if response.StatusCode != want {
					t.Errorf("got %s", response.Status)
				}
			})
		}
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
