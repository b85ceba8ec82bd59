package pool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/internal/sockdir"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

func TestFailedLaunchTellsItsCallerWhy(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(e *engine)
		want  error
	}{
		"engine gone":        {func(e *engine) { e.createErr = always(driver.ErrUnavailable) }, model.ErrServerBusy},
		"engine gone, start": {func(e *engine) { e.script.StartErr = driver.ErrUnavailable }, model.ErrServerBusy},
		"engine gone, image": {func(e *engine) { e.imageErr = driver.ErrUnavailable }, model.ErrServerBusy},
		"image vanished":     {func(e *engine) { e.createErr = always(driver.ErrImageNotFound) }, model.ErrServerBusy},
		"no process left":    {func(e *engine) { e.createErr = always(os.NewSyscallError("clone", syscall.EAGAIN)) }, model.ErrServerBusy},
		"no address left":    {func(e *engine) { e.createErr = always(fmt.Errorf("%w: no address", driver.ErrExhausted)) }, model.ErrServerBusy},
		"no file left":       {func(e *engine) { e.script.StartErr = fmt.Errorf("mount: %w", syscall.EMFILE) }, model.ErrServerBusy},
		"disk full":          {func(e *engine) { e.imageErr = fmt.Errorf("unpack: %w", syscall.ENOSPC) }, model.ErrServerBusy},
		"engine's objection": {func(e *engine) { e.createErr = always(errBroken) }, errBroken},
		"volumes":            {func(e *engine) { e.imageErr = driver.ErrImageVolume }, model.ErrImageVolume},
		"pull timeout":       {func(e *engine) { e.imageErr = context.DeadlineExceeded }, model.ErrImagePullTimeout},
		"pull":               {func(e *engine) { e.imageErr = &driver.PullError{Image: "a", Message: "no", Status: 404} }, model.ErrImagePullFailed},
		"no program":         {func(e *engine) { e.script.StartErr = fmt.Errorf("start: %w", driver.ErrProgram) }, model.ErrContainerInitFailed},
		"no socket":          {func(e *engine) { e.script.NeverSocket = true }, model.ErrContainerInitTimeout},
		"exit":               {func(e *engine) { e.script.Exit = &driver.Exit{Code: 1} }, model.ErrContainerInitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEngine()
				test.spoil(e)
				p := newPool(t, e, nil)
				if _, err := p.Acquire(t.Context(), fnSpec("a")); !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
				closePool(t, p, e)
			})
		})
	}
}

func always(err error) func(int) error { return func(int) error { return err } }

func TestBusyEngineErrorsProveThatNothingRan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.createErr = always(driver.ErrUnavailable)
		p := newPool(t, e, nil)
		if _, err := p.Acquire(t.Context(), fnSpec("a")); !errors.Is(err, invoke.ErrNotPlaced) {
			t.Errorf("got %v", err)
		}
		closePool(t, p, e)
	})
}

func TestNextCallAfterAFailedLaunchWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.createErr = func(n int) error {
			if n == 1 {
				return errBroken
			}
			return nil
		}
		p := newPool(t, e, nil)
		if _, err := p.Acquire(t.Context(), fnSpec("a")); !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		mustAcquire(t, p, fnSpec("a")).Release()
		closePool(t, p, e)
	})
}

func TestLaunchErrorOfOneFunctionDoesNotReachAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.createErr = func(n int) error {
			if n == 1 {
				return errBroken
			}
			return nil
		}
		p := newPool(t, e, nil)
		failed := make(chan error, 1)
		go func() {
			_, err := p.Acquire(t.Context(), fnSpec("a"))
			failed <- err
		}()
		synctest.Wait()
		mustAcquire(t, p, fnSpec("b")).Release()
		if err := <-failed; !errors.Is(err, errBroken) {
			t.Errorf("got %v", err)
		}
		closePool(t, p, e)
	})
}

func TestWaitersAreLeftToOtherInstancesWhenALaunchFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.createErr = func(n int) error {
			if n > 1 {
				return errBroken
			}
			return nil
		}
		p := newPool(t, e, nil)
		held := mustAcquire(t, p, fnSpec("a"))
		got := make(chan *Lease, 1)
		go func() { got <- mustAcquire(t, p, fnSpec("a")) }()
		time.Sleep(20 * time.Second)
		if created := e.Calls(fake.OpCreate); created < 3 || created > 12 {
			t.Errorf("%d attempts in 20 seconds", created)
		}
		held.Release()
		(<-got).Release()
		closePool(t, p, e)
	})
}

