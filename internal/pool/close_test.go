package pool

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/driver/fake"
)

// TestCloseIsBoundedOnAnEngineThatHangs closes a pool in which something of
// everything is under way: a call, a rest, a launch, an image, a removal.
func TestCloseIsBoundedOnAnEngineThatHangs(t *testing.T) {
	const deadline = 10 * time.Second
	for _, op := range []fake.Op{fake.OpEnsureImage, fake.OpCreate, fake.OpStart, fake.OpWait, fake.OpFreeze, fake.OpThaw, fake.OpRemove} {
		t.Run(string(op), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEngine()
				p := newPool(t, e, func(o *Options) { o.FreezeAfter = 50 * time.Millisecond })
				busy, ending := mustAcquire(t, p, fnSpec("busy")), mustAcquire(t, p, fnSpec("ending"))
				mustAcquire(t, p, fnSpec("frozen")).Release()
				time.Sleep(time.Second)
				e.Hang(op)
				ending.Destroy("for the test")
				patience, leave := context.WithCancel(t.Context())
				defer leave()
				for _, name := range []string{"frozen", "other"} {
					go func() { // ends with the pool at the latest
						if lease, err := p.Acquire(patience, fnSpec(name)); err == nil {
							<-patience.Done()
							lease.Release()
						}
					}()
				}
				time.Sleep(10 * time.Millisecond)
				began := time.Now()
				ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), deadline)
				defer cancel()
				if err := p.Close(ctx); err == nil {
					t.Error("no error although a call had to be ended")
				}
				if took := time.Since(began); took > deadline+fake.DefaultCallTimeout {
					t.Errorf("took %v", took)
				}
				busy.Release()
				leave()
				synctest.Wait()
				if err := e.Close(context.WithoutCancel(t.Context())); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
