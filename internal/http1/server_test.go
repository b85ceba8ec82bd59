package http1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a server that a test talks to.
type running struct {
	*Server
	address string
	served  chan error // how Serve ended
}

func start(t *testing.T, handler http.Handler, change func(*http.Server)) *running {
	t.Helper()
	std := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
	if change != nil {
		change(std)
	}
	s, err := New(std)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Server: s, address: listener.Addr().String(), served: make(chan error, 1)}
	go func() { r.served <- s.Serve(listener) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := errors.Join(s.Close(), s.Shutdown(ctx)); err != nil {
			t.Error(err)
		}
		if err := <-r.served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return r
}

// client is one connection.
type client struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, address string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &client{t: t, Conn: conn, in: bufio.NewReader(conn)}
}

func (c *client) send(wire string) {
	c.t.Helper()
	if _, err := io.WriteString(c, wire); err != nil {
		c.t.Fatal(err)
	}
}

// seen is what a client gets to see of a response.
type seen struct {
	Status    string
	Header    http.Header
	Length    int64
	Encoding  []string
	Close     bool
	Body      string
	BodyError string
}

func (c *client) read() seen {
	c.t.Helper()
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	s := seen{
		Status: response.Status, Header: response.Header, Length: response.ContentLength,
		Encoding: response.TransferEncoding, Close: response.Close, Body: string(body),
	}
	if err != nil {
		s.BodyError = err.Error()
	}
	return s
}

// ended reports whether the server closes the connection.
func (c *client) ended() bool {
	_, err := c.in.ReadByte()
	return errors.Is(err, io.EOF) || err != nil && strings.Contains(err.Error(), "reset")
}

const (
	get  = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
	post = "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
	// notPlainPost is served by net/http.
	notPlainPost = "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
)

// handlers are all ways to answer that matter.
var handlers = map[string]http.HandlerFunc{
	"nothing": func(http.ResponseWriter, *http.Request) {},
	"text":    func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") },
	"html":    func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") },
	"typed": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "a/b")
		io.WriteString(w, "<html>")
	},
	"encoded": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		io.WriteString(w, "xx")
	},
	"status":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); io.WriteString(w, "gone") },
	"unknown status": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(444) },
	"first status":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); w.WriteHeader(200) },
	"accepted": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(202)
	},
	"no content":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
	"not modified":     func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Etag", "x"); w.WriteHeader(304) },
	"body not allowed": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204); io.WriteString(w, "x") },
	"declared": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "5")
		io.WriteString(w, "hello")
	},
	"declared too short": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "3")
		io.WriteString(w, "hello")
	},
	"declared too long": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "9")
		io.WriteString(w, "hello")
	},
	"closes": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		io.WriteString(w, "hello")
	},
	"many values": func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["A"] = []string{"1", "2"}
		w.Header().Set("B", " c ")
	},
	"line breaks": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("A", "b\r\nC: d")
		w.Header()["Bad name"] = []string{"x"}
	},
	"late header": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(200)
		w.Header().Set("A", "b")
		io.WriteString(w, "x")
	},
	"own date": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Date", "today") },
	"flushed": func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "a")
		w.(http.Flusher).Flush()
		io.WriteString(w, "b")
	},
	"flushed first": func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush(); io.WriteString(w, "b") },
	"flushed only":  func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() },
	"flushed empty": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204); w.(http.Flusher).Flush() },
	"large":         func(w http.ResponseWriter, _ *http.Request) { w.Write(bytes.Repeat([]byte("x"), 100_000)) },
	"large declared": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		w.Write(bytes.Repeat([]byte("x"), 100_000))
	},
	"many pieces": func(w http.ResponseWriter, _ *http.Request) {
		for range 1000 {
			io.WriteString(w, "0123456789")
		}
	},
	"informational": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "x")
		w.WriteHeader(103)
		io.WriteString(w, "x")
	},
	"echo": func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body) // whole, because net/http drops what is unread when the answer begins
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Write(body)
	},
	"abort": func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "a")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	},
	"what it was asked": func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.Method, r.URL, r.Host, r.RequestURI, r.Proto, r.ContentLength, r.Close, r.Header, r.TLS == nil)
		fmt.Fprintln(w, strings.HasPrefix(r.RemoteAddr, "127.0.0.1:"), r.Context().Value(http.LocalAddrContextKey))
	},
}