// TestOldInstanceDoesNotCutThePauseShort lets one instance serve call after call while
// others wait for launches that fail.
func TestOldInstanceDoesNotCutThePauseShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.createErr = func(n int) error {
			if n > 1 {
				return errBroken
			}
			return nil
		}
		p := newPool(t, e, nil)
		mustAcquire(t, p, fnSpec("a")).Release()
		time.Sleep(provenAge)
		until := time.Now().Add(time.Minute)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for time.Now().Before(until) {
					lease := mustAcquire(t, p, fnSpec("a"))
					time.Sleep(10 * time.Millisecond)
					lease.Release()
				}
			})
		}
		wg.Wait()
		time.Sleep(10 * time.Second) // at rest it is no proof either
		if created := e.Calls(fake.OpCreate); created < 5 || created > 20 {
			t.Errorf("%d attempts in a minute", created)
		}
		closePool(t, p, e)
	})
}

// TestInstanceFromAfterAFailureProvesThatLaunchesSucceed launches one that nobody waits
// for any more.
func TestInstanceFromAfterAFailureProvesThatLaunchesSucceed(t *testing.T) {
	for name, use := range map[string]func(*testing.T, *Pool){
		"by a call": func(t *testing.T, p *Pool) { mustAcquire(t, p, fnSpec("a")).Release() },
		"at rest":   func(*testing.T, *Pool) { time.Sleep(provenAge) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEngine()
				e.createErr = func(n int) error {
					if n == 2 {
						return errBroken
					}
					return nil
				}
				p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 16 * mib })
				held := mustAcquire(t, p, fnSpec("a"))
				ctx, leave := context.WithTimeout(t.Context(), startDelay)
				defer leave()
				if _, err := p.Acquire(ctx, fnSpec("a")); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatal(err)
				}
				time.Sleep(startDelay / 2) // the second launch began after the first pause
				use(t, p)
				checkParallel(t, p)
				held.Release()
				closePool(t, p, e)
			})
		})
	}
}

func TestCallerDoesNotWaitForThePauseOfNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		broken := e.breakable()
		p := newPool(t, e, func(o *Options) { o.QueueTimeout = time.Hour })
		spec := scaled("a", model.Scale{MinInstances: 2})
		p.Keep(spec)
		time.Sleep(startDelay)
		held := mustAcquire(t, p, spec)
		broken.Store(true)
		mustAcquire(t, p, spec).Destroy("for the test")
		time.Sleep(10*time.Minute + time.Second) // the pause is the longest by then
		broken.Store(false)
		began := time.Now()
		mustAcquire(t, p, spec).Release()
		if took := time.Since(began); took > callerBackoff+startDelay {
			t.Errorf("the caller waited %v for the next attempt", took)
		}
		held.Release()
		closePool(t, p, e)
	})
}

func TestPauseIsShortenedWhenTheLastInstanceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		broken := e.breakable()
		p := newPool(t, e, func(o *Options) { o.QueueTimeout = time.Hour })
		held := mustAcquire(t, p, fnSpec("a"))
		broken.Store(true)
		got := make(chan *Lease, 1)
		go func() { got <- mustAcquire(t, p, fnSpec("a")) }()
		time.Sleep(time.Minute)
		for created := e.Calls(fake.OpCreate); e.Calls(fake.OpCreate) == created; {
			time.Sleep(100 * time.Millisecond)
		}
		broken.Store(false)
		began := time.Now()
		held.Destroy("for the test")
		(<-got).Release()
		if took := time.Since(began); took > lonelyBackoff+startDelay {
			t.Errorf("the caller waited %v for the next attempt", took)
		}
		closePool(t, p, e)
	})
}

// TestInstanceThatEndsAsItListensIsAFailedLaunch ends instances after their socket is
// there and before they are handed to whoever waits.
func TestInstanceThatEndsAsItListensIsAFailedLaunch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) {
			o.NewSession = func(*sockdir.Socket) io.Closer {
				e.killAll()
				synctest.Wait()
				return io.NopCloser(nil)
			}
		})
		if _, err := p.Acquire(t.Context(), fnSpec("a")); !errors.Is(err, model.ErrContainerInitFailed) {
			t.Errorf("got %v", err)
		}
		if created := e.Calls(fake.OpCreate); created != 1 {
			t.Errorf("%d launches", created)
		}
		if pause := time.Until(p.groups["a"].notBefore); pause != firstBackoff {
			t.Errorf("the next launch is due in %v", pause)
		}
		closePool(t, p, e)
	})
}

func TestPanicOfADriverEndsItsLaunchOnly(t *testing.T) {
	for name, spoil := range map[string]func(*engine, func()){
		"create": func(e *engine, once func()) { e.createErr = func(int) error { once(); return nil } },
		"image": func(e *engine, once func()) {
			e.image = func(want driver.ImageRequest) (driver.Image, error) { once(); return driver.Image{ID: want.Name}, nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEngine()
				var panicked atomic.Bool
				spoil(e, func() {
					if !panicked.Swap(true) {
						panic("in a driver")
					}
				})
				p := newPool(t, e, nil)
				if _, err := p.Acquire(t.Context(), fnSpec("a")); err == nil || !strings.Contains(err.Error(), "in a driver") {
					t.Errorf("got %v", err)
				}
				mustAcquire(t, p, fnSpec("a")).Release()
				closePool(t, p, e)
			})
		})
	}
}

