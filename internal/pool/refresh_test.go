package pool

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
)

const refreshEvery = 15 * time.Minute

// registry is what names of images mean on the engine of a test, and in its
// registry.
type registry struct {
	mu            sync.Mutex // guards the rest
	local, remote string
	err           error         // of the registry
	delay         time.Duration // likewise
	asked         int
}

func (r *registry) ensure(want driver.ImageRequest) (driver.Image, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !want.Refresh {
		return driver.Image{ID: r.local}, nil
	}
	r.asked++
	delay := r.delay
	r.mu.Unlock()
	time.Sleep(delay)
	r.mu.Lock()
	if r.err != nil {
		return driver.Image{}, r.err
	}
	r.local = r.remote
	return driver.Image{ID: r.local}, nil
}

// push moves the tag. The registry takes that time to answer from now on.
func (r *registry) push(image string, delay time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remote, r.delay = image, delay
}

// refreshes is how often the registry was asked.
func (r *registry) refreshes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// refreshingPool is a pool that asks for images, and what it logs.
func refreshingPool(t *testing.T, every time.Duration) (*Pool, *engine, *registry, *bytes.Buffer) {
	t.Helper()
	e, r, log := newEngine(), &registry{local: "one", remote: "one"}, &bytes.Buffer{}
	e.image = r.ensure
	p := newPool(t, e, func(o *Options) {
		o.ImageRefresh = every
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
	})
	return p, e, r, log
}

// patient is a spec whose instances rest for a day.
func patient(name string) *Spec {
	spec := fnSpec(name)
	spec.IdleTimeout = 24 * time.Hour
	return spec
}

// use uses an instance for that time and returns its image.
func use(t *testing.T, p *Pool, spec *Spec, d time.Duration) string {
	t.Helper()
	lease := mustAcquire(t, p, spec)
	time.Sleep(d)
	lease.Release()
	synctest.Wait()
	return lease.Instance.image.ID
}

func TestImageIsAskedForAfterTheFirstLaunchAndThenNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, e, r, _ := refreshingPool(t, refreshEvery)
		for range 3 {
			use(t, p, patient("a"), 0)
		}
		if r.refreshes() != 1 {
			t.Errorf("asked %d times after the launch", r.refreshes())
		}
		time.Sleep(10 * refreshEvery)
		if r.refreshes() != 1 {
			t.Errorf("asked %d times without calls", r.refreshes())
		}
		for range 30 {
			use(t, p, patient("a"), time.Minute)
		}
		if r.refreshes() != 3 {
			t.Errorf("asked %d times in half an hour more, want 2", r.refreshes()-1)
		}
		if launches := e.Calls(fake.OpCreate); launches != 1 {
			t.Errorf("%d launches for one image", launches)
		}
		closePool(t, p, e)
	})
}

func TestImagesAreNotAskedForIfThatIsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, e, r, _ := refreshingPool(t, 0)
		use(t, p, patient("a"), time.Hour)
		use(t, p, patient("a"), 0)
		if r.refreshes() != 0 {
			t.Errorf("asked %d times", r.refreshes())
		}
		closePool(t, p, e)
	})
}

func TestFunctionWhoseInstancesComeAndGoDoesNotAskEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, e, r, _ := refreshingPool(t, refreshEvery)
		for range 5 {
			use(t, p, fnSpec("a"), 0)
			time.Sleep(time.Minute) // it ends, and nothing is left of the function
		}
		if e.Calls(fake.OpCreate) != 5 || r.refreshes() != 1 {
			t.Errorf("%d launches, asked %d times", e.Calls(fake.OpCreate), r.refreshes())
		}
		closePool(t, p, e)
	})
}

func TestInstancesOfAnImageWhoseTagMovedServeNoFurtherCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, e, r, log := refreshingPool(t, refreshEvery)
		resting, busy := mustAcquire(t, p, patient("a")), mustAcquire(t, p, patient("a"))
		other := patient("b")
		other.Container.Image = "a" // the same image in another function
		use(t, p, other, 0)
		resting.Release()
		time.Sleep(refreshEvery)
		r.push("two", time.Minute)

		before := time.Now()
		if got := use(t, p, patient("a"), 0); got != "one" || time.Since(before) != 0 {
			t.Errorf("the call that notices got image %s after %v", got, time.Since(before))
		}
		time.Sleep(2 * time.Minute)
		containers := e.Containers()
		if !containers[0].Removed() || containers[1].Removed() || !containers[2].Removed() {
			t.Error("resting instances must end, and busy ones must not")
		}
		if got := use(t, p, patient("a"), 0); got != "two" {
			t.Errorf("the next call got image %s", got)
		}
		if got := use(t, p, other, 0); got != "two" {
			t.Errorf("the other function got image %s", got)
		}
		if spec := e.Containers()[3].Spec(); spec.ImageID != "two" {
			t.Errorf("container of image %s", spec.ImageID)
		}
		busy.Release()
		synctest.Wait()
		if !containers[1].Removed() {
			t.Error("an instance of the old image rests after its call")
		}
		closePool(t, p, e)
		if text := log.String(); strings.Count(text, "tag moved") != 2 || !strings.Contains(text, "old_id=one") || !strings.Contains(text, "new_id=two") {
			t.Errorf("log: %s", text)
		}
	})
}

func TestInstanceOfTheOldImageIsNotHandedToWhoeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, e, r, _ := refreshingPool(t, refreshEvery)
		spec := func() *Spec { s := patient("a"); s.Scale.MaxInstances = 1; return s }
		use(t, p, spec(), 0)
		time.Sleep(refreshEvery)
		r.push("two", 0)
		held := mustAcquire(t, p, spec())
		waiting := acquireInBackground(t, p, spec())
		synctest.Wait()
		held.Release()
		lease := <-waiting
		if lease.Instance.image.ID != "two" {
			t.Errorf("got image %s", lease.Instance.image.ID)
		}
		lease.Release()
		closePool(t, p, e)
	})
}

