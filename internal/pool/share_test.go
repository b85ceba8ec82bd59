package pool

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/model"
)

// ofApp is a function of one megabyte in an app of its own choice.
func ofApp(app, name string) *Spec {
	spec := fnSpec(name)
	spec.AppID = app
	return spec
}

// large is a function of an app of its own, of that many megabytes.
func large(memoryMiB int64) *Spec {
	spec := sized("large", memoryMiB)
	spec.AppID = "large"
	return spec
}

// flood keeps n callers busy with a function until the end of ctx and counts
// the calls that were served.
func flood(ctx context.Context, p *Pool, spec *Spec, n int, hold time.Duration) func() int {
	var wg sync.WaitGroup
	counts := make([]int, n)
	for i := range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				lease, err := p.Acquire(ctx, spec)
				if err != nil {
					continue
				}
				time.Sleep(hold)
				counts[i]++
				lease.Release()
			}
		})
	}
	return func() int {
		wg.Wait()
		sum := 0
		for _, count := range counts {
			sum += count
		}
		return sum
	}
}

func TestAppsShareAMachineThatIsTooSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 8 * mib })
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		// The first app has four functions and comes first, the second has one.
		var many []func() int
		for i := range 4 {
			many = append(many, flood(ctx, p, ofApp("many", "m"+strconv.Itoa(i)), 8, 10*time.Millisecond))
		}
		time.Sleep(5 * time.Second)
		one := flood(ctx, p, ofApp("one", "o"), 8, 10*time.Millisecond)
		time.Sleep(30 * time.Second)
		shares := map[string]int{}
		p.Each(func(spec *Spec, c Counts) { shares[spec.AppID] += c.Busy + c.Idle })
		if shares["one"] < 3 || shares["one"] > 5 {
			t.Errorf("instances per app: %v, want about half each", shares)
		}
		<-ctx.Done()
		perFunction := 0
		for _, count := range many {
			n := count()
			if n == 0 {
				t.Error("a function was never served")
			}
			perFunction = max(perFunction, n)
		}
		if n := one(); n < perFunction {
			t.Errorf("the app with one function had %d calls, one function of the other %d", n, perFunction)
		}
		closePool(t, p, e)
	})
}

func TestFairShareDoesNotChurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 4 * mib })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		a := flood(ctx, p, ofApp("a", "a"), 8, 10*time.Millisecond)
		b := flood(ctx, p, ofApp("b", "b"), 8, 10*time.Millisecond)
		<-ctx.Done()
		a()
		b()
		if created := e.Calls(fake.OpCreate); created > 8 {
			t.Errorf("%d launches for four places", created)
		}
		closePool(t, p, e)
	})
}

func TestEvictionSparesWhatIsDearToLaunch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 2 * mib })
		e.script.CreateDelay = 20 * time.Second
		mustAcquire(t, p, fnSpec("dear")).Release()
		e.script.CreateDelay = 0
		time.Sleep(2 * time.Second)
		mustAcquire(t, p, fnSpec("cheap")).Release()
		time.Sleep(time.Second)
		mustAcquire(t, p, fnSpec("new")).Release() // "dear" rests longer, and costs twenty times as much
		created := e.Calls(fake.OpCreate)
		mustAcquire(t, p, fnSpec("dear")).Release()
		if e.Calls(fake.OpCreate) != created {
			t.Error("the one that is dear to launch was evicted")
		}
		closePool(t, p, e)
	})
}

func TestEvictionTakesNoMoreThanItNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 4 * mib })
		mustAcquire(t, p, sized("small", 1)).Release()
		time.Sleep(time.Second)
		mustAcquire(t, p, sized("large", 3)).Release()
		mustAcquire(t, p, sized("new", 3)).Release() // the large one alone makes room
		created := e.Calls(fake.OpCreate)
		mustAcquire(t, p, sized("small", 1)).Release()
		if e.Calls(fake.OpCreate) != created {
			t.Error("the small one was evicted in vain")
		}
		closePool(t, p, e)
	})
}

// TestFunctionBehindALargeOneIsServedWhenThatGivesUp has a large call at the head
// of the line, for which something is missing, and a small one behind it.
func TestFunctionBehindALargeOneIsServedWhenThatGivesUp(t *testing.T) {
	for name, patience := range map[string]time.Duration{"leaves": 3 * time.Second, "expires": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEngine()
				p := newPool(t, e, func(o *Options) { o.QueueTimeout = 4 * time.Second })
				held := mustAcquire(t, p, fnSpec("held"))
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				var wg sync.WaitGroup
				wg.Go(func() { _, _ = p.Acquire(ctx, large(4)) })
				time.Sleep(2 * time.Second)
				began := time.Now()
				mustAcquire(t, p, fnSpec("small")).Release()
				if took := time.Since(began); took > 3*time.Second+startDelay {
					t.Errorf("served after %v", took)
				}
				wg.Wait()
				held.Release()
				closePool(t, p, e)
			})
		})
	}
}

