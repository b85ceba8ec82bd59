package breaker

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

// newEngine makes an engine that needs ten seconds to not answer.
func newEngine() (*fake.Engine, *Driver) {
	engine := fake.New(fake.Options{NoSocket: true, CallTimeout: 10 * time.Second})
	return engine, New(engine, Options{})
}

func spec(id string) *driver.Spec { return &driver.Spec{ID: id, Image: "image"} }

// mustCreate makes, starts and removes a container.
func mustCreate(t *testing.T, d driver.Driver) {
	t.Helper()
	c, err := d.Create(t.Context(), spec("c"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Start(t.Context()), c.Remove(t.Context())); err != nil {
		t.Fatal(err)
	}
}

func TestHungEngineIsLeftAloneAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine, d := newEngine()
		defer engine.Close(t.Context())
		mustCreate(t, d)
		engine.Hang(fake.OpCreate)
		for range DefaultFailures {
			began := time.Now()
			if _, err := d.Create(t.Context(), spec("c")); !errors.Is(err, driver.ErrUnavailable) || time.Since(began) != 10*time.Second {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
		}
		if !d.Open() {
			t.Fatal("still closed")
		}
		asked := engine.Calls(fake.OpCreate)
		began := time.Now()
		_, err := d.Create(t.Context(), spec("c"))
		if !errors.Is(err, driver.ErrUnavailable) || time.Since(began) != 0 || engine.Calls(fake.OpCreate) != asked {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if after := model.RetryAfter(err); after != FirstPause {
			t.Errorf("retry after %v", after)
		}
		// One try after the pause, the others are refused meanwhile.
		time.Sleep(FirstPause)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { _, _ = d.Create(t.Context(), spec("c")) })
		}
		wg.Wait()
		if tries := engine.Calls(fake.OpCreate) - asked; tries != 1 {
			t.Errorf("%d tries", tries)
		}
		if _, err := d.Create(t.Context(), spec("c")); model.RetryAfter(err) != 2*FirstPause {
			t.Errorf("retry after %v", model.RetryAfter(err))
		}
		// It heals by itself.
		engine.Hang()
		time.Sleep(2 * FirstPause)
		mustCreate(t, d)
		if d.Open() {
			t.Error("still open")
		}
	})
}

func TestLongPullDoesNotKeepOthersFromTrying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := fake.New(fake.Options{NoSocket: true, EnsureImage: func(ctx context.Context, _ driver.ImageRequest) (driver.Image, error) {
			select {
			case <-time.After(10 * time.Minute):
			case <-ctx.Done():
			}
			return driver.Image{}, ctx.Err()
		}})
		defer engine.Close(t.Context())
		d := New(engine, Options{Failures: 1})
		engine.Down()
		_, _ = d.Create(t.Context(), spec("c"))
		engine.Up()
		time.Sleep(FirstPause)
		ctx, cancel := context.WithCancel(t.Context())
		var pull sync.WaitGroup
		pull.Go(func() { _, _ = d.EnsureImage(ctx, driver.ImageRequest{Name: "image"}) })
		synctest.Wait()
		if _, err := d.Create(t.Context(), spec("c")); !errors.Is(err, driver.ErrUnavailable) {
			t.Errorf("beside the request that decides: %v", err)
		}
		time.Sleep(DefaultMaxPause)
		mustCreate(t, d)
		if d.Open() {
			t.Error("still open")
		}
		cancel()
		pull.Wait()
	})
}

func TestPausesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine, d := newEngine()
		defer engine.Close(t.Context())
		engine.Down()
		for range 20 {
			_, _ = d.EnsureImage(t.Context(), driver.ImageRequest{Name: "image"})
			time.Sleep(DefaultMaxPause)
		}
		if d.pause != DefaultMaxPause {
			t.Errorf("pause %v", d.pause)
		}
		engine.Up()
		if _, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: "image"}); err != nil {
			t.Error(err)
		}
	})
}

func TestAnswersAndAbandonedRequestsDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("no such image")
		engine := fake.New(fake.Options{NoSocket: true, EnsureImage: func(context.Context, driver.ImageRequest) (driver.Image, error) { return driver.Image{}, broken }})
		defer engine.Close(t.Context())
		d := New(engine, Options{Failures: 2})
		for range 5 {
			if _, err := d.EnsureImage(t.Context(), driver.ImageRequest{Name: "image"}); !errors.Is(err, broken) {
				t.Fatal(err)
			}
		}
		engine.Hang(fake.OpEnsureImage)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, context.Canceled)
		defer cancel()
		for range 5 {
			_, _ = d.EnsureImage(ctx, driver.ImageRequest{Name: "image"})
		}
		engine.Hang()
		// Failures with answers between them are not in a row.
		for range 5 {
			engine.Down()
			_, _ = d.EnsureImage(t.Context(), driver.ImageRequest{Name: "image"})
			engine.Up()
			_, _ = d.EnsureImage(t.Context(), driver.ImageRequest{Name: "image"})
		}
		if d.Open() {
			t.Error("open")
		}
	})
}

func TestWhatEndsAContainerIsNeverRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine, d := newEngine()
		defer engine.Close(t.Context())
		c, err := d.Create(t.Context(), spec("c"))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		engine.Hang(fake.OpCreate)
		for range DefaultFailures {
			_, _ = d.Create(t.Context(), spec("d"))
		}
		if err := errors.Join(c.Freeze(t.Context()), c.Thaw(t.Context()), c.Stop(t.Context())); err != nil || !d.Open() {
			t.Errorf("open %v: %v", d.Open(), err)
		}
		if _, err := c.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if err := c.Remove(t.Context()); err != nil {
			t.Error(err)
		}
		// The removal was answered, so the engine is there.
		if d.Open() {
			t.Error("still open")
		}
	})
}
