package runner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/model"
)

// The tests of this file are about instances whose callers left, and that are
// still at work.

// slowFunction is a function with a call that lasts until it is told to end,
// where the request has a header Wait. Answers name the instance.
type slowFunction struct {
	entered chan struct{} // receives for each call that waits
	goOn    chan struct{} // closed: they end
}

func newSlowFunction(t *testing.T, begin func(http.ResponseWriter)) (*slowFunction, *bench) {
	f := &slowFunction{entered: make(chan struct{}, 10), goOn: make(chan struct{})}
	b := newBenchOn(t, fake.New(fake.Options{Script: func(_ int, spec *driver.Spec) fake.Script {
		return fake.Script{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if r.Header.Get("Wait") != "" {
				begin(w)
				f.entered <- struct{}{}
				select {
				case <-f.goOn:
				case <-r.Context().Done():
				}
			}
			io.WriteString(w, spec.ID)
		})}
	}, CallTimeout: 100 * time.Millisecond}), nil)
	return f, b
}

func TestInstanceServesNobodyUntilItsAbandonedCallEnds(t *testing.T) {
	flush := func(w http.ResponseWriter) { io.WriteString(w, "part"); w.(http.Flusher).Flush() }
	for name, test := range map[string]struct {
		begin func(http.ResponseWriter) // of the answer
		leave func(t *testing.T, b *bench, f *slowFunction)
	}{
		"before the answer": {func(http.ResponseWriter) {}, leaveByContext},
		"in a held answer":  {flush, leaveByContext},
		"in a failure": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway); flush(w) }, func(t *testing.T, b *bench, f *slowFunction) {
			call := newTestCall("x")
			call.Header.Set("Wait", "1")
			if _, _, err := b.run(t.Context(), call); !errors.Is(err, model.ErrFunctionFailed) {
				t.Errorf("got %v", err)
			}
			<-f.entered
		}},
		"in the answer": {flush, func(t *testing.T, b *bench, f *slowFunction) {
			b.opts.MaxResponseBytes = 0 // it is streamed
			call := newTestCall("x")
			call.Header.Set("Wait", "1")
			response, err := b.Invoke(t.Context(), call)
			if err != nil {
				t.Fatal(err)
			}
			<-f.entered
			_ = response.Body.Close()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f, b := newSlowFunction(t, test.begin)
			b.opts.MaxResponseBytes, b.opts.HoldBytes = 1000, 1000
			test.leave(t, b, f)
			busy := b.engine.Containers()[0].Spec().ID
			if served := b.mustRun(t, newTestCall("next")); served == busy {
				t.Error("the next call went to the instance that is at work")
			}
			close(f.goOn)
			for deadline := time.Now().Add(5 * time.Second); b.pool.Stats().Idle != 2; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("the instance does not come back: %+v", b.pool.Stats())
				}
			}
			if launches := b.engine.Calls(fake.OpCreate); launches != 2 {
				t.Errorf("%d launches", launches)
			}
		})
	}
}

func leaveByContext(t *testing.T, b *bench, f *slowFunction) {
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-f.entered; leave() }()
	call := newTestCall("x")
	call.Header.Set("Wait", "1")
	if _, _, err := b.run(ctx, call); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCallerThatLeavesGetsAwayFromAFunctionThatOnlyHints(t *testing.T) {
	for name, hint := range map[string]string{
		"short": "HTTP/1.1 103 Early Hints\r\n\r\n",
		"long":  "HTTP/1.1 103 Early Hints\r\nLink: " + strings.Repeat("x", 5000) + "\r\n\r\n", // read in several pieces
		"many":  strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 3),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hinted, goOn := make(chan struct{}, 10), make(chan struct{})
			b := rawBench(t, func(conn net.Conn) {
				in := bufio.NewReader(conn)
				for {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					fmt.Fprint(conn, hint)
					hinted <- struct{}{}
					<-goOn
					fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			})
			ctx, leave := context.WithCancel(t.Context())
			go func() { <-hinted; time.Sleep(20 * time.Millisecond); leave() }()
			within(t, time.Second, func() {
				if _, err := b.Invoke(ctx, newTestCall("x")); err == nil {
					t.Error("there is an answer")
				}
			})
			close(goOn)
			awaitIdle(t, b.pool) // it has had its whole request, and may finish
			b.wantContainers(t, 1)
		})
	}
}

func TestAnswerOfAnAbandonedCallReachesNobodyElse(t *testing.T) {
	f, b := newSlowFunction(t, func(w http.ResponseWriter) {
		io.WriteString(w, strings.Repeat("of the first call ", 10_000))
		w.(http.Flusher).Flush()
	})
	call := newTestCall("x")
	call.Header.Set("Wait", "1")
	response, err := b.Invoke(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close() // there is more of the answer than the socket holds
	close(f.goOn)
	awaitIdle(t, b.pool)
	first := b.engine.Containers()[0].Spec().ID
	if got := b.mustRun(t, newTestCall("next")); got != first {
		t.Errorf("the next call got %.30q", got)
	}
	b.wantContainers(t, 1)
}

func TestCloseEndsFunctionsThatNobodyWaitsFor(t *testing.T) {
	for name, hanging := range map[string][]fake.Op{"engine works": nil, "engine hangs": {fake.OpRemove}} {
		t.Run(name, func(t *testing.T) {
			f, b := newSlowFunction(t, func(http.ResponseWriter) {})
			ctx, leave := context.WithCancel(t.Context())
			go func() { <-f.entered; leave() }()
			call := newTestCall("x")
			call.Header.Set("Wait", "1")
			call.Fn.Timeout = 300
			if _, _, err := b.run(ctx, call); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			b.engine.Hang(hanging...) // the process lives on then
			deadline, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			closed := make(chan error, 1)
			go func() {
				err := b.pool.Close(deadline)
				b.Close()
				closed <- err
			}()
			select {
			case err := <-closed:
				if err == nil {
					t.Error("no error although a function was ended")
				}
			case <-time.After(time.Minute): // the call may take five
				t.Fatal("it waits for the function")
			}
			if live := b.engine.Live(); live != len(hanging) {
				t.Errorf("%d containers left", live)
			}
		})
	}
}
