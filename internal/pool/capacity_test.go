package pool

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/model"
)

func TestLongestIdleInstanceOfAnotherFunctionIsEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 2 * mib })
		mustAcquire(t, p, fnSpec("old")).Release()
		time.Sleep(time.Second)
		mustAcquire(t, p, fnSpec("young")).Release()
		mustAcquire(t, p, fnSpec("new")).Release()
		created := e.Calls(fake.OpCreate)
		mustAcquire(t, p, fnSpec("young")).Release()
		if again := e.Calls(fake.OpCreate); again != created {
			t.Error("the younger one was evicted")
		}
		closePool(t, p, e)
	})
}

func TestBusyInstancesAreNotEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 1 * mib; o.QueueTimeout = 10 * time.Second })
		busy := mustAcquire(t, p, fnSpec("busy"))
		if _, err := p.Acquire(t.Context(), fnSpec("other")); !errors.Is(err, model.ErrServerBusy) {
			t.Errorf("got %v", err)
		}
		busy.Release()
		closePool(t, p, e)
	})
}

func TestNobodyIsEvictedInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 3 * mib; o.QueueTimeout = 2 * time.Second })
		idle := mustAcquire(t, p, fnSpec("idle"))
		busy := mustAcquire(t, p, fnSpec("busy"))
		idle.Release()
		if _, err := p.Acquire(t.Context(), sized("large", 3)); !errors.Is(err, model.ErrServerBusy) {
			t.Errorf("got %v", err)
		}
		if got := p.Stats().Idle; got != 1 {
			t.Errorf("%d idle instances, want 1", got)
		}
		busy.Release()
		closePool(t, p, e)
	})
}

func TestFreedMemoryIsKeptForTheOneThatAskedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script.RemoveDelay = time.Second
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 4 * mib })
		var held []*Lease
		for range 4 {
			held = append(held, mustAcquire(t, p, fnSpec("small")))
		}
		var order []string
		var mu sync.Mutex
		var wg sync.WaitGroup
		want := func(spec *Spec) {
			wg.Go(func() {
				lease := mustAcquire(t, p, spec)
				mu.Lock()
				order = append(order, spec.FnID)
				mu.Unlock()
				lease.Release()
			})
			synctest.Wait()
		}
		want(sized("large", 4))
		time.Sleep(time.Millisecond)
		want(fnSpec("late")) // would fit as soon as one of the small ones ends
		for _, lease := range held {
			lease.Release()
			time.Sleep(100 * time.Millisecond)
		}
		wg.Wait()
		if order[0] != "large" {
			t.Errorf("served in the order %v", order)
		}
		closePool(t, p, e)
	})
}

func TestIdleInstanceMakesRoomForAWaitingFunctionAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 1 * mib })
		a := mustAcquire(t, p, fnSpec("a"))
		got := make(chan *Lease)
		go func() { got <- mustAcquire(t, p, fnSpec("b")) }()
		synctest.Wait()
		began := time.Now()
		a.Release()
		lease := <-got
		if took := time.Since(began); took != startDelay {
			t.Errorf("took %v", took)
		}
		lease.Release()
		closePool(t, p, e)
	})
}

func TestBusyFunctionDoesNotStarveOneWithoutInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 2 * mib })
		var stop atomic.Bool
		var wg sync.WaitGroup
		for range 10 { // more clients than there is room for, without a pause
			wg.Go(func() {
				for !stop.Load() {
					lease := mustAcquire(t, p, fnSpec("greedy"))
					time.Sleep(100 * time.Millisecond)
					lease.Release()
				}
			})
		}
		time.Sleep(5 * time.Second)
		began := time.Now()
		lease := mustAcquire(t, p, fnSpec("modest"))
		if waited := time.Since(began); waited > DefaultYieldAfter+startDelay+200*time.Millisecond {
			t.Errorf("waited %v", waited)
		}
		lease.Release()
		stop.Store(true)
		wg.Wait()
		closePool(t, p, e)
	})
}

