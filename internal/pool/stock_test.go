package pool

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/model"
)

func scaled(name string, scale model.Scale) *Spec {
	spec := fnSpec(name)
	spec.Scale = scale
	return spec
}

func TestNoMoreInstancesThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				lease := mustAcquire(t, p, scaled("a", model.Scale{MaxInstances: 2}))
				time.Sleep(time.Second)
				lease.Release()
			})
		}
		wg.Wait()
		if most := e.MaxLive(); most != 2 {
			t.Errorf("%d instances", most)
		}
		closePool(t, p, e)
	})
}

func TestAsManyInstancesAreKeptAsWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		p.Keep(scaled("a", model.Scale{MinInstances: 2}))
		time.Sleep(startDelay)
		synctest.Wait()
		if stats := p.Stats(); stats.Idle != 2 {
			t.Fatalf("%+v", stats)
		}
		if lease := mustAcquire(t, p, scaled("a", model.Scale{MinInstances: 2})); lease.ID == "" {
			t.Error("no instance")
		} else {
			lease.Release()
		}
		time.Sleep(5 * time.Minute) // far beyond the idle timeout
		synctest.Wait()
		if stats := p.Stats(); stats.Idle != 2 || e.Calls(fake.OpCreate) != 2 {
			t.Errorf("%+v after %d launches", stats, e.Calls(fake.OpCreate))
		}
		e.killAll()
		time.Sleep(startDelay)
		synctest.Wait()
		if stats := p.Stats(); stats.Idle != 2 {
			t.Errorf("not replaced: %+v", stats)
		}
		closePool(t, p, e)
	})
}

func TestKeptInstancesAreNotEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes, o.QueueTimeout = 2*mib, 5*time.Second })
		p.Keep(scaled("kept", model.Scale{MinInstances: 1}))
		time.Sleep(startDelay)
		mustAcquire(t, p, fnSpec("a")).Release()
		mustAcquire(t, p, fnSpec("b")).Release()
		if _, err := p.Acquire(t.Context(), sized("large", 2)); !errors.Is(err, model.ErrServerBusy) {
			t.Errorf("got %v", err)
		}
		closePool(t, p, e)
	})
}

func TestSurplusAboveWhatIsKeptGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		spec := scaled("a", model.Scale{MinInstances: 1})
		p.Keep(spec)
		a, b := mustAcquire(t, p, spec), mustAcquire(t, p, spec)
		a.Release()
		b.Release()
		time.Sleep(time.Minute)
		synctest.Wait()
		if stats := p.Stats(); stats.Idle != 1 {
			t.Errorf("%+v", stats)
		}
		closePool(t, p, e)
	})
}

func TestInstanceServesNoMoreCallsThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		for range 6 {
			mustAcquire(t, p, scaled("a", model.Scale{MaxCalls: 2})).Release()
		}
		if created := e.Calls(fake.OpCreate); created != 3 {
			t.Errorf("%d instances for six calls", created)
		}
		closePool(t, p, e)
	})
}

func TestLeaseThatIsGivenBackUnusedIsNoCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		spec := scaled("a", model.Scale{MaxCalls: 1})
		unused := mustAcquire(t, p, spec)
		time.Sleep(time.Minute)
		unused.ReleaseUnused()
		if held := p.groups["a"].holdTime.value; held != 0 {
			t.Errorf("it counts as a call of %v", held)
		}
		mustAcquire(t, p, spec).Release()
		if created := e.Calls(fake.OpCreate); created != 1 {
			t.Errorf("%d instances for one call", created)
		}
		closePool(t, p, e)
	})
}

func TestInstanceDoesNotOutliveItsAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		spec := scaled("a", model.Scale{MaxAge: 10 * time.Second})
		mustAcquire(t, p, spec).Release()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if e.Live() != 0 {
			t.Error("it lives on at rest")
		}
		busy := mustAcquire(t, p, spec)
		time.Sleep(time.Minute)
		busy.Release()
		synctest.Wait()
		if e.Live() != 0 {
			t.Error("it lives on after its call")
		}
		closePool(t, p, e)
	})
}

// revised is the function with another definition, changed at that time.
func revised(key string, at time.Duration) *Spec {
	spec := fnSpec("a")
	spec.Key, spec.Revision = key, Revision{Fn: time.Unix(0, 0).Add(at)}
	return spec
}