// TestResponsesAreThoseOfNetHTTP compares, request by request, what a client
// gets to see of this server and of net/http's.
func TestResponsesAreThoseOfNetHTTP(t *testing.T) {
	for name, handler := range handlers {
		for _, wire := range []string{get, post, "GET /x?y=z HTTP/1.1\r\nHost: h\r\nConnection: close\r\nA: b\r\n\r\n"} {
			own := start(t, handler, nil)
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			std := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
			go std.Serve(listener)
			var got [2]seen
			var ended [2]bool
			for i, address := range []string{listener.Addr().String(), own.address} {
				c := dial(t, address)
				c.send(wire)
				for got[i] = c.read(); strings.HasPrefix(got[i].Status, "1"); got[i] = c.read() {
					if got[i].Header.Get("Link") == "" {
						t.Errorf("%s: informational response %+v", name, got[i])
					}
				}
				if name != "own date" && got[i].Header.Get("Date") == "" {
					t.Errorf("%s: no date", name)
				}
				if name != "own date" {
					got[i].Header.Del("Date")
				}
				got[i].Body = strings.ReplaceAll(got[i].Body, address, "address")
				if ended[i] = got[i].Close; !ended[i] && got[i].BodyError == "" {
					c.send(wire)
					if again := c.read(); strings.HasPrefix(again.Status, "1") != (name == "informational") {
						t.Errorf("%s: the second response is %+v", name, again)
					}
				}
			}
			std.Close()
			if diff := cmp.Diff(got[0], got[1]); diff != "" {
				t.Errorf("%s, %.20s: (-net/http +own)\n%s", name, wire, diff)
			}
		}
	}
}

func TestWritingTooMuchIsAnError(t *testing.T) {
	errs := make(chan error, 2)
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "3")
		_, err := io.WriteString(w, "hello")
		errs <- err
		panic(http.ErrAbortHandler)
	}), nil)
	for _, wire := range []string{post, notPlainPost} {
		c := dial(t, s.address)
		c.send(wire)
		if err := <-errs; !errors.Is(err, http.ErrContentLength) {
			t.Errorf("%.40s: %v", wire, err)
		}
		if !c.ended() {
			t.Error("the connection lives on")
		}
	}
}

func TestOneConnectionCarriesPlainAndOtherRequests(t *testing.T) {
	s := start(t, handlers["echo"], nil)
	c := dial(t, s.address)
	for _, wire := range []string{post, post, notPlainPost, post, notPlainPost, post} {
		c.send(wire)
		if got := c.read(); got.Body != "hello" {
			t.Fatalf("%+v", got)
		}
	}
}

func TestRequestsMayCrowd(t *testing.T) {
	s := start(t, handlers["echo"], nil)
	large := fmt.Sprintf("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", 30_000, strings.Repeat("y", 30_000))
	c := dial(t, s.address)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if _, err := io.WriteString(c, strings.Repeat(post, 200)+large+strings.Repeat(post, 200)+large+notPlainPost+post); err != nil {
			t.Error(err)
		}
	})
	for i := range 404 {
		want := "hello"
		if i == 200 || i == 401 {
			want = strings.Repeat("y", 30_000)
		}
		if got := c.read(); got.Body != want {
			t.Fatalf("response %d: %d bytes, %q", i, len(got.Body), got.BodyError)
		}
	}
}

func TestRequestMayComeInPieces(t *testing.T) {
	s := start(t, handlers["echo"], nil)
	head, body, _ := strings.Cut(post, "hello")
	for _, pieces := range [][]string{
		{head, "hello" + body},        // as some clients write it
		{head + "he", "llo"},          //
		{head[:9], head[9:], "hello"}, // for net/http
	} {
		for _, pause := range []time.Duration{0, 2 * bodyPatience} {
			c := dial(t, s.address)
			for _, piece := range pieces {
				c.send(piece)
				time.Sleep(pause)
			}
			if got := c.read(); got.Body != "hello" {
				t.Errorf("%q: %+v", pieces, got)
			}
			c.send(post)
			if got := c.read(); got.Body != "hello" {
				t.Errorf("after %q: %+v", pieces, got)
			}
		}
	}
}

func TestHandlerLearnsThatTheClientLeft(t *testing.T) {
	begun, left := make(chan struct{}, 1), make(chan error, 1)
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		begun <- struct{}{}
		select {
		case <-r.Context().Done():
			left <- r.Context().Err()
		case <-time.After(5 * time.Second):
			left <- errors.New("it was not told")
		}
	}), nil)
	for _, wire := range []string{get, post, notPlainPost} {
		for name, leave := range map[string]func(*net.TCPConn) error{
			"close": (*net.TCPConn).Close, "half": (*net.TCPConn).CloseWrite,
			"reset": func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) },
		} {
			c := dial(t, s.address)
			c.send(wire)
			<-begun
			if err := leave(c.Conn.(*net.TCPConn)); err != nil {
				t.Fatal(err)
			}
			if err := <-left; !errors.Is(err, context.Canceled) {
				t.Errorf("%.20s, %s: %v", wire, name, err)
			}
		}
	}
}

