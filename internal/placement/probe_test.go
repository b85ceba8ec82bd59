package placement

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/invoke"
)

// asked is a runner that can be asked how it is.
type asked struct {
	*fake
	probe func(ctx context.Context) (Report, error)
}

func (a *asked) Probe(ctx context.Context) (Report, error) { return a.probe(ctx) }

// A runner that hangs is found by asking it, and gets no more calls until it
// answers.
func TestFrozenRunner(t *testing.T) {
	eachPolicy(t, func(t *testing.T, policy Policy) {
		synctest.Test(t, func(t *testing.T) {
			var frozen atomic.Bool
			a := &asked{fake: &fake{address: "a:1"}}
			a.invoke = func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
				if frozen.Load() {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return answerWith("a")(ctx, call)
			}
			a.probe = func(ctx context.Context) (Report, error) {
				if frozen.Load() {
					<-ctx.Done()
					return Report{}, ctx.Err()
				}
				return Report{}, nil
			}
			pool := &fixed{runners: []Runner{a, &fake{address: "b:1", invoke: answerWith("b")}}}
			p := New(Options{Pool: pool, Policy: policy})
			p.Start()
			functions := []string{"f", "g", "h", "i", "j", "k"}
			call := func(n int) (hung int) {
				for i := range n {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					response, err := p.Invoke(ctx, callOf(functions[i%len(functions)]))
					if err != nil {
						hung++
					} else {
						finish(t, response, err)
					}
					cancel()
				}
				return hung
			}
			if hung := call(100); hung > 0 {
				t.Fatal("calls hung")
			}
			frozen.Store(true)
			time.Sleep(DefaultProbeInterval + DefaultProbeTimeout + time.Second)
			hung := 0
			for range 300 {
				hung += call(10)
				time.Sleep(100 * time.Millisecond)
			}
			if hung > 10 {
				t.Errorf("%d of 3000 calls hung after it was found", hung)
			}
			frozen.Store(false)
			time.Sleep(DefaultProbeInterval + DefaultProbeTimeout + time.Second)
			before := a.calls.Load()
			for i := range functions { // those that have settled elsewhere stay there
				functions[i] += "2"
			}
			call(600)
			if got := a.calls.Load() - before; got < 50 {
				t.Errorf("it answers again and got %d calls of 600", got)
			}
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	})
}

// perFunction is a pool that has other runners for each function.
type perFunction map[string][]Runner

func (f perFunction) Runners(_ context.Context, call *invoke.Call) ([]Runner, error) {
	return f[call.Fn.ID], nil
}

func (f perFunction) Close(context.Context) error { return nil }

// A runner that few functions have recovers like others, also while calls are for other
// runners.
func TestRarelyUsedRunnerRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		rare := &asked{fake: &fake{address: "rare:1"}, probe: func(context.Context) (Report, error) {
			if down.Load() {
				return Report{}, errUnreachable
			}
			return Report{}, nil
		}}
		rare.invoke = func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
			if down.Load() {
				return nil, errUnreachable
			}
			return answerWith("rare")(ctx, call)
		}
		well := func(context.Context) (Report, error) { return Report{}, nil }
		other := &asked{fake: &fake{address: "other:1", invoke: answerWith("other")}, probe: well}
		often := &asked{fake: &fake{address: "often:1", invoke: answerWith("often")}, probe: well}
		p := New(Options{Pool: perFunction{"rare": {rare, other}, "often": {often}}, Policy: NewNaive()})
		p.Start()
		call := func(n int, fnID string) {
			for range n {
				response, err := p.Invoke(t.Context(), callOf(fnID))
				finish(t, response, err)
			}
		}
		call(20, "rare")
		time.Sleep(3*DefaultProbeInterval + DefaultProbeInterval/2) // between two times at which they are asked
		down.Store(true)
		call(20, "rare")
		call(1, "often")
		time.Sleep(DefaultProbeInterval)
		down.Store(false)
		time.Sleep(2 * DefaultProbeInterval)
		before := rare.calls.Load()
		call(20, "rare")
		if rare.calls.Load() == before {
			t.Error("it works again and gets no calls")
		}
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A runner is remembered as long as calls are for it, and is asked how it is for some
// time after the last.
func TestMembersAreSeenByCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asks atomic.Int64
		a := &asked{fake: &fake{address: "a:1", invoke: answerWith("a")}, probe: func(context.Context) (Report, error) {
			asks.Add(1)
			return Report{}, nil
		}}
		p := New(Options{Pool: perFunction{"f": {a}, "g": {&fake{address: "b:1", invoke: answerWith("b")}}}, Policy: NewNaive()})
		p.Start()
		call := func(fnID string) {
			response, err := p.Invoke(t.Context(), callOf(fnID))
			finish(t, response, err)
		}
		call("f")
		first := p.members[a]
		for range 3 { // calls for the same runners, and no others between them
			time.Sleep(memberMemory - time.Minute)
			call("f")
		}
		call("g")
		if p.members[a] != first {
			t.Error("it is forgotten")
		}
		before := asks.Load()
		time.Sleep(memberMemory - 2*seenEvery)
		if asks.Load() == before {
			t.Error("it is not asked any more")
		}
		time.Sleep(3 * seenEvery)
		before = asks.Load()
		time.Sleep(time.Minute)
		if n := asks.Load() - before; n != 0 {
			t.Errorf("nobody needs it, and it is asked %d times a minute", n)
		}
		call("g")
		if p.members[a] != nil {
			t.Error("it is remembered for ever")
		}
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Runners that are the same for all calls are asked before there is a call.
func TestRunnersAreAskedBeforeCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, err := Discover(t.Context(), DiscoveryOptions{Places: []Place{mustPlace(t, "192.0.2.1:1"), mustPlace(t, "192.0.2.2:1")}, Dial: func(address string) (Runner, error) {
			return &asked{fake: &fake{address: address}, probe: func(context.Context) (Report, error) {
				if address == "192.0.2.1:1" {
					return Report{}, errUnreachable
				}
				return Report{}, nil
			}}, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		p := New(Options{Pool: pool})
		p.Start()
		time.Sleep(DefaultProbeInterval + time.Millisecond)
		synctest.Wait()
		if got := p.Levels(); len(got) != 2 || got[0].State != "failing" || got[1].State != "ready" {
			t.Errorf("got %+v", got)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got := p.Levels(); len(got) != 0 {
			t.Errorf("a closed placer has runners: %+v", got)
		}
	})
}

// What a runner says that others have there counts as its load.
func TestLoadOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asked{fake: &fake{address: "a:1", invoke: takes(time.Second)}, probe: func(context.Context) (Report, error) { return Report{Active: 8}, nil }}
		b := &asked{fake: &fake{address: "b:1", invoke: takes(time.Second)}, probe: func(context.Context) (Report, error) { return Report{Active: 0}, nil }}
		p := New(Options{Pool: &fixed{runners: []Runner{a, b}}})
		p.Start()
		p.membersOf([]Runner{a, b})
		time.Sleep(DefaultProbeInterval + time.Millisecond)
		for range 4 {
			go func() {
				response, err := p.Invoke(t.Context(), callOf("f"))
				if err == nil {
					response.Body.Close()
				}
			}()
			synctest.Wait()
		}
		if a.calls.Load() != 0 || b.calls.Load() != 4 {
			t.Errorf("%d and %d calls", a.calls.Load(), b.calls.Load())
		}
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