func TestChangedDefinitionEndsRestingInstancesAtOnceAndBusyOnesAfterTheirCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		busy, idle := mustAcquire(t, p, revised("v1", 1)), mustAcquire(t, p, revised("v1", 1))
		idle.Release()
		fresh := mustAcquire(t, p, revised("v2", 2))
		if !fresh.Cold {
			t.Error("an instance of the old definition served the new one")
		}
		synctest.Wait()
		if live := e.Live(); live != 2 {
			t.Errorf("%d containers live, want the busy one and the new one", live)
		}
		busy.Release()
		fresh.Release()
		synctest.Wait()
		if live := e.Live(); live != 1 {
			t.Errorf("%d containers live, want the new one", live)
		}
		// A late call with the old definition is served and leaves nothing.
		mustAcquire(t, p, revised("v1", 1)).Release()
		synctest.Wait()
		if stats := p.Stats(); stats.Idle != 1 {
			t.Errorf("%+v", stats)
		}
		// Back to the first: its definition is the newest now.
		mustAcquire(t, p, revised("v1", 3)).Release()
		synctest.Wait()
		if stats := p.Stats(); stats.Idle != 1 {
			t.Errorf("after going back: %+v", stats)
		}
		closePool(t, p, e)
	})
}

func TestSpecsOfOneRevisionLiveSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		for range 3 {
			mustAcquire(t, p, revised("with", 1)).Release()
			mustAcquire(t, p, revised("without", 1)).Release()
		}
		if created := e.Calls(fake.OpCreate); created != 2 {
			t.Errorf("%d launches", created)
		}
		closePool(t, p, e)
	})
}

func TestDeletedFunctionLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		p.Keep(scaled("a", model.Scale{MinInstances: 1}))
		time.Sleep(startDelay)
		busy := mustAcquire(t, p, scaled("a", model.Scale{MinInstances: 1}))
		p.Retire("a")
		busy.Release()
		time.Sleep(time.Minute)
		synctest.Wait()
		if e.Live() != 0 || len(p.groups) != 0 {
			t.Errorf("%d containers, %d groups", e.Live(), len(p.groups))
		}
		closePool(t, p, e)
	})
}

func TestFailingFunctionIsNotLaunchedWithoutPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.createErr = always(errBroken)
		p := newPool(t, e, nil)
		deadline := time.Now().Add(30 * time.Second)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for time.Now().Before(deadline) {
					if _, err := p.Acquire(t.Context(), fnSpec("a")); !errors.Is(err, errBroken) {
						t.Errorf("a caller was told %v", err)
					}
				}
			})
		}
		wg.Wait()
		if attempts := e.Calls(fake.OpCreate); attempts > 60 {
			t.Errorf("%d launches in half a minute", attempts)
		}
		e.createErr = nil
		began := time.Now()
		mustAcquire(t, p, fnSpec("a")).Release()
		if took := time.Since(began); took > lonelyBackoff+startDelay {
			t.Errorf("recovery took %v", took)
		}
		closePool(t, p, e)
	})
}

func TestRefusalSaysWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes, o.QueueSize = mib, 3 })
		lease := mustAcquire(t, p, fnSpec("a"))
		time.Sleep(10 * time.Second)
		lease.Release() // ten seconds a call
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				lease := mustAcquire(t, p, fnSpec("a"))
				time.Sleep(10 * time.Second)
				lease.Release()
			})
		}
		synctest.Wait()
		_, err := p.Acquire(t.Context(), fnSpec("a"))
		if after := model.RetryAfter(err); !errors.Is(err, model.ErrServerBusy) || after != 40*time.Second {
			t.Errorf("got %v, again in %v", err, after)
		}
		wg.Wait()
		closePool(t, p, e)
	})
}

func TestMinimumInstancesLeaveRoomForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil) // four places, of which three may be kept
		p.Keep(scaled("first", model.Scale{MinInstances: 2}))
		p.Keep(scaled("second", model.Scale{MinInstances: 2}))
		time.Sleep(startDelay)
		synctest.Wait()
		kept := map[string]int{}
		p.Each(func(spec *Spec, c Counts) { kept[spec.FnID] = c.Idle })
		if kept["first"] != 2 || kept["second"] != 1 {
			t.Errorf("kept %v", kept)
		}
		mustAcquire(t, p, fnSpec("other")).Release()
		// What the first does not keep any more is for the second.
		p.Retire("first")
		time.Sleep(startDelay)
		synctest.Wait()
		p.Each(func(spec *Spec, c Counts) { kept[spec.FnID] = c.Idle })
		if kept["second"] != 2 {
			t.Errorf("kept %v after the first was deleted", kept)
		}
		closePool(t, p, e)
	})
}

func TestMaximumCountsWhereTheMinimumIsLarger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		p.Keep(scaled("a", model.Scale{MinInstances: 3, MaxInstances: 1}))
		time.Sleep(time.Minute)
		synctest.Wait()
		if stats := p.Stats(); stats.Idle != 1 || e.MaxLive() != 1 {
			t.Errorf("%+v, %d at one time", stats, e.MaxLive())
		}
		closePool(t, p, e)
	})
}

