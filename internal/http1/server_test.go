package http1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

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

// headSent returns a client of which the server has the head of a request.
func headSent(t *testing.T, s *running) *client {
	t.Helper()
	c := dial(t, s.address)
	await(t, func() bool { return idleConns(s) == 1 })
	head, _, _ := strings.Cut(post, "hello")
	c.send(head)
	await(t, func() bool { return idleConns(s) == 0 })
	return c
}

func idleConns(s *running) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.state.Load() == idle {
			n++
		}
	}
	return n
}

// await waits until something holds.
func await(t *testing.T, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond / 10) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

// shutDown begins to shut the server down.
func (r *running) shutDown(t *testing.T) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- r.Shutdown(t.Context()) }()
	await(t, r.closing.Load)
	return ended
}

// Whether the body still comes in time or net/http has to wait for it, a request
// whose head has come is served, and its connection is closed after it.
func TestShutdownServesRequestsWhoseBodiesAreUnderWay(t *testing.T) {
	for name, pauses := range map[string]struct{ before, after time.Duration }{
		"soon": {0, bodyPatience / 4}, "late": {0, 3 * bodyPatience},
		"as net/http gets it": {bodyPatience - time.Millisecond/2, 3 * bodyPatience},
	} {
		t.Run(name, func(t *testing.T) {
			for range 5 {
				s := start(t, handlers["echo"], nil)
				c := headSent(t, s)
				time.Sleep(pauses.before)
				ended := s.shutDown(t)
				time.Sleep(pauses.after)
				c.send("hello")
				if got := c.read(); got.Body != "hello" || !got.Close {
					t.Errorf("%+v", got)
				}
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Close does not wait for what Shutdown waits for.
func TestCloseEndsRequestsWhoseBodiesAreUnderWay(t *testing.T) {
	for range 5 {
		s := start(t, handlers["echo"], nil)
		c := headSent(t, s)
		ended := s.shutDown(t)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if !c.ended() {
			t.Error("there is a response")
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// serving is a server with a request whose handler works until its context ends.
func serving(t *testing.T) (s *running, c *client) {
	t.Helper()
	begun := make(chan struct{})
	s = start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	}), nil)
	c = dial(t, s.address)
	c.send(get)
	<-begun
	return s, c
}

func TestShutdownGivesUpWithItsContext(t *testing.T) {
	s, c := serving(t)
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

// A handler that ends because the server closes must not get an answer out: with
// a status of 200, the client would take it for a success.
func TestCloseLetsNoAnswerOut(t *testing.T) {
	for range 300 { // it is a matter of microseconds
		s, c := serving(t)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if !c.ended() {
			t.Fatal("there is a response")
		}
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
