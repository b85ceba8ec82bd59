package runner

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/internal/sockdir"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// The tests of this file are about exchanges that do not go in step: functions
// that answer before they read, callers that leave, connections that are kept
// and should not be.

// rawBench has a function that handles its connections itself. They are closed
// when its process is killed.
func rawBench(t *testing.T, handle func(conn net.Conn)) *bench {
	t.Helper()
	return newBenchOn(t, fake.New(fake.Options{Script: func(int, *driver.Spec) fake.Script {
		return fake.Script{Main: func(ctx context.Context, p *fake.Process) int {
			listener, err := listenIn(p.Spec.SocketDir)
			if err != nil {
				t.Error(err)
				return 1
			}
			defer context.AfterFunc(ctx, func() { listener.Close() })()
			for {
				conn, err := listener.Accept()
				if err != nil {
					return 0
				}
				context.AfterFunc(ctx, func() { conn.Close() })
				go handle(conn)
			}
		}}
	}}), nil)
}

// listenIn listens as function kits do.
func listenIn(dir string) (net.Listener, error) {
	listener, err := bindIn(dir)
	if err != nil {
		return nil, err
	}
	return listener, announce(dir)
}

// announce tells that a function listens.
func announce(dir string) error { return os.Symlink("phony", dir+"/"+sockdir.SocketName) }

// bindIn makes the socket of a function.
func bindIn(dir string) (net.Listener, error) {
	opened, err := os.Open(dir) // its name is too long for the address of a socket
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	listener, err := net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/phony", opened.Fd()))
	if err != nil {
		return nil, err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	return listener, nil
}

// countedBody notes its use, above all after the call is over.
type countedBody struct {
	io.Reader
	over        atomic.Bool
	late, close atomic.Int32
}

func (b *countedBody) Read(p []byte) (int, error) {
	if b.over.Load() {
		b.late.Add(1)
	}
	return b.Reader.Read(p)
}

func (b *countedBody) Close() error {
	if b.over.Load() {
		b.late.Add(1)
	}
	b.close.Add(1)
	return errors.New("closing is no success either")
}

// within fails the test if f takes longer than that.
func within(t *testing.T, limit time.Duration, f func()) {
	t.Helper()
	began := time.Now()
	f()
	if took := time.Since(began); took > limit {
		t.Errorf("it took %v", took)
	}
}

func TestConnectionWithHalfARequestIsNotUsedAgain(t *testing.T) {
	seen := make(chan string, 10)
	b := rawBench(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		// It answers without having read the body, and with a trailer, so that
		// the end of the answer does not come along with its last byte.
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n")
		time.Sleep(1500 * time.Millisecond)
		body, _ := io.ReadAll(r.Body)
		rest, _ := io.ReadAll(in)
		seen <- string(body) + string(rest)
	})
	call, writer := slowBody(-1)
	call.Fn.Timeout = 1
	go func() {
		for {
			if _, err := writer.Write(bytes.Repeat([]byte("A"), 32<<10)); err != nil {
				return
			}
		}
	}()
	response, err := b.Invoke(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(1200 * time.Millisecond) // the client is slower than the deadline of the call
	_, _ = io.ReadAll(response.Body)
	_ = response.Body.Close()
	if got := b.mustRun(t, newTestCall("next")); got != "ok" {
		t.Errorf("got %q", got)
	}
	if got := <-seen; strings.Contains(got, "POST /call") {
		t.Error("the next request is in the body of the one before")
	}
}

func TestFunctionThatNeverReadsHoldsNobodyForLong(t *testing.T) {
	b := rawBench(t, func(conn net.Conn) {
		for range 100 { // answers that nobody has asked for yet
			if _, err := fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	for range 60 {
		call := newTestCall(strings.Repeat("x", 7000))
		call.Fn.Timeout = 1
		within(t, 3*time.Second, func() { _, _, _ = b.run(t.Context(), call) })
	}
}

func TestCallerThatLeavesGetsAwayFromAnAnswerThatStalls(t *testing.T) {
	for name, head := range map[string]string{
		"short":        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
		"held":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"of a failure": "HTTP/1.1 502 No\r\nContent-Length: 10\r\n\r\nhalf",
		"large":        "HTTP/1.1 502 No\r\nContent-Length: 1000000\r\n\r\nhalf",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := rawBench(t, func(conn net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					fmt.Fprint(conn, head)
				}
			})
			b.opts.MaxResponseBytes, b.opts.HoldBytes = 1000, 1000
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			call := newTestCall("x")
			call.Fn.Timeout = 2
			within(t, time.Second, func() {
				if _, err := b.Invoke(ctx, call); err == nil {
					t.Error("there is an answer")
				}
			})
		})
	}
}

func TestCallerThatLeavesGetsAwayFromAFunctionThatDoesNotRead(t *testing.T) {
	b := rawBench(t, func(net.Conn) {})
	call := newTestCall("x")
	call.Header.Set("X-Large", strings.Repeat("x", 800<<10)) // more than a socket's buffer
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	within(t, time.Second, func() {
		if _, err := b.Invoke(ctx, call); err == nil {
			t.Error("there is an answer")
		}
	})
}

func TestEarlyAnswerToALargeBodyInMemory(t *testing.T) {
	b := rawBench(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	call := newTestCall("")
	call.Body = invoke.HoldBody(make([]byte, 4<<20))
	within(t, time.Second, func() {
		if got := b.mustRun(t, call); got != "ok" {
			t.Errorf("got %q", got)
		}
	})
}

func TestLargeBodyInMemoryArrives(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, r.ContentLength)
	}, nil)
	for _, size := range []int{0, 1, maxJoinedBody, maxJoinedBody + 1, 1 << 20} {
		call := newTestCall("")
		call.Body = invoke.HoldBody(make([]byte, size))
		if got, want := b.mustRun(t, call), fmt.Sprint(size, size); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	b.wantContainers(t, 1)
}

