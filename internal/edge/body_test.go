package edge_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/model"
)

// countBody answers with the number of bytes it has read.
func countBody(w http.ResponseWriter, r *http.Request) error {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	_, err = fmt.Fprint(w, n)
	return err
}

func TestRequestSizeLimit(t *testing.T) {
	router := newRouter(t, edge.Options{MaxRequestBytes: 10})
	router.Handle("POST", "/", countBody)
	tests := []struct {
		name     string
		length   int
		declared bool
		status   int
		body     string
	}{
		{"declared, fits", 10, true, 200, "10"},
		{"declared, too large", 11, true, 413, `{"message":"Content-Length too large for this server, 11 \u003e max 10"}` + "\n"},
		{"undeclared, fits", 10, false, 200, "10"},
		{"undeclared, too large", 11, false, 413, `{"message":"Request content too large"}` + "\n"},
		{"empty", 0, true, 200, "0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", strings.NewReader(strings.Repeat("x", tt.length)))
			if !tt.declared {
				r.ContentLength = -1
			}
			rec := httptest.NewRecorder()
			router.ServeHTTP(rec, r)
			if rec.Code != tt.status || rec.Body.String() != tt.body {
				t.Errorf("got %d %q, want %d %q", rec.Code, rec.Body, tt.status, tt.body)
			}
		})
	}
}

func TestRequestTooLargeErrorStays(t *testing.T) {
	body := edge.LimitBody(io.NopCloser(strings.NewReader("abcdef")), 5)
	got, err := io.ReadAll(body)
	if string(got) != "abcde" || !errors.Is(err, model.ErrRequestTooLarge) {
		t.Errorf("got %q, %v", got, err)
	}
	if n, err := body.Read(make([]byte, 4)); n != 0 || !errors.Is(err, model.ErrRequestTooLarge) {
		t.Errorf("second read got %d, %v", n, err)
	}
}

func TestRequestWithoutBodyKeepsNoBody(t *testing.T) {
	router := newRouter(t, edge.Options{MaxRequestBytes: 10, BodyReadTimeout: time.Second})
	router.Handle("POST", "/", func(_ http.ResponseWriter, r *http.Request) error {
		if r.Body != http.NoBody {
			t.Errorf("body is %T", r.Body)
		}
		return nil
	})
	do(router, "POST", "/", http.NoBody)
}

// serveOn serves one connection in a synctest bubble and returns the client's end.
func serveOn(t *testing.T, handler http.Handler) net.Conn {
	client, server := net.Pipe()
	srv := &http.Server{Handler: handler}
	listener := &oneConn{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
	listener.conns <- server
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(listener) //nolint:errcheck // always ErrServerClosed
	}()
	t.Cleanup(func() {
		client.Close()
		srv.Close()
		<-done
	})
	return client
}

type oneConn struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// exchange reads one response.
func exchange(t *testing.T, reader *bufio.Reader) (status int, body string) {
	t.Helper()
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

func send(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

const head = "POST / HTTP/1.1\r\nHost: own.example\r\n"

func TestSlowBodyTimesOut(t *testing.T) {
	for _, framing := range []string{"Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			router := newRouter(t, edge.Options{BodyReadTimeout: 30 * time.Second})
			router.Handle("POST", "/", countBody)
			conn := serveOn(t, router)
			start := time.Now()
			send(t, conn, head+framing)
			reader := bufio.NewReader(conn)
			status, body := exchange(t, reader)
			if status != 408 || body != `{"message":"Timed out reading the request body"}`+"\n" {
				t.Errorf("got %d %q", status, body)
			}
			if took := time.Since(start); took != 30*time.Second {
				t.Errorf("took %v, want 30s", took)
			}
			if _, err := reader.ReadByte(); err != io.EOF {
				t.Errorf("the connection is still in use: %v", err)
			}
		})
	}
}

func TestOnlyTimeSpentReadingCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		router := newRouter(t, edge.Options{BodyReadTimeout: 30 * time.Second})
		router.Handle("POST", "/", func(w http.ResponseWriter, r *http.Request) error {
			for range 3 {
				if _, err := io.ReadFull(r.Body, make([]byte, 2)); err != nil {
					return err
				}
				time.Sleep(time.Minute)
			}
			return countBody(w, r)
		})
		conn := serveOn(t, router)
		send(t, conn, head+"Content-Length: 8\r\n\r\n")
		go func() {
			for range 4 {
				time.Sleep(5 * time.Second)
				io.WriteString(conn, "ab")
			}
		}()
		if status, body := exchange(t, bufio.NewReader(conn)); status != 200 || body != "2" {
			t.Errorf("got %d %q", status, body)
		}
	})
}

func TestSlowHandlerKeepsConnectionAfterBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		router := newRouter(t, edge.Options{BodyReadTimeout: 30 * time.Second})
		router.Handle("POST", "/", func(w http.ResponseWriter, r *http.Request) error {
			if _, err := io.ReadAll(r.Body); err != nil {
				return err
			}
			time.Sleep(5 * time.Minute)
			if err := r.Context().Err(); err != nil {
				t.Errorf("the client is there, but: %v", err)
			}
			_, err := io.WriteString(w, "done")
			return err
		})
		conn := serveOn(t, router)
		reader := bufio.NewReader(conn)
		for range 2 {
			send(t, conn, head+"Content-Length: 3\r\n\r\nabc")
			if status, body := exchange(t, reader); status != 200 || body != "done" {
				t.Errorf("got %d %q", status, body)
			}
			time.Sleep(time.Hour) // an idle connection has no deadline of ours
		}
	})
}

func TestDisconnectIsNoticedAfterBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		router := newRouter(t, edge.Options{BodyReadTimeout: 30 * time.Second})
		left := make(chan time.Time, 1)
		router.Handle("POST", "/", func(_ http.ResponseWriter, r *http.Request) error {
			if _, err := io.ReadAll(r.Body); err != nil {
				return err
			}
			<-r.Context().Done()
			left <- time.Now()
			return r.Context().Err()
		})
		conn := serveOn(t, router)
		start := time.Now()
		send(t, conn, head+"Content-Length: 3\r\n\r\nabc")
		time.Sleep(2 * time.Minute)
		conn.Close()
		if noticed := (<-left).Sub(start); noticed != 2*time.Minute {
			t.Errorf("noticed after %v", noticed)
		}
	})
}

func TestUnreadBodyCannotHoldTheResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		router := newRouter(t, edge.Options{BodyReadTimeout: 30 * time.Second})
		conn := serveOn(t, router)
		start := time.Now()
		send(t, conn, head+"Content-Length: 10\r\n\r\n")
		status, _ := exchange(t, bufio.NewReader(conn))
		if took := time.Since(start); status != 404 || took > 30*time.Second {
			t.Errorf("got %d after %v", status, took)
		}
	})
}

func TestUnreadBodyKeepsConnectionUsable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		router := newRouter(t, edge.Options{BodyReadTimeout: 30 * time.Second})
		conn := serveOn(t, router)
		reader := bufio.NewReader(conn)
		for range 2 {
			send(t, conn, head+"Content-Length: 3\r\n\r\nabc")
			if status, _ := exchange(t, reader); status != 404 {
				t.Errorf("got %d", status)
			}
			time.Sleep(time.Hour)
		}
	})
}

func TestBodyIsClosedToReadersAfterTheHandler(t *testing.T) {
	router := newRouter(t, edge.Options{BodyReadTimeout: 30 * time.Second})
	var body io.Reader
	router.Handle("POST", "/", func(_ http.ResponseWriter, r *http.Request) error {
		body = r.Body
		return nil
	})
	do(router, "POST", "/", strings.NewReader("abc"))
	if _, err := body.Read(make([]byte, 1)); !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("got %v", err)
	}
}

func TestBodyTimeoutOutranksTheCancellationItCauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		router := newRouter(t, edge.Options{BodyReadTimeout: 30 * time.Second})
		router.Handle("POST", "/", func(_ http.ResponseWriter, r *http.Request) error {
			if _, err := io.ReadAll(r.Body); err == nil {
				t.Error("the body was complete")
			}
			<-r.Context().Done()
			return r.Context().Err()
		})
		conn := serveOn(t, router)
		send(t, conn, head+"Content-Length: 10\r\n\r\nabc")
		if status, _ := exchange(t, bufio.NewReader(conn)); status != 408 {
			t.Errorf("got %d, want 408", status)
		}
	})
}
