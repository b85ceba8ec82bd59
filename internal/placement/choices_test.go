package placement

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// fleet is so many runners that take a second for a call.
func fleet(n int) []*fake {
	fakes := make([]*fake, n)
	for i := range fakes {
		fakes[i] = &fake{address: fmt.Sprintf("192.0.2.%d:9190", i+1), invoke: takes(time.Second)}
	}
	return fakes
}

// burst makes calls at once and waits for their answers.
func burst(t *testing.T, p *Placer, fnID string, n int) {
	t.Helper()
	var calls sync.WaitGroup
	for range n {
		calls.Go(func() {
			response, err := p.Invoke(t.Context(), callOf(fnID))
			if err != nil {
				t.Error(err)
				return
			}
			response.Body.Close()
		})
	}
	calls.Wait()
}

func used(fakes []*fake) (n int) {
	for _, f := range fakes {
		if f.calls.Load() > 0 {
			n++
		}
	}
	return n
}

// Many first calls of a function do not start it everywhere.
func TestNoHerdOnAColdFunction(t *testing.T) {
	for calls, most := range map[int]int{2: 1, 30: firstRunners, 100: 100/coldCalls + firstRunners} {
		synctest.Test(t, func(t *testing.T) {
			fakes := fleet(20)
			p := New(Options{Pool: poolOf(fakes...)})
			burst(t, p, "f", calls)
			if n := used(fakes); n > most {
				t.Errorf("%d calls have started it on %d runners", calls, n)
			}
		})
	}
}

// A function that needs many runners gets them step by step, also if it takes long
// to answer.
func TestBusyFunctionSpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fakes := fleet(20)
		p := New(Options{Pool: poolOf(fakes...)})
		for range 5 {
			burst(t, p, "f", 400)
		}
		if n := used(fakes); n < 18 {
			t.Errorf("400 calls at once are on %d runners", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		fakes := fleet(4)
		for _, f := range fakes {
			f.invoke = takes(time.Hour)
		}
		policy := NewChoices().(*choices)
		policy.random = rand.New(rand.NewPCG(1, 2)).IntN // what is by chance is not tested
		p := New(Options{Pool: poolOf(fakes...), Policy: policy})
		ctx, cancel := context.WithCancel(t.Context())
		for range 48 {
			go p.Invoke(ctx, callOf("f"))
			time.Sleep(coldPatience / 8)
		}
		for _, level := range p.Levels() {
			if level.InFlight < 6 {
				t.Errorf("%+v of 48 calls", level)
			}
		}
		cancel()
		synctest.Wait()
	})
}

// What ran on a runner that was lost does not count as warm when it is back.
func TestLostRunnerIsCold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := NewChoices().(*choices)
		fakes := fleet(1)
		p := New(Options{Pool: poolOf(fakes...), Policy: policy})
		burst(t, p, "f", 3)
		if r := policy.functions["f"].runs[0]; !r.warm() || r.most != 3 {
			t.Errorf("%+v", r)
		}
		fakes[0].invoke = failWith(errUnreachable)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Invoke(ctx, callOf("g")); err == nil {
			t.Error("no error")
		}
		if s := policy.functions["f"]; len(s.runs) != 0 {
			t.Errorf("%+v", s.runs[0])
		}
	})
}

// Calls of a function that come one after the other stay on one runner.
func TestFunctionStaysWhereItIsWarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fakes := fleet(5)
		p := New(Options{Pool: poolOf(fakes...)})
		for range 50 {
			burst(t, p, "f", 2)
		}
		if n := used(fakes); n != 1 {
			t.Errorf("it is on %d runners", n)
		}
		// Many functions are on all of them.
		for i := range 100 {
			burst(t, p, fmt.Sprint("g", i), 1)
		}
		for _, f := range fakes {
			if n := f.calls.Load(); n < 8 {
				t.Errorf("%s has %d functions of 100", f.address, n)
			}
		}
	})
}

// What a function was like is forgotten when its instances are gone, also where there
// is nothing to choose.
func TestFunctionsAreForgotten(t *testing.T) {
	for _, runners := range []int{1, 3} {
		t.Run(fmt.Sprint(runners), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				policy := NewChoices()
				p := New(Options{Pool: poolOf(fleet(runners)...), Policy: policy})
				for i := range 100 {
					burst(t, p, fmt.Sprint("f", i), 3)
				}
				time.Sleep(2 * cleanEvery)
				burst(t, p, "g", 1)
				if n := len(policy.(*choices).functions); n != 1 {
					t.Errorf("%d functions are remembered", n)
				}
			})
		})
	}
}

