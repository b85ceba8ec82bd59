package http1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

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
		began = time.Now()
		time.Sleep(100 * time.Millisecond)
	}
	ended, lived := c.ended(), time.Since(began)
	if !ended || lived < 300*time.Millisecond || lived > time.Second {
		t.Errorf("an idle connection ended: %v, after %v", ended, lived)
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