// panickyDriver makes containers of which each method panics the first time.
type panickyDriver struct{ driver.Driver }

func (d panickyDriver) Create(ctx context.Context, spec *driver.Spec) (driver.Container, error) {
	made, err := d.Driver.Create(ctx, spec)
	return &panickyContainer{Container: made}, err
}

type panickyContainer struct {
	driver.Container
	freeze, thaw, remove, wait atomic.Bool
}

func panicOnce(done *atomic.Bool) {
	if !done.Swap(true) {
		panic("in a driver")
	}
}

func (c *panickyContainer) Wait(ctx context.Context) (driver.Exit, error) {
	panicOnce(&c.wait)
	return c.Container.Wait(ctx)
}

func (c *panickyContainer) Freeze(ctx context.Context) error {
	panicOnce(&c.freeze)
	return c.Container.Freeze(ctx)
}

func (c *panickyContainer) Thaw(ctx context.Context) error {
	panicOnce(&c.thaw)
	return c.Container.Thaw(ctx)
}

func (c *panickyContainer) Remove(ctx context.Context) error {
	panicOnce(&c.remove)
	return c.Container.Remove(ctx)
}

func TestPanicOfAContainerEndsNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, func(o *Options) {
			o.Driver, o.FreezeAfter = panickyDriver{o.Driver}, time.Second
		})
		for range 4 { // frozen, thawed, replaced and removed between them
			mustAcquire(t, p, fnSpec("a")).Release()
			time.Sleep(10 * time.Second)
		}
		closePool(t, p, e)
	})
}

func TestAllWhoWaitedAreToldWhenNothingCanBeLaunched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script.NeverSocket = true
		p := newPool(t, e, nil)
		began := time.Now()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if _, err := p.Acquire(t.Context(), fnSpec("a")); !errors.Is(err, model.ErrContainerInitTimeout) {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took != p.opts.StartTimeout {
			t.Errorf("took %v", took)
		}
		closePool(t, p, e)
	})
}

func TestNoMemoryIsReservedWhileAnImageIsPulled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.imageDelay = 30 * time.Second
		p := newPool(t, e, nil)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { mustAcquire(t, p, fnSpec("a")).Release() })
		}
		time.Sleep(20 * time.Second)
		if used := p.Stats().Used.MemoryBytes; used != 0 {
			t.Errorf("%d bytes reserved", used)
		}
		wg.Wait()
		if e.Calls(fake.OpEnsureImage) != 1 {
			t.Errorf("asked for the image %d times", e.Calls(fake.OpEnsureImage))
		}
		closePool(t, p, e)
	})
}

func TestVanishedImageIsLookedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.createErr = func(n int) error {
			if n == 1 {
				return driver.ErrImageNotFound
			}
			return nil
		}
		p := newPool(t, e, nil)
		if _, err := p.Acquire(t.Context(), fnSpec("a")); !errors.Is(err, model.ErrServerBusy) {
			t.Fatal(err)
		}
		mustAcquire(t, p, fnSpec("a")).Release()
		if e.Calls(fake.OpEnsureImage) != 2 {
			t.Errorf("asked for the image %d times", e.Calls(fake.OpEnsureImage))
		}
		closePool(t, p, e)
	})
}

func TestLaunchGoesOnWhenItsCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		ctx, cancel := context.WithTimeout(t.Context(), startDelay/2)
		defer cancel()
		if _, err := p.Acquire(ctx, fnSpec("a")); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		time.Sleep(startDelay)
		began := time.Now()
		mustAcquire(t, p, fnSpec("a")).Release()
		if took := time.Since(began); took != 0 {
			t.Errorf("the next call waited %v for an instance that was there", took)
		}
		closePool(t, p, e)
	})
}

func TestImageErrorLeavesWaitersToLiveInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.createErr = func(n int) error {
			if n > 1 {
				return driver.ErrImageNotFound
			}
			return nil
		}
		p := newPool(t, e, nil)
		held := mustAcquire(t, p, fnSpec("a"))
		e.imageErr = driver.ErrUnavailable
		var wg sync.WaitGroup
		wg.Go(func() { mustAcquire(t, p, fnSpec("a")).Release() })
		time.Sleep(3 * time.Second)
		held.Release()
		wg.Wait()
		closePool(t, p, e)
	})
}

func TestLaunchesThatFailTogetherCountAsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.createErr = func(n int) error {
			if n > 1 && n <= 9 {
				return errBroken
			}
			return nil
		}
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = 16 * mib })
		held := mustAcquire(t, p, fnSpec("a"))
		e.script.CreateDelay = 100 * time.Millisecond
		began := time.Now()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { mustAcquire(t, p, fnSpec("a")).Release() })
		}
		wg.Wait()
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the next launch came after %v", took)
		}
		held.Release()
		closePool(t, p, e)
	})
}
