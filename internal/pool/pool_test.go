package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

func TestFirstCallLaunchesAndLaterOnesReuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		first := mustAcquire(t, p, fnSpec("a"))
		if !first.Cold {
			t.Error("the first call was not cold")
		}
		first.Release()
		second := mustAcquire(t, p, fnSpec("a"))
		if second.Cold || second.ID != first.ID {
			t.Errorf("second call: cold %v, instance %s instead of %s", second.Cold, second.ID, first.ID)
		}
		second.Release()
		second.Release() // has no effect
		second.Destroy("nor this")
		if created := e.Calls(fake.OpCreate); created != 1 {
			t.Errorf("%d containers were made", created)
		}
		closePool(t, p, e)
	})
}

// checkParallel makes four calls at once, for which launches are to begin at once too.
func checkParallel(t *testing.T, p *Pool) {
	t.Helper()
	began := time.Now()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			lease := mustAcquire(t, p, fnSpec("a"))
			time.Sleep(time.Minute)
			lease.Release()
		})
	}
	wg.Wait()
	if took := time.Since(began); took != startDelay+time.Minute {
		t.Errorf("took %v: launches were not parallel", took)
	}
}

func TestParallelCallsLaunchOneInstanceEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		checkParallel(t, p)
		if created := e.Calls(fake.OpCreate); created != 4 {
			t.Errorf("%d containers were made", created)
		}
		closePool(t, p, e)
	})
}

func TestReturningInstanceIsHandedToTheOldestWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 1 * mib })
		held := mustAcquire(t, p, fnSpec("a"))
		var mu sync.Mutex
		var order []int
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				lease := mustAcquire(t, p, fnSpec("a"))
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				lease.Release()
			})
			synctest.Wait()
		}
		began := time.Now()
		held.Release()
		wg.Wait()
		if took := time.Since(began); took != 0 {
			t.Errorf("hand-over took %v", took)
		}
		if !slices.IsSorted(order) {
			t.Errorf("served in the order %v", order)
		}
		closePool(t, p, e)
	})
}

func TestMostRecentlyUsedInstanceIsTakenFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		a, b := mustAcquire(t, p, fnSpec("a")), (*Lease)(nil)
		b = mustAcquire(t, p, fnSpec("a"))
		a.Release()
		b.Release()
		if got := mustAcquire(t, p, fnSpec("a")); got.ID != b.ID {
			t.Error("got the instance that was idle longest")
		} else {
			got.Release()
		}
		closePool(t, p, e)
	})
}

func TestIdleInstanceEndsAfterItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		mustAcquire(t, p, fnSpec("a")).Release()
		time.Sleep(29 * time.Second)
		mustAcquire(t, p, fnSpec("a")).Release() // begins a new idle time
		time.Sleep(29 * time.Second)
		synctest.Wait()
		if live := e.Live(); live != 1 {
			t.Fatal("ended too early")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if live := e.Live(); live != 0 {
			t.Error("still there")
		}
		if len(p.groups) != 0 {
			t.Error("the group was not forgotten")
		}
		closePool(t, p, e)
	})
}

func TestLeavingCallerGivesItsTurnToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 1 * mib })
		held := mustAcquire(t, p, fnSpec("a"))
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := p.Acquire(ctx, fnSpec("a"))
			left <- err
		}()
		synctest.Wait()
		got := make(chan *Lease, 1)
		go func() { got <- mustAcquire(t, p, fnSpec("a")) }()
		synctest.Wait()
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("the one who left got %v", err)
		}
		held.Release()
		(<-got).Release()
		closePool(t, p, e)
	})
}

func TestCallerThatLeavesWhileBeingServedLosesNothing(t *testing.T) {
	// Both happen at once, many times, so that both orders occur.
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			e := newEngine()
			p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 1 * mib })
			held := mustAcquire(t, p, fnSpec("a"))
			ctx, leave := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() {
				if lease, err := p.Acquire(ctx, fnSpec("a")); err == nil {
					lease.Release()
				}
			})
			synctest.Wait()
			wg.Go(leave)
			wg.Go(held.Release)
			wg.Wait()
			mustAcquire(t, p, fnSpec("a")).Release()
			closePool(t, p, e)
		})
	}
}

func TestCallerThatHasLeftGetsNoInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		held := mustAcquire(t, p, fnSpec("a"))
		// Served and left at the same moment: select may see either first.
		gone, leave := context.WithCancel(t.Context())
		leave()
		if lease, err := p.accept(gone, grant{inst: held.Instance}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, %v", lease, err)
		}
		if stats := p.Stats(); stats.Idle != 1 || stats.Busy != 0 {
			t.Errorf("the instance is not idle: %+v", stats)
		}
		// That it left is what ended its call, whatever else failed.
		if lease, err := p.accept(gone, grant{err: errBroken}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, %v", lease, err)
		}
		closePool(t, p, e)
	})
}

func TestWaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 1 * mib })
		held := mustAcquire(t, p, fnSpec("a"))
		began := time.Now()
		_, err := p.Acquire(t.Context(), fnSpec("a"))
		if !errors.Is(err, model.ErrServerBusy) || !errors.Is(err, invoke.ErrNotPlaced) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("after %v", took)
		}
		held.Release()
		closePool(t, p, e)
	})
}

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 1 * mib; o.QueueSize = 2 })
		held := mustAcquire(t, p, fnSpec("a"))
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { mustAcquire(t, p, fnSpec("a")).Release() })
		}
		synctest.Wait()
		if _, err := p.Acquire(t.Context(), fnSpec("a")); !errors.Is(err, model.ErrServerBusy) {
			t.Errorf("the third in line got %v", err)
		}
		held.Release()
		wg.Wait()
		closePool(t, p, e)
	})
}

func TestChangedSpecGetsItsOwnInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		old := mustAcquire(t, p, fnSpec("v1"))
		fresh := mustAcquire(t, p, fnSpec("v2"))
		if old.ID == fresh.ID {
			t.Error("one instance for two specs")
		}
		old.Release()
		fresh.Release()
		closePool(t, p, e)
	})
}

func TestDestroyedInstanceIsReplacedForTheWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script.RemoveDelay = 100 * time.Millisecond
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 1 * mib })
		held := mustAcquire(t, p, fnSpec("a"))
		got := make(chan *Lease, 1)
		go func() { got <- mustAcquire(t, p, fnSpec("a")) }()
		synctest.Wait()
		began := time.Now()
		held.Destroy("test")
		lease := <-got
		if lease.ID == held.ID {
			t.Error("got the destroyed instance")
		}
		if took := time.Since(began); took != e.script.RemoveDelay+startDelay {
			t.Errorf("took %v", took)
		}
		lease.Release()
		if most := e.MaxLive(); most != 1 {
			t.Errorf("%d containers at a time on a machine for one", most)
		}
		closePool(t, p, e)
	})
}

func TestInstanceThatDiesAtRestIsTakenOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		first := mustAcquire(t, p, fnSpec("a"))
		first.Release()
		e.killAll()
		synctest.Wait()
		if got := p.Stats(); got.Idle != 0 || got.Used != (capacity.Amount{}) {
			t.Errorf("still counted: %+v", got)
		}
		second := mustAcquire(t, p, fnSpec("a"))
		if second.ID == first.ID {
			t.Error("got the dead instance")
		}
		second.Release()
		closePool(t, p, e)
	})
}

func TestInstanceThatDiesInUseIsNotHandedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		first := mustAcquire(t, p, fnSpec("a"))
		e.killAll()
		synctest.Wait()
		first.Release()
		second := mustAcquire(t, p, fnSpec("a"))
		if second.ID == first.ID {
			t.Error("got the dead instance")
		}
		second.Release()
		closePool(t, p, e)
	})
}

func TestEngineThatGoesAwayDoesNotKillInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		first := mustAcquire(t, p, fnSpec("a"))
		e.Down()
		time.Sleep(time.Minute)
		first.Release()
		e.Up()
		second := mustAcquire(t, p, fnSpec("a"))
		if second.ID != first.ID {
			t.Error("a healthy instance was given up")
		}
		second.Release()
		closePool(t, p, e)
	})
}

func TestRemovalIsRepeatedUntilTheEngineConfirms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script.RemoveFailures = 5
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 1 * mib })
		mustAcquire(t, p, fnSpec("a")).Destroy("test")
		synctest.Wait()
		if used := p.Stats().Used.MemoryBytes; used == 0 {
			t.Error("memory was given back although the container may be there")
		}
		mustAcquire(t, p, fnSpec("a")).Release()
		closePool(t, p, e)
	})
}

func TestCloseWaitsForCallersThenEndsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 2 * mib })
		polite, rude := mustAcquire(t, p, fnSpec("a")), mustAcquire(t, p, fnSpec("a"))
		waiting := make(chan error, 1)
		go func() {
			_, err := p.Acquire(t.Context(), fnSpec("a"))
			waiting <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		closed := make(chan error, 1)
		go func() { closed <- p.Close(ctx) }()
		synctest.Wait()
		if err := <-waiting; !errors.Is(err, model.ErrServerBusy) {
			t.Errorf("who waited got %v", err)
		}
		if _, err := p.Acquire(t.Context(), fnSpec("a")); !errors.Is(err, model.ErrServerBusy) {
			t.Errorf("who came later got %v", err)
		}
		polite.Release()
		began := time.Now()
		if err := <-closed; err == nil {
			t.Error("no error although a call had to be ended")
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("took %v", took)
		}
		rude.Release()
		if live := e.Live(); live != 0 {
			t.Errorf("%d containers left", live)
		}
	})
}

func TestCloseEndsLaunchesInProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script.SocketDelay = time.Hour
		p := newPool(t, e, func(o *Options) { o.StartTimeout = 0 })
		go p.Acquire(t.Context(), fnSpec("a"))
		time.Sleep(time.Second)
		began := time.Now()
		closePool(t, p, e)
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}

func TestTooLargeNeverFits(t *testing.T) {
	e := newEngine()
	p := newPool(t, e, nil)
	for size, want := range map[int64]bool{0: true, 1: true, 4: true, 5: false} {
		if got := p.Fits(sized("x", size).Need); got != want {
			t.Errorf("%d MiB: %v", size, got)
		}
	}
	if p.Fits(capacity.Amount{MilliCPU: 4001}) {
		t.Error("more processors than there are")
	}
	closePool(t, p, e)
}

func TestStatesFollowTheDiagram(t *testing.T) {
	all := []State{Launching, Idle, Frozen, Busy, Ending}
	g := &group{watcher: blind{}}
	for _, from := range all {
		for _, to := range all {
			func() {
				defer func() {
					if panicked := recover() != nil; panicked == slices.Contains(legal[from], to) {
						t.Errorf("%v to %v: panic %v", from, to, panicked)
					}
				}()
				(&Instance{state: from, group: g}).setState(to)
			}()
		}
	}
	if got := fmt.Sprint(all); got != "[launching idle frozen busy ending]" {
		t.Error(got)
	}
}
