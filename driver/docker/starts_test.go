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

func TestPreparationsWaitForStartsThatSomebodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStarts(2)
		began := time.Now()
		busy := func(d time.Duration) {
			leave, err := s.enter(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			time.Sleep(d)
			leave()
		}
		go busy(3 * time.Second)
		synctest.Wait()
		leave, err := s.enterLast(t.Context())
		if err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("after %v, %v", time.Since(began), err)
		}
		leave()

		// Not for ever.
		go busy(time.Hour)
		synctest.Wait()
		began = time.Now()
		leave, err = s.enterLast(t.Context())
		if err != nil || time.Since(began) != patientWait {
			t.Errorf("after %v, %v", time.Since(began), err)
		}
		leave()
		time.Sleep(time.Hour)
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
		if _, err := s.enterLast(ctx); err == nil {
			t.Error("two at once")
		}
		leave()
		leave, err = s.enterLast(t.Context()) // the one who left is not counted
		if err != nil {
			t.Fatal(err)
		}
		leave()
	})
}
