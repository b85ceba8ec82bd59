package placement

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// A runner that refuses connections costs no call anything but a try now and
// then.
func TestUnreachableRunnerIsTriedLess(t *testing.T) {
	eachPolicy(t, func(t *testing.T, policy Policy) {
		synctest.Test(t, func(t *testing.T) {
			dead := &fake{address: "dead:1", invoke: failWith(errUnreachable)}
			pool := poolOf(dead, &fake{address: "b:1", invoke: answerWith("b")}, &fake{address: "c:1", invoke: answerWith("c")})
			p := New(Options{Pool: pool, Policy: policy})
			functions := []string{"f", "g", "h", "i", "j", "k"} // so that some are at home there
			for i := range 6000 {
				response, err := p.Invoke(t.Context(), callOf(functions[i%len(functions)]))
				finish(t, response, err)
				time.Sleep(10 * time.Millisecond)
			}
			// In a minute: 0.1 s, 0.2 s and so on up to 10 s, then every 10 s.
			if tries := dead.calls.Load(); tries < 5 || tries > 20 {
				t.Errorf("it was tried %d times in a minute", tries)
			}
			// It gets calls again when it works.
			dead.invoke = answerWith("dead no more")
			time.Sleep(DefaultMaxBackoff)
			before := dead.calls.Load()
			for i := range 600 {
				response, err := p.Invoke(t.Context(), callOf(functions[i%len(functions)]))
				finish(t, response, err)
			}
			if tries := dead.calls.Load() - before; tries < 50 {
				t.Errorf("it works again and got %d calls of 600", tries)
			}
		})
	})
}

// One call at a time finds out whether a runner works again.
func TestOneCallTriesAFailingRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMember(&fake{address: "a:1"})
		if !m.failed(time.Now(), time.Now(), time.Minute) || m.standing(time.Now(), true) != failing {
			t.Fatal("it is not failing")
		}
		time.Sleep(firstBackoff)
		if m.standing(time.Now(), false) != failing || m.standing(time.Now(), true) != due || m.standing(time.Now(), true) != failing {
			t.Error("not one call tries it")
		}
		time.Sleep(tryPatience)
		if m.standing(time.Now(), true) != due {
			t.Error("a call that takes long keeps others from trying")
		}
		if m.failed(time.Now(), time.Now(), time.Minute) {
			t.Error("it was failing")
		}
		if m.standing(time.Now(), true) != failing {
			t.Error("it is not failing any more")
		}
		if m.answered(time.Now().Add(-time.Millisecond)) || m.standing(time.Now(), true) != failing {
			t.Error("a call that was under way before counts")
		}
		if !m.answered(time.Now()) || m.standing(time.Now(), true) != ready {
			t.Error("it has not recovered")
		}
	})
}

// What began before a runner failed and fails later is of the same incident, also if
// the runner has recovered meanwhile.
func TestFailuresOfOneIncidentCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMember(&fake{address: "a:1"})
		early := time.Now()
		time.Sleep(time.Millisecond)
		if !m.failed(early, time.Now(), time.Minute) {
			t.Fatal("it is not failing")
		}
		for range 10 { // its pause is over each time
			time.Sleep(time.Second)
			if m.failed(early, time.Now(), time.Minute) || m.state(time.Now()) != "failing" {
				t.Fatal("it is failing no more, or began to again")
			}
		}
		if m.health.failures != 1 {
			t.Errorf("%d failures in a row are counted", m.health.failures)
		}
		for name, recovered := range map[string]func() bool{
			"answered": func() bool { return m.answered(time.Now()) },
			"full":     func() bool { return m.full(time.Now(), time.Now()) },
			"well":     func() bool { return m.well(time.Now()) },
		} {
			if !recovered() {
				t.Fatal(name, "it has not recovered")
			}
			for range 10 {
				time.Sleep(time.Second)
				if m.failed(early, time.Now(), time.Minute) || m.lost("f", early, time.Now(), time.Minute) {
					t.Fatal(name, "it has recovered, and a call of before made it failing")
				}
			}
			if !m.failed(time.Now(), time.Now(), time.Minute) {
				t.Fatal(name, "a new failure does not count")
			}
		}
	})
}