// A runner that joins a busy fleet gets its share in time, not all at once.
func TestJoinWithoutAHerd(t *testing.T) {
	eachPolicy(t, func(t *testing.T, policy Policy) {
		synctest.Test(t, func(t *testing.T) {
			fakes := fleet(4)
			pool := poolOf(fakes[:3]...)
			p := New(Options{Pool: pool, Policy: policy})
			ctx, cancel := context.WithCancel(t.Context())
			var calls sync.WaitGroup
			for i := range 60 { // clients, each with one of 20 functions
				calls.Go(func() {
					for ctx.Err() == nil {
						response, err := p.Invoke(ctx, callOf(fmt.Sprint("f", i%20)))
						if err == nil {
							response.Body.Close()
						}
						time.Sleep(time.Duration(10+i) * time.Millisecond)
					}
				})
			}
			time.Sleep(10 * time.Second)
			var before [4]int64
			for i, f := range fakes {
				before[i] = f.calls.Load()
			}
			pool.set(pool.runners[0], pool.runners[1], pool.runners[2], fakes[3])
			time.Sleep(1500 * time.Millisecond) // each client makes at most two calls
			all := int64(0)
			for i, f := range fakes {
				all += f.calls.Load() - before[i]
			}
			if got := fakes[3].calls.Load(); got > all*2/5 {
				t.Errorf("it got %d calls of %d at once", got, all)
			}
			time.Sleep(30 * time.Second)
			if got := fakes[3].calls.Load(); got < 60 {
				t.Errorf("it got %d calls in half a minute", got)
			}
			cancel()
			calls.Wait()
		})
	})
}

// Loads differ by little, whatever one runner is like.
func TestLoadIsBalanced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fakes := fleet(3)
		fakes[1].invoke = takes(4 * time.Second)
		p := New(Options{Pool: poolOf(fakes...)})
		var calls sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for range 24 {
			calls.Go(func() {
				for ctx.Err() == nil {
					response, err := p.Invoke(ctx, callOf("f"))
					if err == nil {
						response.Body.Close()
					}
				}
			})
		}
		time.Sleep(10 * time.Second)
		for range 20 {
			time.Sleep(330 * time.Millisecond)
			synctest.Wait()
			for _, level := range p.Levels() {
				if level.InFlight < 5 || level.InFlight > 11 {
					t.Errorf("%s has %d calls of 24", level.Address, level.InFlight)
				}
			}
		}
		cancel()
		calls.Wait()
	})
}

// A runner that refuses a function has not started it.
func TestRefusedFunctionIsNotKnown(t *testing.T) {
	policy := NewChoices().(*choices)
	m := NewMember(&fake{address: "a:1"})
	call := callOf("f")
	policy.Began(call, m)
	policy.Ended(call, m, true)
	if s := policy.functions["f"]; len(s.runs) != 0 {
		t.Errorf("%+v", s.runs[0])
	}
	policy.Began(call, m)
	policy.Answered(call, m)
	policy.Began(call, m)
	policy.Ended(call, m, true)
	if r := policy.functions["f"].runs[0]; r.busy != 1 || r.most != 1 || r.warm() {
		t.Errorf("%+v", r)
	}
	policy.Ended(call, m, false)
	if r := policy.functions["f"].runs[0]; !r.warm() {
		t.Errorf("%+v", r)
	}
	policy.Ended(callOf("unknown"), m, false) // does nothing
	policy.Answered(callOf("unknown"), m)
}

// With every policy, a call ends at most once on a runner after commit, is tried
// nowhere after it, and finds the one runner that would take it.
func TestAtMostOnceEverywhere(t *testing.T) {
	for name, policy := range policies() {
		t.Run(name, func(t *testing.T) { checkAtMostOnce(t, policy) })
	}
}

func checkAtMostOnce(t *testing.T, policy func() Policy) {
	for round := range 200 {
		synctest.Test(t, func(t *testing.T) {
			random := newRandom(uint64(round))
			n := 1 + random.IntN(6)
			one := random.IntN(n)
			var committed atomic.Int64
			var late atomic.Bool
			fakes := fleet(n)
			for i, f := range fakes {
				f.invoke = func(context.Context, *invoke.Call) (*invoke.Response, error) {
					if committed.Load() > 0 {
						late.Store(true)
					}
					what := random.IntN(3)
					switch {
					case i == one && what == 0:
						committed.Add(1)
						return nil, errLost
					case i == one && what == 1:
						committed.Add(1)
						return nil, model.ErrFunctionFailed
					case i == one:
						committed.Add(1)
						return answerWith("done")(nil, nil) //nolint:staticcheck // it needs no context
					case what == 0:
						return nil, errUnreachable
					}
					return nil, errNoRoom
				}
			}
			p := New(Options{Pool: poolOf(fakes...), Policy: policy(), Timeout: time.Minute})
			for range 5 {
				committed.Store(0)
				response, err := p.Invoke(t.Context(), callOf(fmt.Sprint("f", random.IntN(4))))
				if response != nil {
					finish(t, response, err)
				}
				if committed.Load() != 1 || late.Load() {
					t.Fatalf("round %d: committed %d times, tried after that %v, got %v", round, committed.Load(), late.Load(), err)
				}
			}
			for _, level := range p.Levels() {
				if level.InFlight != 0 {
					t.Errorf("round %d: %+v", round, level)
				}
			}
		})
	}
}
