package placement

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// request is a client's body. It counts how often it is closed.
type request struct {
	io.Reader
	read   atomic.Int64
	closes atomic.Int64
}

func (r *request) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.read.Add(int64(n))
	return n, err
}

func (r *request) Close() error {
	r.closes.Add(1)
	return nil
}

// readsThenFails reads so much of a body, closes it as an invoker must, and fails.
func readsThenFails(n int64, err error) invoke.InvokerFunc {
	return func(_ context.Context, call *invoke.Call) (*invoke.Response, error) {
		if n > 0 {
			if _, readErr := io.CopyN(io.Discard, call.Body, n); readErr != nil {
				return nil, readErr
			}
			call.Body.Close()
		}
		return nil, err
	}
}

// echoes answers with the request's body.
func echoes(_ context.Context, call *invoke.Call) (*invoke.Response, error) {
	defer call.Body.Close()
	data, err := io.ReadAll(call.Body)
	if err != nil {
		return nil, err
	}
	return &invoke.Response{Body: invoke.HoldBody(data), ContentLength: int64(len(data))}, nil
}

// inTurn is a runner of a function for each attempt.
func inTurn(attempts ...invoke.InvokerFunc) *fake {
	var n atomic.Int64
	return &fake{address: "a:1", invoke: func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
		return attempts[min(int(n.Add(1)), len(attempts))-1](ctx, call)
	}}
}

func text(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.String()[:n]
}

func TestBodiesAreSentAgain(t *testing.T) {
	for _, tt := range []struct {
		name     string
		size     int
		refusals []int64 // how much each attempt reads that is refused
		held     bool
		gone     bool // it cannot be sent again
	}{
		{"held, read", 1000, []int64{1000, 1000, 10}, true, false},
		{"small, read", 1000, []int64{1000, 0, 10}, false, false},
		{"all that is kept", 100_000, []int64{100_000, 100_000}, false, false},
		{"more, of which that much was read", 10_000_000, []int64{32 << 10, 70_000}, false, false},
		{"more, of which nothing was read", 10_000_000, []int64{0, 0}, false, false},
		{"more, of which more was read", 10_000_000, []int64{300_000}, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				body := text(tt.size)
				client := &request{Reader: strings.NewReader(body)}
				call := callOf("f")
				call.Body, call.ContentLength = client, int64(tt.size)
				if tt.held {
					call.Body = invoke.HoldBody([]byte(body))
				}
				var attempts []invoke.InvokerFunc
				for _, n := range tt.refusals {
					attempts = append(attempts, readsThenFails(n, errNoRoom))
				}
				runner := inTurn(append(attempts, echoes)...)
				p := New(Options{Pool: poolOf(runner), MaxKeptBody: 128 << 10})
				response, err := p.Invoke(t.Context(), call)
				synctest.Wait()
				if used := p.kept.used.Load(); used != 0 {
					t.Errorf("%d bytes are still counted", used)
				}
				if closes := client.closes.Load(); closes != 1 && !tt.held {
					t.Errorf("closed %d times", closes)
				}
				if tt.gone {
					if !errors.Is(err, model.ErrServerBusy) || !strings.Contains(err.Error(), "sent than FN_LB_MAX_KEPT_BODY lets be kept") || runner.calls.Load() != 1 {
						t.Errorf("got %v after %d attempts", err, runner.calls.Load())
					}
					return
				}
				if got := finish(t, response, err); got != body {
					t.Errorf("got %d bytes, want %d", len(got), len(body))
				}
			})
		})
	}
}

// What the client was not asked for stays unread and open.
func TestUntouchedBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := &request{Reader: strings.NewReader("hello")}
		call := callOf("f")
		call.Body, call.ContentLength = client, 5
		if _, err := New(Options{Pool: poolOf(inTurn(failWith(errNoRoom)))}).Invoke(t.Context(), call); err == nil {
			t.Error("no error")
		}
		if client.read.Load() != 0 || client.closes.Load() != 0 {
			t.Errorf("read %d, closed %d times", client.read.Load(), client.closes.Load())
		}
	})
}

// A runner that is refused while its client is slow does not take what comes then.
func TestSlowClientDuringRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, send := io.Pipe()
		call := callOf("f")
		call.Body, call.ContentLength = client, -1
		refused := make(chan struct{})
		late := make(chan error, 1)
		runner := inTurn(func(_ context.Context, call *invoke.Call) (*invoke.Response, error) {
			body := call.Body
			go func() { // as a sender beside the receiver does
				_, err := io.ReadAll(body)
				late <- err
			}()
			synctest.Wait()
			body.Close()
			close(refused)
			return nil, errNoRoom
		}, echoes)
		go func() {
			io.WriteString(send, "first,")
			<-refused
			if err := <-late; err == nil {
				t.Error("the refused attempt read to the end")
			}
			io.WriteString(send, "second")
			send.Close()
		}()
		response, err := New(Options{Pool: poolOf(runner)}).Invoke(t.Context(), call)
		if got := finish(t, response, err); got != "first,second" {
			t.Errorf("got %q", got)
		}
	})
}