// Connections of before a crash that are found dead later say nothing of the runner
// that has started again.
func TestLateLossesOfARunnerThatIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		found := make(chan struct{})
		lost := func(context.Context, *invoke.Call) (*invoke.Response, error) {
			<-found
			return nil, errLost
		}
		a := inTurn(lost, lost, lost, failWith(errUnreachable), answerWith("a"))
		p := New(Options{Pool: poolOf(a), Policy: NewNaive()})
		for i := range 3 {
			go p.Invoke(t.Context(), callOf(fmt.Sprint("f", i)))
			synctest.Wait()
		}
		time.Sleep(time.Second)
		response, err := p.Invoke(t.Context(), callOf("f")) // is refused at first
		finish(t, response, err)
		time.Sleep(time.Minute)
		close(found)
		synctest.Wait()
		if got := p.Levels()[0].State; got != "ready" {
			t.Errorf("it is %s", got)
		}
	})
}

// A runner that loses calls which it took is tried less, and one call that is lost
// says nothing.
func TestRunnerThatLosesCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lossy := &fake{address: "lossy:1", invoke: failWith(errLost)}
		p := New(Options{Pool: poolOf(lossy, &fake{address: "b:1", invoke: answerWith("b")}), Policy: NewNaive()})
		failed := 0
		for i := range 1000 {
			if _, err := p.Invoke(t.Context(), callOf(fmt.Sprint("f", i))); err != nil {
				failed++
			}
		}
		if failed != lossesToFail {
			t.Errorf("%d calls were lost", failed)
		}
		if lossy.calls.Load() != int64(failed) {
			t.Errorf("%d calls were lost, and %d tried", failed, lossy.calls.Load())
		}
	})
}

// A function of which every call is lost may be broken itself: the runners go on with
// all others, and what is warm there is not forgotten.
func TestOneBrokenFunctionIsNoFailingRunner(t *testing.T) {
	eachPolicy(t, func(t *testing.T, policy Policy) {
		synctest.Test(t, func(t *testing.T) {
			launches := func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
				if call.Fn.ID == "broken" {
					return nil, errors.New("start container: no such program")
				}
				return answerWith("hello")(ctx, call)
			}
			p := New(Options{Pool: poolOf(&fake{address: "a:1", invoke: launches}, &fake{address: "b:1", invoke: launches}), Policy: policy})
			response, err := p.Invoke(t.Context(), callOf("warm"))
			finish(t, response, err)
			for range 100 {
				if _, err := p.Invoke(t.Context(), callOf("broken")); err == nil {
					t.Fatal("no error")
				}
			}
			for _, level := range p.Levels() {
				if level.State != "ready" {
					t.Errorf("%s is %s", level.Address, level.State)
				}
			}
			if c, ok := policy.(*choices); ok && !c.functions["warm"].runs[0].warm() {
				t.Error("what is warm was forgotten")
			}
		})
	})
}

// A runner that could not be reached recovers when it says that it is well, also if a
// broken function was lost there; one that loses several functions when a call succeeds.
func TestRecoveryOfARunnerThatLosesCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMember(&fake{address: "a:1"})
		if !m.failed(time.Now(), time.Now(), time.Minute) {
			t.Fatal("it is not failing")
		}
		for range 10 {
			time.Sleep(time.Minute)
			m.lost("broken", time.Now(), time.Now(), time.Minute)
		}
		if m.state(time.Now()) != "failing" || !m.well(time.Now()) {
			t.Error("it can be reached again, and has not recovered")
		}
		if !m.lost("f", time.Now(), time.Now(), time.Minute) {
			t.Error("losses were forgotten as it can be reached")
		}
		if m.well(time.Now()) || !m.answered(time.Now()) {
			t.Error("it has recovered without an answer, or not with one")
		}
		for range lossesToFail {
			if m.lost("f", time.Now(), time.Now(), time.Minute) {
				t.Error("losses of before an answer count")
			}
		}
	})
}

