package pool

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/driver/fake"
)

// The tests of this file have an engine that takes its time to remove a
// container, whose memory therefore comes back late.

func TestHangingRemovalHoldsUpOnlyThoseWhoNeedItsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		mustAcquire(t, p, fnSpec("stuck")).Release()
		stuck := e.Containers()[0]
		e.Hang(fake.OpRemove)
		p.Retire("stuck")
		synctest.Wait()
		e.Hang() // only this one

		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { mustAcquire(t, p, large(4)).Release() }) // needs what the stuck one has
		time.Sleep(time.Millisecond)
		mustAcquire(t, p, fnSpec("small")).Release()
		if took := time.Since(began); took > p.holdFor()+2*startDelay {
			t.Errorf("served after %v, three quarters of the machine were free", took)
		}
		if stuck.Removed() {
			t.Error("the removal did not hang, so this shows nothing")
		}
		wg.Wait()
		closePool(t, p, e)
	})
}

func TestRemovalThatEndsAsItBecomesLateIsCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		for range 50 { // so that both come first
			e.script.RemoveDelay = p.holdFor()
			mustAcquire(t, p, fnSpec("a")).Destroy("for the test")
			e.script.RemoveDelay = 2 * p.holdFor()
			lease := mustAcquire(t, p, fnSpec("b"))
			lease.Destroy("for the test") // a second later, as it had to be launched
			time.Sleep(p.holdFor() - startDelay)
			synctest.Wait()
			p.mu.Lock()
			if p.returning != lease.group.spec.Need {
				t.Errorf("returning %+v, want that of the other removal", p.returning)
			}
			p.mu.Unlock()
			time.Sleep(time.Minute)
		}
		closePool(t, p, e)
	})
}