// A body that breaks off does so for each attempt.
func TestBrokenBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("client reset")
		call := callOf("f")
		call.Body, call.ContentLength = &request{Reader: io.MultiReader(strings.NewReader("part"), iotestErr{broken})}, 100
		runner := inTurn(readsThenFails(4, errNoRoom), echoes)
		if _, err := New(Options{Pool: poolOf(runner)}).Invoke(t.Context(), call); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	})
}

type iotestErr struct{ err error }

func (e iotestErr) Read([]byte) (int, error) { return 0, e.err }

// Nothing is kept while an answer is read, once nobody can read it.
func TestNothingIsKeptBesideAnAnswer(t *testing.T) {
	const size = 90_000
	for _, tt := range []struct {
		name          string
		before, after int64 // what the runner reads before it answers, and after that
		closed        bool  // by the runner, before it answers
	}{
		{"read to its end", size + 1, 0, false},
		{"given up", size / 2, 0, true},
		{"all of it is here, and read to its end later", size - 1, 2, false},
		{"read to its end later", size / 2, size, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := text(size)
			from := &request{Reader: iotest.DataErrReader(strings.NewReader(body))}
			s := supplyOf(&invoke.Call{Body: from}, 1<<20, &budget{max: 1 << 20})
			view, _ := s.open()
			var got bytes.Buffer
			if _, err := io.CopyN(&got, view, tt.before); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			if s.all.used.Load() == 0 {
				t.Fatal("nothing is kept for another attempt")
			}
			if tt.closed {
				view.Close()
			}
			s.seal()
			if _, err := io.CopyN(&got, view, tt.after); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			if used := s.all.used.Load(); used != 0 || s.kept != nil {
				t.Errorf("%d bytes are kept", used)
			}
			if !tt.closed && got.String() != body {
				t.Errorf("it has read %d bytes", got.Len())
			}
			s.close()
		})
	}
}

// All calls together keep no more than they may.
func TestBudgetOfKeptBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{Pool: poolOf(&fake{address: "a:1", invoke: readsThenFails(50_000, errNoRoom)}), MaxKeptBodies: 100 << 10})
		var calls sync.WaitGroup
		var gone atomic.Int64
		var errs [10]error
		for i := range 10 {
			calls.Go(func() {
				call := callOf("f")
				call.Body, call.ContentLength = &request{Reader: strings.NewReader(text(60_000))}, 60_000
				_, err := p.Invoke(t.Context(), call)
				errs[i] = err
				if strings.Contains(err.Error(), "sent than FN_LB_MAX_KEPT_BODIES lets be kept") {
					gone.Add(1)
				}
			})
		}
		synctest.Wait()
		if used := p.kept.used.Load(); used > 100<<10 {
			t.Errorf("%d bytes are kept", used)
		}
		calls.Wait()
		if n := gone.Load(); n < 8 || n == 10 {
			t.Errorf("%d calls could not be tried again", n)
		}
		if used := p.kept.used.Load(); used != 0 {
			t.Errorf("%d bytes are still counted", used)
		}
	})
}

// Whatever attempts read, the one that succeeds gets the body as it was, or there
// is none.
func TestSupplyIsFaithful(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(0, 300_000).Draw(t, "size")
		limit := rapid.Int64Range(1, 200_000).Draw(t, "limit")
		body := []byte(text(size))
		s := supplyOf(&invoke.Call{Body: &request{Reader: bytes.NewReader(body)}}, limit, &budget{max: 1 << 30})
		for range rapid.IntRange(0, 4).Draw(t, "refusals") {
			view, ok := s.open()
			if !ok {
				break
			}
			n := rapid.IntRange(0, size).Draw(t, "read")
			got := make([]byte, n)
			if _, err := io.ReadFull(view, got); err != nil || !bytes.Equal(got, body[:n]) {
				t.Fatalf("an attempt got something else: %v", err)
			}
			view.Close()
			if ok, _ := s.again(); !ok && int64(n)+pieceBytes <= limit {
				t.Fatalf("after %d of %d bytes it cannot be sent again", n, limit)
			}
		}
		if view, ok := s.open(); ok {
			if rapid.Bool().Draw(t, "seal early") {
				s.seal()
			}
			got, err := io.ReadAll(view)
			if err != nil || !bytes.Equal(got, body) {
				t.Fatalf("the last attempt got %d bytes of %d: %v", len(got), len(body), err)
			}
			view.Close()
		}
		s.close()
		if used := s.all.used.Load(); used != 0 {
			t.Fatalf("%d bytes are still counted", used)
		}
	})
}