func TestStockThatNeverFoundRoomIsForgottenWithItsDefinition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		var held []*Lease
		for range 4 {
			held = append(held, mustAcquire(t, p, fnSpec("busy")))
		}
		spec := revised("v1", 1)
		spec.Scale.MinInstances = 1
		p.Keep(spec)
		synctest.Wait()
		p.Keep(revised("v2", 2))
		if len(p.groups) != 1 {
			t.Errorf("%d groups", len(p.groups))
		}
		for _, lease := range held {
			lease.Release()
		}
		closePool(t, p, e)
	})
}

func TestDeletedAppLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		p.Keep(scaled("a", model.Scale{MinInstances: 1}))
		mustAcquire(t, p, fnSpec("b")).Release()
		p.RetireApp("app")
		synctest.Wait()
		if e.Live() != 0 || len(p.groups) != 0 {
			t.Errorf("%d containers, %d groups", e.Live(), len(p.groups))
		}
		closePool(t, p, e)
	})
}

// lateCall is a call that was resolved before the definition changed.
func lateCall(t *testing.T, p *Pool, spec *Spec) {
	t.Helper()
	mustAcquire(t, p, spec).Release()
	time.Sleep(time.Hour)
	synctest.Wait()
}

func TestLateCallDoesNotReviveADeletedFunction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		spec := scaled("a", model.Scale{MinInstances: 1})
		p.Keep(spec)
		time.Sleep(2 * startDelay)
		p.Retire("a")
		time.Sleep(time.Second)
		lateCall(t, p, spec)
		if e.Live() != 0 {
			t.Errorf("%d instances of a deleted function", e.Live())
		}
		closePool(t, p, e)
	})
}

func TestLateCallDoesNotReviveAnOldDefinition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		old := revised("v1", 1)
		old.Scale.MinInstances = 1
		p.Keep(old)
		time.Sleep(2 * startDelay)
		p.Keep(revised("v2", 2)) // wants none
		time.Sleep(time.Second)
		lateCall(t, p, old)
		if e.Live() != 0 {
			t.Errorf("%d instances of an old definition", e.Live())
		}
		closePool(t, p, e)
	})
}

func TestRevisionsAreOrderedByBothOfTheirParts(t *testing.T) {
	at := func(app, fn int64) Revision { return Revision{App: time.Unix(app, 0), Fn: time.Unix(fn, 0)} }
	for _, test := range []struct {
		a, b Revision
		want bool
	}{
		{at(1, 1), at(1, 1), false},
		{at(1, 1), at(1, 2), true},
		{at(1, 1), at(2, 1), true},
		{at(5, 1), at(5, 2), true}, // the app is newer than both functions
		{at(1, 2), at(2, 1), false},
		{at(2, 2), at(1, 1), false},
	} {
		if got := test.a.Older(test.b); got != test.want {
			t.Errorf("%v older than %v: %v", test.a, test.b, got)
		}
	}
}

func TestFailFastWithStockThatFindsNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script.SocketDelay = time.Hour
		p := newPool(t, e, func(o *Options) { o.FailFast, o.StartTimeout = true, 0 })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		acquire := func(spec *Spec) {
			wg.Go(func() { _, _ = p.Acquire(ctx, spec) })
		}
		for range 3 {
			acquire(fnSpec("other"))
		}
		synctest.Wait()
		spec := scaled("a", model.Scale{MinInstances: 3})
		p.Keep(spec) // takes the fourth place, and lacks two
		acquire(spec)
		wg.Wait()
		if stats := p.Stats(); stats.Launching != 4 {
			t.Errorf("%+v", stats)
		}
		closePool(t, p, e)
	})
}

func TestStockThatCrashesIsNotLaunchedWithoutPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script = fake.Script{SocketDelay: 10 * time.Millisecond, Exit: &driver.Exit{Code: 1}, ExitAfter: 20 * time.Millisecond}
		p := newPool(t, e, nil)
		p.Keep(scaled("a", model.Scale{MinInstances: 2}))
		time.Sleep(time.Hour)
		if launches := e.Calls(fake.OpCreate); launches > 50 {
			t.Errorf("%d launches in an hour", launches)
		}
		// It is launched as soon as somebody calls, and all are when one works.
		e.script.Exit = nil
		began := time.Now()
		mustAcquire(t, p, scaled("a", model.Scale{MinInstances: 2})).Release()
		if took := time.Since(began); took > lonelyBackoff+time.Second {
			t.Errorf("the next call took %v", took)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if stats := p.Stats(); stats.Idle != 2 {
			t.Errorf("%+v", stats)
		}
		closePool(t, p, e)
	})
}

func TestStockWithoutImageLeavesTheRegistryInPeace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.imageErr = &driver.PullError{Image: "a", Message: "no", Status: 404}
		p := newPool(t, e, nil)
		p.Keep(scaled("a", model.Scale{MinInstances: 1}))
		time.Sleep(time.Hour)
		if pulls := e.Calls(fake.OpEnsureImage); pulls > 50 {
			t.Errorf("%d pulls in an hour", pulls)
		}
		closePool(t, p, e)
	})
}