// TestLargeCallDoesNotStopTheMachine has a large call that cannot be served,
// for a reason that does not pass soon.
func TestLargeCallDoesNotStopTheMachine(t *testing.T) {
	for name, obstacle := range map[string]func(*testing.T, *Pool) func(){
		"minimum instances": func(_ *testing.T, p *Pool) func() {
			p.Keep(scaled("kept", model.Scale{MinInstances: 1}))
			time.Sleep(2 * startDelay)
			return func() {}
		},
		"a long call": func(t *testing.T, p *Pool) func() { return mustAcquire(t, p, ofApp("x", "long")).Release },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEngine()
				p := newPool(t, e, nil)
				remove := obstacle(t, p)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				busy := flood(ctx, p, ofApp("b", "busy"), 3, 10*time.Millisecond)
				time.Sleep(5 * time.Second)
				var wg sync.WaitGroup
				wg.Go(func() {
					if lease, err := p.Acquire(t.Context(), large(4)); err == nil {
						lease.Release()
					}
				})
				if n, most := busy(), 55*3*100; n < most*8/10 {
					t.Errorf("the busy function had %d calls of %d", n, most)
				}
				remove()
				wg.Wait()
				closePool(t, p, e)
			})
		})
	}
}

func TestSmallFunctionsAreNotStarvedByLargeOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		held := mustAcquire(t, p, fnSpec("small")) // a call of some minutes
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		demand := flood(ctx, p, large(4), 3, time.Second)
		time.Sleep(time.Second)
		for range 5 {
			began := time.Now()
			mustAcquire(t, p, fnSpec("small")).Destroy("so that the next one needs a launch")
			if took := time.Since(began); took > p.holdFor()+2*startDelay {
				t.Errorf("served after %v, three quarters of the machine were free", took)
			}
		}
		cancel()
		demand()
		held.Release()
		closePool(t, p, e)
	})
}

func TestTurnsAreWorthTheirLaunch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script.CreateDelay = 20 * time.Second
		p := newPool(t, e, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		a := flood(ctx, p, sized("a", 3), 2, 10*time.Millisecond)
		b := flood(ctx, p, sized("b", 3), 2, 10*time.Millisecond)
		// They fit one at a time: half of the time they are launched.
		if ofA, ofB := a(), b(); ofA < 10000 || ofB < 10000 {
			t.Errorf("%d and %d calls in ten minutes, %d launches", ofA, ofB, e.Calls(fake.OpCreate))
		}
		closePool(t, p, e)
	})
}

// TestNothingIsLostUnderRandomLoad throws everything at the pool at once: apps,
// functions of all sizes, changing definitions, freezing, launches that fail,
// processes that die, callers that leave.
func TestNothingIsLostUnderRandomLoad(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) { randomLoad(t, rand.New(rand.NewPCG(seed, 1)), seed%3 == 0) })
	}
}

func randomLoad(t *testing.T, random *rand.Rand, failFast bool) {
	e := newEngine()
	e.script = fake.Script{SocketDelay: 100 * time.Millisecond, RemoveDelay: 50 * time.Millisecond, FreezeDelay: 5 * time.Millisecond}
	var mu sync.Mutex // guards random
	chance := func(n int) bool { mu.Lock(); defer mu.Unlock(); return random.IntN(n) == 0 }
	upTo := func(d time.Duration) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(random.Int64N(int64(d)))
	}
	e.createErr = func(int) error {
		if chance(20) {
			return errBroken
		}
		return nil
	}
	p := newPool(t, e, func(o *Options) {
		o.Total.MemoryBytes, o.QueueTimeout, o.FreezeAfter, o.FailFast = 8*mib, 10*time.Second, 50*time.Millisecond, failFast
	})
	holders := map[*Instance]bool{}
	var callers sync.WaitGroup
	for i := range 40 {
		callers.Go(func() {
			spec := sized("fn"+strconv.Itoa(i%6), int64(1+i%3))
			spec.AppID, spec.Scale = "app"+strconv.Itoa(i%2), model.Scale{MaxInstances: i % 4, MaxCalls: 20 * (i % 2)}
			spec.Key += strconv.Itoa(i % 4)
			if i%5 == 0 {
				spec.Scale.MinInstances = 1
			}
			for range 25 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond+upTo(20*time.Second))
				lease, err := p.Acquire(ctx, spec)
				if err == nil {
					mu.Lock()
					if holders[lease.Instance] {
						t.Error("two callers hold one instance")
					}
					holders[lease.Instance] = true
					mu.Unlock()
					if e.frozen(lease.ID) {
						t.Error("an instance was handed over frozen")
					}
					time.Sleep(upTo(50 * time.Millisecond))
					mu.Lock()
					delete(holders, lease.Instance)
					mu.Unlock()
					if chance(10) {
						e.kill(lease.ID)
						lease.Destroy("broken")
					} else {
						lease.Release()
					}
				}
				cancel()
				if chance(10) {
					time.Sleep(upTo(time.Second))
				}
				if chance(50) {
					p.Retire(spec.FnID)
				}
				if chance(50) {
					p.Keep(spec)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { callers.Wait(); close(done) }()
	for stop := false; !stop; {
		select {
		case <-done:
			stop = true
		case <-time.After(100 * time.Millisecond):
			stats := p.Stats()
			if stats.Used.MemoryBytes > stats.Total.MemoryBytes {
				t.Errorf("overcommitted: %+v", stats)
			}
		}
	}
	closePool(t, p, e)
}

// frozen reports whether the container of that name is frozen; kill ends its process.
func (e *engine) frozen(name string) bool {
	for _, c := range e.Containers() {
		if c.Spec().ID == name {
			return c.Frozen()
		}
	}
	return false
}

func (e *engine) kill(name string) {
	for _, c := range e.Containers() {
		if c.Spec().ID == name {
			c.Kill(driver.Exit{Code: 1})
		}
	}
}