func TestBodyIsNotUsedWhenTheCallIsOver(t *testing.T) {
	for name, status := range map[string]int{"failed": 502, "given up": 200} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
				if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
					t.Error(err)
				}
				w.WriteHeader(status)
				w.(http.Flusher).Flush()
				time.Sleep(100 * time.Millisecond)
			}, nil)
			body := &countedBody{Reader: bytes.NewReader(make([]byte, 4<<20))}
			call := newTestCall("")
			call.Body, call.ContentLength = body, 4<<20
			response, err := b.Invoke(t.Context(), call)
			if err == nil {
				_ = response.Body.Close()
			}
			body.over.Store(true)
			time.Sleep(200 * time.Millisecond)
			if body.late.Load() > 0 || body.close.Load() != 1 {
				t.Errorf("used %d times after the end, closed %d times", body.late.Load(), body.close.Load())
			}
		})
	}
}

func TestTimingIsCompleteWhenTheBodyIsClosed(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		_, _ = w.Write(make([]byte, 1<<20))
	}, nil)
	for range 5 {
		response, err := b.Invoke(t.Context(), newTestCall("x"))
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.Timing.Total == 0 || response.Timing.Execution() == 0 {
			t.Errorf("%+v", response.Timing)
		}
	}
}

func TestFunctionThatAcceptsNoConnectionIsToBlame(t *testing.T) {
	var w witness
	b := newBenchOn(t, fake.New(fake.Options{Script: func(int, *driver.Spec) fake.Script {
		return fake.Script{Main: func(ctx context.Context, p *fake.Process) int {
			listener, err := bindIn(p.Spec.SocketDir)
			if err == nil {
				err = errors.Join(listener.Close(), announce(p.Spec.SocketDir))
			}
			if err != nil {
				t.Error(err)
			}
			<-ctx.Done()
			return 0
		}}
	}}), func(o *Options) { o.Observer = &w })
	if _, _, err := b.run(t.Context(), newTestCall("x")); !errors.Is(err, model.ErrContainerInitFailed) {
		t.Errorf("got %v", err)
	}
	if w.await(t, 1); w.submitted != 1 {
		t.Errorf("one call counts %d times", w.submitted)
	}
	if launches := b.engine.Calls(fake.OpCreate); launches != maxDeadInstances {
		t.Errorf("%d launches", launches)
	}
}

func TestConnectionIsNotUsedAgainAfterARest(t *testing.T) {
	var conns atomic.Int32
	b := rawBench(t, func(conn net.Conn) {
		conns.Add(1)
		// It closes a connection when its time is over, also just when a request
		// arrives, as a function does that was frozen.
		for began, in := time.Now(), bufio.NewReader(conn); ; {
			if _, err := in.Peek(1); err != nil || time.Since(began) > maxRest {
				conn.Close()
				return
			}
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	b.mustRun(t, newTestCall("x"))
	b.mustRun(t, newTestCall("x"))
	if got := conns.Load(); got != 1 {
		t.Errorf("%d connections for two calls", got)
	}
	time.Sleep(maxRest + 50*time.Millisecond)
	b.mustRun(t, newTestCall("x"))
}

func TestBodyThatBreaksWhileItIsReadAheadIsClosed(t *testing.T) {
	b := newBench(t, fake.Echo, nil)
	body := &countedBody{Reader: io.MultiReader(strings.NewReader("x"), brokenReader{})}
	call := newTestCall("")
	call.Body, call.ContentLength = body, 10
	if _, err := b.Invoke(t.Context(), call); err == nil || body.close.Load() != 1 {
		t.Errorf("%v, closed %d times", err, body.close.Load())
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestErrorOfTheBodysCloseDoesNotHideTheCause(t *testing.T) {
	b := newBench(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, nil)
	reader, writer := io.Pipe()
	defer writer.Close()
	call := newTestCall("")
	call.Fn.Timeout = 1
	call.Body, call.ContentLength = closeFails{reader}, -1
	if _, err := b.Invoke(t.Context(), call); !errors.Is(err, model.ErrCallTimeout) {
		t.Errorf("got %v", err)
	}
}

type closeFails struct{ *io.PipeReader }

func (c closeFails) Close() error {
	return errors.Join(c.PipeReader.Close(), errors.New("close failed"))
}

func TestNothingIsSentBehindTheDeclaredLength(t *testing.T) {
	var requests atomic.Int32
	b := newBench(t, func(_ http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
	}, nil)
	call := newTestCall("")
	call.ContentLength = prefetchBytes + 1
	call.Body = io.NopCloser(strings.NewReader(strings.Repeat("x", prefetchBytes+1) + "POST /call HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"))
	if _, _, err := b.run(t.Context(), call); err == nil {
		t.Error("no error")
	}
	time.Sleep(50 * time.Millisecond)
	if got := requests.Load(); got > 1 {
		t.Errorf("the function saw %d requests", got)
	}
}
