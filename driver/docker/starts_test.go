package docker

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestStartsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStarts(3)
		var mu sync.Mutex
		running, most := 0, 0
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				leave, err := s.enter(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				defer leave()
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				running--
				mu.Unlock()
			})
		}
		began := time.Now()
		wg.Wait()
		if most != 3 || time.Since(began) != 7*time.Second {
			t.Errorf("%d at once, %v", most, time.Since(began))
		}
	})
}

func TestOtherWorkWaitsForContainersThatSomebodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStarts(2)
		last := func(want time.Duration) {
			t.Helper()
			began := time.Now()
			s.awaitQuiet(t.Context())
			if took := time.Since(began); took != want {
				t.Errorf("after %v, not %v", took, want)
			}
		}
		last(0) // nobody waits for anything

		first, second := s.await(), s.await()
		time.AfterFunc(time.Second, first)
		time.AfterFunc(3*time.Second, second)
		last(3*time.Second + quietFor)

		// One that begins in the quiet moment counts too.
		done := s.await()
		time.AfterFunc(time.Second, done)
		time.AfterFunc(time.Second+quietFor/2, func() { time.AfterFunc(time.Second, s.await()) })
		last(2*time.Second + quietFor/2 + quietFor)

		// But not for ever.
		done = s.await()
		last(patience)
		done()
		done() // counts once
		last(quietFor)
	})
}

func TestWhoLeavesTheLineOfStartsTakesNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStarts(1)
		leave, err := s.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.enter(ctx); err == nil {
			t.Error("two at once")
		}
		began, done := time.Now(), s.await()
		if s.awaitQuiet(ctx); time.Since(began) > 0 {
			t.Error("waited although the context has ended")
		}
		done()
		leave()
		if leave, err = s.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		leave()
	})
}
