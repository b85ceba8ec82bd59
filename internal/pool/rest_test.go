package pool

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/model"
)

// freezing makes a pool that freezes instances after 50 ms of rest.
func freezing(t *testing.T, e *engine) *Pool {
	t.Helper()
	return newPool(t, e, func(o *Options) { o.FreezeAfter = 50 * time.Millisecond })
}

func TestRestingInstanceIsFrozenAndThawedBeforeItIsHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := freezing(t, e)
		mustAcquire(t, p, fnSpec("a")).Release()
		container := e.Containers()[0]
		time.Sleep(49 * time.Millisecond)
		synctest.Wait()
		if container.Frozen() {
			t.Error("frozen too early")
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if stats := p.Stats(); !container.Frozen() || stats.Frozen != 1 || stats.Idle != 0 {
			t.Fatalf("not frozen: %+v", stats)
		}
		lease := mustAcquire(t, p, fnSpec("a"))
		if container.Frozen() || lease.Cold {
			t.Errorf("handed over frozen %v, cold %v", container.Frozen(), lease.Cold)
		}
		lease.Release()
		closePool(t, p, e)
	})
}

func TestBusyInstanceIsNotFrozen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := freezing(t, e)
		mustAcquire(t, p, fnSpec("a")).Release()
		time.Sleep(49 * time.Millisecond)
		lease := mustAcquire(t, p, fnSpec("a")) // a moment before the timer fires
		time.Sleep(time.Second)
		synctest.Wait()
		if e.Calls(fake.OpFreeze) != 0 {
			t.Error("frozen while it was used")
		}
		lease.Release()
		closePool(t, p, e)
	})
}

func TestInstanceTakenWhileItIsBeingFrozenIsThawed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script.FreezeDelay = 20 * time.Millisecond
		p := freezing(t, e)
		mustAcquire(t, p, fnSpec("a")).Release()
		time.Sleep(60 * time.Millisecond) // the engine is at it
		lease := mustAcquire(t, p, fnSpec("a"))
		if lease.Cold || e.Containers()[0].Frozen() {
			t.Errorf("cold %v, frozen %v", lease.Cold, e.Containers()[0].Frozen())
		}
		lease.Release()
		closePool(t, p, e)
	})
}

func TestFrozenInstanceEndsAfterItsIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := freezing(t, e)
		mustAcquire(t, p, fnSpec("a")).Release()
		time.Sleep(30*time.Second - time.Millisecond)
		if e.Live() != 1 {
			t.Error("removed too early")
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if e.Live() != 0 {
			t.Error("not removed")
		}
		closePool(t, p, e)
	})
}

func TestFrozenInstanceThatDiesIsTakenOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := freezing(t, e)
		mustAcquire(t, p, fnSpec("a")).Release()
		time.Sleep(time.Second)
		e.killAll()
		synctest.Wait()
		if e.Live() != 0 {
			t.Error("the dead container is kept")
		}
		closePool(t, p, e)
	})
}

func TestInstanceThatCannotBeThawedIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script.ThawErr = errBroken
		p := freezing(t, e)
		mustAcquire(t, p, fnSpec("a")).Release()
		time.Sleep(time.Second)
		e.script.ThawErr = nil // of the next container
		lease := mustAcquire(t, p, fnSpec("a"))
		if !lease.Cold || e.Calls(fake.OpCreate) != 2 {
			t.Errorf("cold %v, %d containers", lease.Cold, e.Calls(fake.OpCreate))
		}
		lease.Release()
		closePool(t, p, e)
	})
}

func TestHungEngineIsNotTriedWithOneFrozenInstanceAfterAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const instances, limit = 4, 7 * time.Second // the node has room for four
		e := newEngine()
		e.script.ThawDelay = time.Hour
		p := newPool(t, e, func(o *Options) { o.FreezeAfter, o.QueueTimeout = 50*time.Millisecond, limit })
		leases := make([]*Lease, instances)
		for i := range leases {
			leases[i] = mustAcquire(t, p, fnSpec("a"))
		}
		for _, lease := range leases {
			lease.Release()
		}
		time.Sleep(time.Second)
		began := time.Now()
		_, err := p.Acquire(t.Context(), fnSpec("a"))
		if !errors.Is(err, model.ErrServerBusy) || model.RetryAfter(err) == 0 {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took > limit+freezeTimeout {
			t.Errorf("after %v", took)
		}
		closePool(t, p, e)
	})
}

func TestInstanceRunsOnWhileTheEngineDoesNotAnswerTheFreeze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script.FreezeErr = fmt.Errorf("%w: %w", driver.ErrNotFrozen, driver.ErrUnavailable)
		p := freezing(t, e)
		mustAcquire(t, p, fnSpec("a")).Release()
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if e.Live() != 1 || p.Stats().Idle != 1 {
			t.Errorf("%d containers, %+v", e.Live(), p.Stats())
		}
		// After 50 ms, then after pauses of 1, 2, 4 and 8 seconds.
		if tries := e.Calls(fake.OpFreeze); tries != 5 {
			t.Errorf("%d attempts", tries)
		}
		lease := mustAcquire(t, p, fnSpec("a"))
		if lease.Cold || e.Calls(fake.OpThaw) != 0 {
			t.Errorf("cold %v, thawed %d times", lease.Cold, e.Calls(fake.OpThaw))
		}
		lease.Release()
		closePool(t, p, e)
	})
}

func TestInstanceThatCannotBeFrozenIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script.FreezeErr = errBroken
		p := freezing(t, e)
		mustAcquire(t, p, fnSpec("a")).Release()
		time.Sleep(time.Second)
		synctest.Wait()
		if e.Live() != 0 {
			t.Error("it is kept, and uses processor time")
		}
		closePool(t, p, e)
	})
}

func TestEngineThatHangsWhileFreezingHoldsNobodyForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := freezing(t, e)
		mustAcquire(t, p, fnSpec("a")).Release()
		e.Hang(fake.OpFreeze)
		time.Sleep(60 * time.Millisecond)
		began := time.Now()
		lease := mustAcquire(t, p, fnSpec("a"))
		if took := time.Since(began); took > freezeTimeout+startDelay {
			t.Errorf("took %v", took)
		}
		lease.Release()
		e.Hang()
		closePool(t, p, e)
	})
}

func TestNothingIsFrozenWhereThatIsNotWantedOrNotPossible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		mustAcquire(t, p, fnSpec("a")).Release()
		time.Sleep(time.Second)
		if e.Calls(fake.OpFreeze) != 0 {
			t.Error("frozen although it is off")
		}
		closePool(t, p, e)
	})
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.noFreeze = true
		p := freezing(t, e)
		mustAcquire(t, p, fnSpec("a")).Release()
		time.Sleep(time.Second)
		if e.Calls(fake.OpFreeze) != 0 {
			t.Error("frozen although the engine cannot")
		}
		closePool(t, p, e)
	})
}

func TestFrozenInstanceIsEvictable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.FreezeAfter = 50 * time.Millisecond; o.Total.MemoryBytes = mib })
		mustAcquire(t, p, fnSpec("a")).Release()
		time.Sleep(time.Second)
		lease := mustAcquire(t, p, fnSpec("b"))
		lease.Release()
		closePool(t, p, e)
	})
}

func TestKilledWhileBusyIsReportedWithItsExit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		lease := mustAcquire(t, p, fnSpec("a"))
		e.Containers()[0].Kill(driver.Exit{Code: 137, OutOfMemory: true})
		lease.Lost("the connection broke")
		if ending := lease.Ended(t.Context()); !ending.ByItself || ending.Exit == nil || !ending.Exit.OutOfMemory {
			t.Errorf("ended %+v", ending)
		}
		closePool(t, p, e)
	})
}

func TestEndingTellsACrashFromWhatThePoolDid(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(*engine, *Lease)
		want string
		took time.Duration
	}{
		"given back":  {func(_ *engine, l *Lease) { l.Release() }, "", time.Minute},
		"destroyed":   {func(_ *engine, l *Lease) { l.Destroy("it timed out") }, "ended by the server: it timed out", 0},
		"crashed":     {func(e *engine, l *Lease) { e.killAll(); l.Lost("broken") }, "exit code 1", 0},
		"still alive": {func(_ *engine, l *Lease) { l.Lost("broken") }, "ended by the server: broken", exitGrace},
		"ends slowly": {func(e *engine, l *Lease) {
			time.AfterFunc(exitGrace/2, e.killAll)
			l.Lost("broken")
		}, "exit code 1", exitGrace / 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEngine()
				p := newPool(t, e, nil)
				lease := mustAcquire(t, p, fnSpec("a"))
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				began := time.Now()
				test.end(e, lease)
				if got := lease.Ended(ctx).String(); got != test.want && test.want != "" || time.Since(began) != test.took && test.took != time.Minute {
					t.Errorf("after %v: %q", time.Since(began), got)
				}
				closePool(t, p, e)
			})
		})
	}
}

func TestFailedLaunchShowsWhatIsLeftOfTheInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script.Exit = &driver.Exit{Code: 139}
		p := newPool(t, e, nil)
		_, err := p.Acquire(t.Context(), fnSpec("a"))
		launch, ok := errors.AsType[*LaunchError](err)
		if !ok {
			t.Fatalf("got %v", err)
		}
		if got := launch.Instance.Ended(t.Context()).String(); got != "signal 11 (segmentation fault)" {
			t.Errorf("ended: %s", got)
		}
		closePool(t, p, e)
	})
}

func TestCallerThatLeavesGetsAwayWhileItsInstanceIsBeingThawed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script.ThawDelay = 2 * time.Second
		p := freezing(t, e)
		mustAcquire(t, p, fnSpec("a")).Release()
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := p.Acquire(ctx, fnSpec("a")); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		lease := mustAcquire(t, p, fnSpec("a")) // another one, as the first is being thawed
		time.Sleep(time.Minute)
		lease.Release()
		if e.Calls(fake.OpCreate) != 2 {
			t.Errorf("%d launches", e.Calls(fake.OpCreate))
		}
		closePool(t, p, e)
	})
}

func TestLateFreezeOfAnEarlierRestDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := freezing(t, e)
		mustAcquire(t, p, fnSpec("a")).Release()
		time.Sleep(time.Second)
		for inst := range p.groups["a"].all {
			p.freeze(inst)
		}
		synctest.Wait()
		if stats := p.Stats(); stats.Frozen != 1 {
			t.Errorf("%+v", stats)
		}
		closePool(t, p, e)
	})
}
