package pool

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/internal/capacity"
)

// rests reports whether a function has an instance at rest.
func rests(p *Pool, fnID string) bool {
	found := false
	p.Each(func(spec *Spec, c Counts) { found = found || spec.FnID == fnID && c.Idle+c.Frozen > 0 })
	return found
}

func TestEvictionGoesByTheLastUseNotByTheLaunch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 2 * mib })
		mustAcquire(t, p, fnSpec("first")).Release()
		time.Sleep(time.Second)
		mustAcquire(t, p, fnSpec("second")).Release()
		time.Sleep(5 * time.Second)
		mustAcquire(t, p, fnSpec("first")).Release() // used again
		time.Sleep(time.Second)
		mustAcquire(t, p, fnSpec("new")).Release()
		if !rests(p, "first") || rests(p, "second") {
			t.Errorf("evicted the one that was used last")
		}
		closePool(t, p, e)
	})
}

func TestLackOfAByteIsALack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes, o.FailFast = 2*mib-1, true })
		mustAcquire(t, p, fnSpec("idle")).Release()
		began := time.Now()
		lease := mustAcquire(t, p, fnSpec("new"))
		if took := time.Since(began); took != startDelay || rests(p, "idle") {
			t.Errorf("served after %v, evicted %v", took, !rests(p, "idle"))
		}
		lease.Release()
		closePool(t, p, e)
	})
}

func TestInstancesThatLackWhatIsNeededAreNotEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) { o.Total = capacity.Amount{MemoryBytes: 8 * mib, MilliCPU: 1000} })
		memory, both := fnSpec("memory"), fnSpec("both")
		memory.IdleTimeout, both.IdleTimeout = time.Hour, time.Hour
		both.Need.MilliCPU = 1000
		mustAcquire(t, p, memory).Release()
		time.Sleep(time.Minute) // so that it would be the first to go
		mustAcquire(t, p, both).Release()
		needy := fnSpec("needy")
		needy.Need = capacity.Amount{MilliCPU: 500}
		mustAcquire(t, p, needy).Release()
		if !rests(p, "memory") || rests(p, "both") {
			t.Error("memory was freed where processor time was missing")
		}
		closePool(t, p, e)
	})
}

func TestNobodyIsEvictedForWhatComesBackAnyhow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script.RemoveDelay = 3 * time.Second
		p := newPool(t, e, nil) // room for four
		busy := mustAcquire(t, p, fnSpec("busy"))
		for _, name := range []string{"x", "y", "z"} {
			mustAcquire(t, p, fnSpec(name)).Release()
		}
		time.Sleep(time.Second)
		got := acquireInBackground(t, p, fnSpec("new"))
		for range 10 { // each of which makes the pool look for memory again
			busy.Release()
			busy = mustAcquire(t, p, fnSpec("busy"))
		}
		if stats := p.Stats(); stats.Idle != 2 {
			t.Errorf("%d of three idle instances are left, one had to go", stats.Idle)
		}
		busy.Release()
		(<-got).Release()
		closePool(t, p, e)
	})
}

func TestWhatIsFreedBitByBitIsKeptForTheOneThatNeedsMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		var held []*Lease
		for _, name := range []string{"a", "b", "c", "d"} {
			held = append(held, mustAcquire(t, p, fnSpec(name)))
		}
		var mu sync.Mutex
		var order []string
		var wg sync.WaitGroup
		for _, spec := range []*Spec{sized("large", 4), fnSpec("late")} {
			wg.Go(func() {
				lease := mustAcquire(t, p, spec)
				mu.Lock()
				order = append(order, spec.FnID)
				mu.Unlock()
				lease.Release()
			})
			synctest.Wait()
			time.Sleep(time.Millisecond)
		}
		created := e.Calls(fake.OpCreate)
		for _, lease := range held {
			lease.Release() // is enough for the late one, and a launch could end before the next
			time.Sleep(startDelay + 100*time.Millisecond)
		}
		wg.Wait()
		if order[0] != "large" {
			t.Errorf("served in the order %v", order)
		}
		if launches := e.Calls(fake.OpCreate) - created; launches != 2 {
			t.Errorf("%d launches for two callers", launches)
		}
		closePool(t, p, e)
	})
}