// Errors that the runner tells are no fault of the runner.
func TestFailingFunctionIsNoFailingRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &fake{address: "a:1", invoke: failWith(model.ErrFunctionFailed)}
		b := &fake{address: "b:1", invoke: failWith(model.ErrCallTimeout)}
		p := New(Options{Pool: poolOf(a, b), Policy: NewNaive()})
		for range 1000 {
			p.Invoke(t.Context(), callOf("f"))
		}
		if min(a.calls.Load(), b.calls.Load()) < 300 {
			t.Errorf("%d and %d calls", a.calls.Load(), b.calls.Load())
		}
	})
}

// A caller who leaves while its call is on its way to a runner says nothing of that.
func TestLeavingCallersAreNoFailingRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &fake{address: "a:1", invoke: func(ctx context.Context, _ *invoke.Call) (*invoke.Response, error) {
			<-ctx.Done()
			return nil, errors.Join(invoke.ErrNotPlaced, model.ErrClientCanceled, ctx.Err())
		}}
		seen := &outcomes{}
		p := New(Options{Pool: poolOf(a), Observer: seen})
		for range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			if _, err := p.Invoke(ctx, callOf("f")); model.Describe(err).Kind != model.ErrClientCanceled {
				t.Errorf("got %v", err)
			}
		}
		if level := p.Levels()[0]; level.State != "ready" || level.InFlight != 0 || seen.failed != 0 {
			t.Errorf("%+v, %d failed", level, seen.failed)
		}
	})
}

// What the error of a call says of a runner that was failing, and of one that was not:
// also if the caller leaves at the same moment, but nothing if the error is the
// request's own, or comes from the caller.
func TestWhatErrorsSayOfARunner(t *testing.T) {
	for _, tt := range []struct {
		name    string
		err     error
		leaves  bool // the caller, before the error is there
		before  bool // whether it was failing
		after   bool
		outcome Outcome
	}{
		{"function failed", model.ErrFunctionFailed, false, true, false, PlacedError},
		{"function failed, and left", model.ErrFunctionFailed, true, true, false, PlacedError},
		{"lost", errLost, false, false, true, PlacedError},
		{"lost, and left", errLost, true, false, true, PlacedError},
		{"request too large", model.ErrRequestTooLarge, false, true, true, PlacedError},
		{"request too slow", model.ErrRequestTimeout, false, true, true, PlacedError},
		{"broken request", fmt.Errorf("%w: malformed chunk", model.ErrClientCanceled), false, true, true, PlacedError},
		{"left", fmt.Errorf("%w: runner a", model.ErrClientCanceled), true, true, true, PlacedAbort},
		{"left, in plain words", context.Canceled, true, false, false, PlacedAbort},
		{"time is over", fmt.Errorf("%w: runner a", model.ErrReservation), true, true, true, PlacedAbort},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &fake{address: "a:1", invoke: failWith(errLost)}
				seen := &outcomes{}
				p := New(Options{Pool: poolOf(a), Policy: NewNaive(), Observer: seen})
				losses := lossesToFail - 1
				if tt.before {
					losses++
				}
				for i := range losses {
					p.Invoke(t.Context(), callOf(fmt.Sprint("f", i)))
				}
				time.Sleep(time.Second) // it is to be tried
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				a.invoke = func(context.Context, *invoke.Call) (*invoke.Response, error) {
					if tt.leaves {
						cancel()
					}
					return nil, tt.err
				}
				if _, err := p.Invoke(ctx, callOf("f")); !errors.Is(err, tt.err) {
					t.Errorf("got %v", err)
				}
				if got := p.Levels()[0].State; (got == "failing") != tt.after {
					t.Errorf("it is %s", got)
				}
				if got := seen.outcomes[losses]; got != tt.outcome {
					t.Errorf("got outcome %v, want %v", got, tt.outcome)
				}
			})
		})
	}
}