func TestStreamReachesTheClientPieceByPiece(t *testing.T) {
	next := make(chan struct{})
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			io.WriteString(w, "tick")
			w.(http.Flusher).Flush()
			<-next
		}
	}), nil)
	c := dial(t, s.address)
	c.send(get)
	response, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		tick := make([]byte, 4)
		if _, err := io.ReadFull(response.Body, tick); err != nil || string(tick) != "tick" {
			t.Fatalf("%q, %v", tick, err)
		}
		next <- struct{}{}
	}
	if rest, err := io.ReadAll(response.Body); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestPanicCutsTheConnectionAndIsLogged(t *testing.T) {
	var logged lockedBuffer
	s := start(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("for the test") }), func(std *http.Server) {
		std.ErrorLog = log.New(&logged, "", 0)
	})
	c := dial(t, s.address)
	c.send(get)
	if !c.ended() {
		t.Error("there is a response")
	}
	if text := logged.String(); !strings.Contains(text, "for the test") || !strings.Contains(text, "server_test.go") {
		t.Errorf("the log says %q", text)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func TestSilentConnectionsAreClosed(t *testing.T) {
	s := start(t, handlers["text"], func(std *http.Server) {
		std.ReadHeaderTimeout, std.IdleTimeout = 50*time.Millisecond, 400*time.Millisecond
	})
	began := time.Now()
	if c := dial(t, s.address); !c.ended() || time.Since(began) > 300*time.Millisecond {
		t.Errorf("a connection without a request lived for %v", time.Since(began))
	}
	began = time.Now()
	part := dial(t, s.address)
	part.send("GET / HTTP/1.1\r\n")
	if !part.ended() || time.Since(began) > 300*time.Millisecond {
		t.Errorf("a connection with a part of a request lived for %v", time.Since(began))
	}
	c := dial(t, s.address)
	for range 3 {
		c.send(get)
		c.read()
		time.Sleep(100 * time.Millisecond)
	}
	began = time.Now()
	ended, lived := c.ended(), time.Since(began)
	if !ended || lived < 200*time.Millisecond || lived > time.Second {
		t.Errorf("an idle connection ended: %v, after %v", ended, lived)
	}
}

func TestWriteTimeoutCutsAResponse(t *testing.T) {
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(100 * time.Millisecond)
		io.WriteString(w, "late")
	}), func(std *http.Server) { std.WriteTimeout = 20 * time.Millisecond })
	for _, wire := range []string{get, notPlainPost} {
		c := dial(t, s.address)
		c.send(wire)
		if !c.ended() {
			t.Errorf("%.20s: there is a response", wire)
		}
	}
}

func TestShutdownLetsRequestsEndAndClosesTheRest(t *testing.T) {
	begun, goOn := make(chan struct{}, 2), make(chan struct{})
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPost {
			begun <- struct{}{}
			<-goOn
		}
		io.WriteString(w, "done")
	}), nil)
	fresh, idleOne := dial(t, s.address), dial(t, s.address)
	idleOne.send(get)
	idleOne.read()
	var busyOnes []*client
	for _, wire := range []string{post, notPlainPost} {
		c := dial(t, s.address)
		c.send(wire)
		<-begun
		busyOnes = append(busyOnes, c)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(t.Context()) }()
	for _, c := range []*client{fresh, idleOne} {
		if !c.ended() {
			t.Error("a connection without a request lives on")
		}
	}
	if _, err := net.DialTimeout("tcp", s.address, time.Second); err == nil {
		t.Error("connections are accepted still")
	}
	select {
	case err := <-ended:
		t.Errorf("it did not wait for requests: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(goOn)
	for _, c := range busyOnes {
		if got := c.read(); got.Body != "done" || !got.Close {
			t.Errorf("%+v", got)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestShutdownGivesUpWithItsContext(t *testing.T) {
	begun := make(chan struct{})
	s := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	}), nil)
	c := dial(t, s.address)
	c.send(get)
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if !c.ended() {
		t.Error("there is a response")
	}
}

// TestShutdownFindsConnectionsThatJustBecameIdle shuts down at the very moment
// in which a response goes out.
func TestShutdownFindsConnectionsThatJustBecameIdle(t *testing.T) {
	for range 200 {
		s := start(t, handlers["text"], nil)
		c := dial(t, s.address)
		c.send(get)
		c.read()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := s.Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
}

func TestClientThatStillSendsCanReadItsAnswer(t *testing.T) {
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(413)
	}), nil)
	c := dial(t, s.address)
	c.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\n" + strings.Repeat("x", 1<<20))
	if got := c.read(); got.Status != "413 Request Entity Too Large" {
		t.Errorf("%+v", got)
	}
}

// TestManyClientsWithoutMercy has clients that do everything at once.
func TestManyClientsWithoutMercy(t *testing.T) {
	s := start(t, handlers["echo"], nil)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for n := range 40 {
				conn, err := net.Dial("tcp", s.address)
				if err != nil {
					t.Error(err)
					return
				}
				conn.SetDeadline(time.Now().Add(10 * time.Second))
				in := bufio.NewReader(conn)
				for m := range 5 {
					wire := post
					if (i+n+m)%7 == 0 {
						wire = notPlainPost
					}
					io.WriteString(conn, wire)
					if (i+m+n)%11 == 0 {
						break // it leaves without the answer
					}
					response, err := http.ReadResponse(in, nil)
					if err != nil {
						t.Error(err)
						break
					}
					if body, err := io.ReadAll(response.Body); string(body) != "hello" || err != nil {
						t.Errorf("%q, %v", body, err)
					}
				}
				conn.Close()
			}
		})
	}
	wg.Wait()
}
