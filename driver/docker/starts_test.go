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
		leave()
		if leave, err = s.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		leave()
	})
}
