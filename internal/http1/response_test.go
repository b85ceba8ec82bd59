package http1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
