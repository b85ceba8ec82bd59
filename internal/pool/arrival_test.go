package pool

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The pool forgets a function of which nothing is left. A call that arrives at
// that moment must not end up in a line that nobody serves.

func TestCallThatArrivesAsItsFunctionIsForgottenIsServed(t *testing.T) {
	for name, forget := range map[string]func(*engine, *Pool){
		"deleted":      func(_ *engine, p *Pool) { p.Retire("a") },
		"app deleted":  func(_ *engine, p *Pool) { p.RetireApp("app") },
		"died at rest": func(e *engine, _ *Pool) { e.killAll() },
		"idle timeout": func(*engine, *Pool) { time.Sleep(30 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEngine()
				p := newPool(t, e, nil)
				for range 100 { // so that both come first, and in the middle of each other
					mustAcquire(t, p, fnSpec("a")).Release()
					released := time.Now()
					var wg sync.WaitGroup
					wg.Go(func() { forget(e, p) })
					wg.Go(func() {
						if name == "idle timeout" {
							time.Sleep(30 * time.Second)
						}
						arrived := time.Now()
						mustAcquire(t, p, fnSpec("a")).Release()
						if took := time.Since(arrived); took > lonelyBackoff+startDelay {
							t.Errorf("served after %v", took)
						}
					})
					wg.Wait()
					if time.Since(released) > time.Minute {
						t.FailNow()
					}
					time.Sleep(time.Minute) // until all is forgotten again
					synctest.Wait()
					if len(p.groups) != 0 {
						t.Fatal("the function is not forgotten")
					}
				}
				closePool(t, p, e)
			})
		})
	}
}

func TestManyWhoComeWhileAFunctionIsForgottenAreAllServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		for range 20 {
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					for range 5 {
						mustAcquire(t, p, fnSpec("a")).Destroy("so that little is left of the function")
					}
				})
				wg.Go(func() {
					for range 200 {
						p.Retire("a")
						runtime.Gosched()
					}
				})
			}
			wg.Wait()
		}
		closePool(t, p, e)
	})
}