func TestFunctionsThatOnlyFitOneAtATimeTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		var wg sync.WaitGroup
		for _, name := range []string{"a", "b", "c"} {
			for range 5 {
				wg.Go(func() {
					lease := mustAcquire(t, p, sized(name, 3))
					time.Sleep(100 * time.Millisecond)
					lease.Release()
				})
			}
		}
		wg.Wait()
		if created := e.Calls(fake.OpCreate); created > 4 {
			t.Errorf("%d launches for 15 calls", created)
		}
		closePool(t, p, e)
	})
}

func TestFailFastRefusesWhatDoesNotFitNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.FailFast = true })
		var ok, busy atomic.Int32
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				lease, err := p.Acquire(t.Context(), fnSpec("a"))
				switch {
				case err == nil:
					ok.Add(1)
					time.Sleep(time.Minute)
					lease.Release()
				case errors.Is(err, model.ErrServerBusy):
					busy.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if ok.Load() != 4 || busy.Load() != 16 {
			t.Errorf("%d served, %d refused", ok.Load(), busy.Load())
		}
		// What can be had by eviction is not refused.
		mustAcquire(t, p, fnSpec("b")).Release()
		closePool(t, p, e)
	})
}

func TestManyCallsOnASmallMachineAreAllServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				lease := mustAcquire(t, p, fnSpec(string(rune('a'+i%3))))
				time.Sleep(10 * time.Millisecond)
				lease.Release()
			})
		}
		wg.Wait()
		if most := e.MaxLive(); most > 4 {
			t.Errorf("%d containers at a time on a machine for 4", most)
		}
		closePool(t, p, e)
	})
}

func TestStuckRemovalDoesNotPreventEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script.RemoveFailures = 1000
		p := newPool(t, e, nil)
		mustAcquire(t, p, fnSpec("stuck")).Destroy("for the test")
		for i := range 3 {
			spec := fnSpec("idle" + string(rune('0'+i)))
			spec.IdleTimeout = time.Hour
			mustAcquire(t, p, spec).Release()
		}
		began := time.Now()
		mustAcquire(t, p, fnSpec("new")).Release()
		if took := time.Since(began); took > 2*startDelay {
			t.Errorf("served after %v", took)
		}
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
		_ = e.Close(t.Context())
	})
}

func TestInstancesThatAreBeingRemovedCountAgainstTheMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script.RemoveDelay = 3 * time.Second
		p := newPool(t, e, nil)
		for range 4 {
			mustAcquire(t, p, scaled("a", model.Scale{MaxInstances: 1, MaxCalls: 1})).Release()
		}
		if e.MaxLive() > 1 {
			t.Errorf("%d containers at a time", e.MaxLive())
		}
		closePool(t, p, e)
	})
}

func TestFailFastRefusesAtOnceWhatNoLaunchCanServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.FailFast = true })
		spec := scaled("a", model.Scale{MaxInstances: 1})
		held := mustAcquire(t, p, spec)
		began := time.Now()
		if _, err := p.Acquire(t.Context(), spec); !errors.Is(err, model.ErrServerBusy) || time.Since(began) > 0 {
			t.Errorf("all instances busy: %v after %v", err, time.Since(began))
		}
		held.Release()
		e.createErr = always(errBroken)
		if _, err := p.Acquire(t.Context(), fnSpec("b")); !errors.Is(err, errBroken) {
			t.Errorf("got %v", err)
		}
		began = time.Now()
		if _, err := p.Acquire(t.Context(), fnSpec("b")); !errors.Is(err, model.ErrServerBusy) || time.Since(began) > 0 || model.RetryAfter(err) != firstBackoff {
			t.Errorf("after a failed launch: %v after %v, again in %v", err, time.Since(began), model.RetryAfter(err))
		}
		closePool(t, p, e)
	})
}

func TestThousandsOfFunctionsDoNotSlowEachOtherDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script.SocketDelay = time.Millisecond
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 100 * mib; o.QueueTimeout = 10 * time.Minute })
		var wg sync.WaitGroup
		for i := range 2000 {
			wg.Go(func() {
				lease := mustAcquire(t, p, fnSpec("fn"+strconv.Itoa(i)))
				time.Sleep(10 * time.Millisecond)
				lease.Release()
			})
		}
		began := time.Now()
		wg.Wait()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("all were served after %v", took)
		}
		closePool(t, p, e)
	})
}