func TestInstanceThatStartsWhileTheTagMovesIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, e, r, _ := refreshingPool(t, refreshEvery)
		use(t, p, patient("a"), 0)
		time.Sleep(refreshEvery)
		r.push("two", startDelay/2)
		held := mustAcquire(t, p, patient("a"))
		lease := <-acquireInBackground(t, p, patient("a"))
		if lease.Instance.image.ID != "two" || e.Calls(fake.OpCreate) != 3 {
			t.Errorf("got image %s after %d launches", lease.Instance.image.ID, e.Calls(fake.OpCreate))
		}
		lease.Release()
		held.Release()
		closePool(t, p, e)
	})
}

func TestRefreshThatFailsHarmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, e, r, log := refreshingPool(t, refreshEvery)
		r.err = errors.New("no registry")
		held := mustAcquire(t, p, patient("a"))
		synctest.Wait()
		before := time.Now()
		mustAcquire(t, p, patient("a")).Release() // a second launch
		if took := time.Since(before); took != startDelay {
			t.Errorf("the next launch took %v", took)
		}
		held.Release()
		for range 4 {
			time.Sleep(refreshEvery)
			if got := use(t, p, patient("a"), 0); got != "one" {
				t.Errorf("got image %s", got)
			}
		}
		closePool(t, p, e)
		if r.refreshes() != 5 || strings.Count(log.String(), "no registry") != 1 {
			t.Errorf("asked %d times, log: %s", r.refreshes(), log)
		}
	})
}

func TestPoolClosesWhileAnImageIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, e, r, _ := refreshingPool(t, refreshEvery)
		r.push("one", time.Minute)
		mustAcquire(t, p, patient("a")).Release()
		synctest.Wait()
		closePool(t, p, e)
		if r.refreshes() != 1 {
			t.Errorf("asked %d times", r.refreshes())
		}
	})
}

func TestWhatIsRememberedOfImagesIsBounded(t *testing.T) {
	p, e, _, _ := refreshingPool(t, refreshEvery)
	for n := range 2*maxRefreshing + 1 {
		spec := fnSpec("a")
		spec.Container.Image = strconv.Itoa(n)
		p.refreshingLocked(spec).due = time.Now().Add(time.Duration(n%2) * time.Hour)
		if len(p.refreshes) > maxRefreshing {
			t.Fatalf("%d images", len(p.refreshes))
		}
	}
	closePool(t, p, e)
}

func TestPushReachesInstancesBeforeItIsToldToHaveSucceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, e, r, _ := refreshingPool(t, 0) // nobody asks but for pushes
		use(t, p, patient("a"), 0)
		use(t, p, patient("b"), 0)
		busy := mustAcquire(t, p, patient("a"))
		r.push("two", time.Second)
		is := func(image string) bool { return image == patient("a").Container.Image }
		began := time.Now()
		p.ImageChanged(t.Context(), is)
		if took := time.Since(began); took != time.Second {
			t.Errorf("returned after %v", took)
		}
		r.push("three", time.Second)
		done := make(chan struct{})
		go func() { defer close(done); p.ImageChanged(t.Context(), is) }()
		time.Sleep(time.Second / 2)
		r.push("four", time.Second) // while the question is under way
		p.ImageChanged(t.Context(), is)
		<-done
		busy.Release()
		if got := use(t, p, patient("a"), 0); got != "four" {
			t.Errorf("the next call has image %s", got)
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		r.push("five", time.Hour)
		p.ImageChanged(gone, is) // does not wait
		closePool(t, p, e)
	})
}

func TestPushEndsThePauseAfterAnImageThatWasNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, e, r, _ := refreshingPool(t, 0)
		var missing atomic.Bool
		missing.Store(true)
		e.image = func(want driver.ImageRequest) (driver.Image, error) {
			if missing.Load() {
				return driver.Image{}, &driver.PullError{Image: want.Name, Status: 404, Message: "push it"}
			}
			return r.ensure(want)
		}
		for range 5 { // so that the pause is long
			if _, err := p.Acquire(t.Context(), patient("a")); err == nil {
				t.Fatal("got an instance")
			}
		}
		missing.Store(false)
		p.ImageChanged(t.Context(), func(string) bool { return true })
		began := time.Now()
		if got := use(t, p, patient("a"), 0); got != "one" || time.Since(began) > startDelay {
			t.Errorf("image %s after %v", got, time.Since(began))
		}
		closePool(t, p, e)
	})
}

func TestImageThatIsPushedWhileItIsLookedForIsTheOneThatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, e, r, _ := refreshingPool(t, 0)
		e.image = func(want driver.ImageRequest) (driver.Image, error) {
			r.mu.Lock()
			found := r.remote
			r.mu.Unlock()
			time.Sleep(time.Second) // the look-up was before the push, its answer is after it
			return driver.Image{ID: found}, nil
		}
		got := make(chan string)
		go func() {
			lease, err := p.Acquire(t.Context(), patient("a"))
			if err != nil {
				t.Error(err)
				close(got)
				return
			}
			lease.Release()
			got <- lease.Instance.image.ID
		}()
		time.Sleep(time.Second / 2)
		r.push("two", 0)
		p.ImageChanged(t.Context(), func(string) bool { return true })
		if image := <-got; image != "two" {
			t.Errorf("image %s", image)
		}
		closePool(t, p, e)
	})
}
