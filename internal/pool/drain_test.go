package pool

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestDrainedInstanceFinishesItsCallAndServesNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		lease := mustAcquire(t, p, fnSpec("a"))
		waiting := acquireInBackground(t, p, fnSpec("a"))
		(<-waiting).Release() // a second instance, which is left alone
		e.Containers()[0].Doom()
		e.Containers()[0].Doom() // no harm
		time.Sleep(time.Second)
		if e.Containers()[0].Removed() {
			t.Fatal("the call in it was not left to end")
		}
		first := lease.ID
		lease.Release()
		for range 3 {
			lease := mustAcquire(t, p, fnSpec("a"))
			if lease.ID == first || lease.Cold {
				t.Errorf("got %s, cold %t", lease.ID, lease.Cold)
			}
			lease.Release()
		}
		synctest.Wait()
		if !e.Containers()[0].Removed() || e.Containers()[1].Removed() {
			t.Error("the wrong one ended")
		}
		closePool(t, p, e)
	})
}

func TestInstanceDrainedAtRestOrWhileItStartsIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		mustAcquire(t, p, fnSpec("a")).Release()
		e.Containers()[0].Doom()
		synctest.Wait()
		if !e.Containers()[0].Removed() {
			t.Error("it rests on")
		}
		waiting := acquireInBackground(t, p, fnSpec("a"))
		time.Sleep(startDelay / 2)
		e.Containers()[1].Doom()
		(<-waiting).Release()
		if !e.Containers()[1].Removed() || e.Live() != 1 {
			t.Errorf("the one that was starting serves calls, %d live", e.Live())
		}
		closePool(t, p, e)
	})
}