// If no runner works, all are tried.
func TestAllRunnersFail(t *testing.T) {
	eachPolicy(t, func(t *testing.T, policy Policy) {
		synctest.Test(t, func(t *testing.T) {
			var up atomic.Bool
			works := func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
				if up.Load() {
					return answerWith("hello")(ctx, call)
				}
				return nil, errUnreachable
			}
			p := New(Options{Pool: poolOf(&fake{address: "a:1", invoke: works}, &fake{address: "b:1", invoke: works}), Policy: policy})
			began := time.Now()
			time.AfterFunc(30*time.Second, func() { up.Store(true) })
			response, err := p.Invoke(t.Context(), callOf("f"))
			finish(t, response, err)
			if took := time.Since(began); took > 31*time.Second {
				t.Errorf("placed after %v", took)
			}
		})
	})
}

// A runner that drains says 503 to what is new. It is asked last and ever less,
// and costs no call anything.
func TestDrainingRunner(t *testing.T) {
	eachPolicy(t, func(t *testing.T, policy Policy) {
		synctest.Test(t, func(t *testing.T) {
			var draining atomic.Bool
			a := &fake{address: "a:1"}
			a.invoke = func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
				if draining.Load() {
					return nil, errNoRoom
				}
				return takes(20*time.Second)(ctx, call)
			}
			p := New(Options{Pool: poolOf(a), Policy: policy})
			long := make(chan error, 1)
			go func() {
				response, err := p.Invoke(t.Context(), callOf("f"))
				if err == nil {
					response.Body.Close()
				}
				long <- err
			}()
			synctest.Wait()
			draining.Store(true)
			p.opts.Pool.(*fixed).set(a, &fake{address: "b:1", invoke: answerWith("b")}, &fake{address: "c:1", invoke: answerWith("c")})
			for range 1000 {
				response, err := p.Invoke(t.Context(), callOf("f"))
				finish(t, response, err)
				time.Sleep(10 * time.Millisecond)
			}
			if tries := a.calls.Load(); tries > 40 {
				t.Errorf("it was asked %d times in ten seconds", tries)
			}
			if err := <-long; err != nil {
				t.Error(err)
			}
		})
	})
}

// A runner that the pool does not name any more gets no calls.
func TestRunnerLeavesThePool(t *testing.T) {
	eachPolicy(t, func(t *testing.T, policy Policy) {
		synctest.Test(t, func(t *testing.T) {
			a, b := &fake{address: "a:1", invoke: answerWith("a")}, &fake{address: "b:1", invoke: answerWith("b")}
			pool := poolOf(a, b)
			p := New(Options{Pool: pool, Policy: policy})
			for range 100 {
				response, err := p.Invoke(t.Context(), callOf("f"))
				finish(t, response, err)
			}
			pool.set(b)
			before := a.calls.Load()
			for range 100 {
				response, err := p.Invoke(t.Context(), callOf("f"))
				finish(t, response, err)
			}
			if a.calls.Load() != before {
				t.Error("it got calls")
			}
			time.Sleep(2 * memberMemory)
			pool.set(b, &fake{address: "c:1", invoke: answerWith("c")})
			response, err := p.Invoke(t.Context(), callOf("f"))
			finish(t, response, err)
			if len(p.members) != 2 {
				t.Errorf("%d members are remembered", len(p.members))
			}
		})
	})
}

func TestDoubledIsBounded(t *testing.T) {
	for n, want := range map[int]time.Duration{0: 10, 1: 10, 2: 20, 3: 40, 5: 100, 21: 100, 1 << 40: 100} {
		if got := doubled(10, n, 100); got != want {
			t.Errorf("%d: got %d", n, got)
		}
	}
	if d := jittered(100); d < 75 || d > 100 {
		t.Error(d)
	}
	if !errors.Is(errUnreachable, invoke.ErrNotPlaced) || errors.Is(errUnreachable, model.ErrServerBusy) {
		t.Error("the fake's errors are wrong")
	}
}
