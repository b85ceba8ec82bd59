package pool

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/driver/fake"
)

// acquireInBackground begins to acquire and returns when the caller stands in
// line.
func acquireInBackground(t *testing.T, p *Pool, spec *Spec) <-chan *Lease {
	t.Helper()
	got := make(chan *Lease, 1)
	go func() { got <- mustAcquire(t, p, spec) }()
	synctest.Wait()
	return got
}

func TestLeaseTellsOfTheLaunchOfItsOwnInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		var waiting []<-chan *Lease
		for _, create := range []time.Duration{time.Second, 4 * time.Second} {
			e.script = fake.Script{CreateDelay: create, StartDelay: 2 * create, SocketDelay: startDelay}
			waiting = append(waiting, acquireInBackground(t, p, fnSpec("a")))
		}
		first, second := <-waiting[0], <-waiting[1]
		for lease, create := range map[*Lease]time.Duration{first: time.Second, second: 4 * time.Second} {
			if want := (Launch{Create: create, Start: 2 * create, Init: startDelay}); !lease.Cold || lease.Launch != want {
				t.Errorf("cold %v, %+v, want %+v", lease.Cold, lease.Launch, want)
			}
		}
		second.Release()
		warm := mustAcquire(t, p, fnSpec("a"))
		if warm.Cold {
			t.Error("an instance that has served counts as launched for the next caller")
		}
		warm.Release()
		first.Release()
		closePool(t, p, e)
	})
}

func TestLaunchOfACallerThatLeftIsToldToTheOneWhoGetsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.script = fake.Script{CreateDelay: time.Second, SocketDelay: startDelay}
		p := newPool(t, e, func(o *Options) { o.Total.MemoryBytes = mib }) // room for one
		ctx, leave := context.WithTimeout(t.Context(), time.Second/2)
		defer leave()
		left := make(chan error, 1)
		go func() {
			_, err := p.Acquire(ctx, fnSpec("a"))
			left <- err
		}()
		synctest.Wait()
		other := acquireInBackground(t, p, fnSpec("a"))
		if err := <-left; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the one who left got %v", err)
		}
		lease := <-other
		if want := (Launch{Create: time.Second, Init: startDelay}); !lease.Cold || lease.Launch != want {
			t.Errorf("cold %v, %+v, want %+v", lease.Cold, lease.Launch, want)
		}
		lease.Release()
		closePool(t, p, e)
	})
}

func TestInstanceThatRestedBeforeItsFirstCallIsNotCold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		p := newPool(t, e, nil)
		ctx, leave := context.WithTimeout(t.Context(), startDelay/2)
		defer leave()
		if _, err := p.Acquire(ctx, fnSpec("a")); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		time.Sleep(startDelay)
		lease := mustAcquire(t, p, fnSpec("a"))
		if lease.Cold {
			t.Error("the caller is told of a launch that it did not wait for")
		}
		lease.Release()
		closePool(t, p, e)
	})
}

func TestPullIsToldToTheFirstInstanceAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.imageDelay = 20 * time.Second
		p := newPool(t, e, nil)
		first := mustAcquire(t, p, fnSpec("a"))
		second := mustAcquire(t, p, fnSpec("a"))
		if first.Launch.Image != e.imageDelay || second.Launch.Image != 0 {
			t.Errorf("pulled for %v and %v", first.Launch.Image, second.Launch.Image)
		}
		first.Release()
		second.Release()
		closePool(t, p, e)
	})
}

func TestPullGoesOnWhenItsCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine()
		e.imageDelay = 20 * time.Second
		p := newPool(t, e, nil)
		ctx, leave := context.WithTimeout(t.Context(), 10*time.Second)
		defer leave()
		began := time.Now()
		left := make(chan error, 1)
		go func() {
			_, err := p.Acquire(ctx, fnSpec("a"))
			left <- err
		}()
		synctest.Wait()
		other := acquireInBackground(t, p, fnSpec("a"))
		if err := <-left; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the one who left got %v", err)
		}
		(<-other).Release()
		if took := time.Since(began); took != e.imageDelay+startDelay || e.Calls(fake.OpEnsureImage) != 1 {
			t.Errorf("the one who stayed was served after %v and %d pulls", took, e.Calls(fake.OpEnsureImage))
		}
		closePool(t, p, e)
	})
}
