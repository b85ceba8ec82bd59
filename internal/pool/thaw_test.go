package pool

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/driver/fake"
)

func TestEngineThatHangsWhileThawingHoldsNobodyForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := freezing(t, e)
		mustAcquire(t, p, fnSpec("a")).Release()
		time.Sleep(time.Second)
		e.Hang(fake.OpThaw)
		began := time.Now()
		lease := mustAcquire(t, p, fnSpec("a"))
		if took := time.Since(began); took > freezeTimeout+startDelay {
			t.Errorf("took %v", took)
		}
		if !lease.Cold {
			t.Error("got the instance that may be frozen still")
		}
		lease.Release()
		e.Hang()
		closePool(t, p, e)
	})
}

func TestFrozenInstanceIsNotHandedFromCallerToCallerBeforeItIsThawed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script.ThawDelay = 2 * time.Second
		p := newPool(t, e, func(o *Options) { o.FreezeAfter, o.Total.MemoryBytes = 50*time.Millisecond, mib }) // room for one
		mustAcquire(t, p, fnSpec("a")).Release()
		time.Sleep(time.Second)
		began := time.Now()
		first := acquireInBackground(t, p, fnSpec("a")) // waits for the thaw
		second := acquireInBackground(t, p, fnSpec("a"))
		lease := <-first
		if took := time.Since(began); took != e.script.ThawDelay || e.Containers()[0].Frozen() {
			t.Errorf("after %v, frozen %v", took, e.Containers()[0].Frozen())
		}
		lease.Release()
		(<-second).Release()
		closePool(t, p, e)
	})
}
