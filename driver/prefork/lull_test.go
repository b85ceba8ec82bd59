package prefork

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestOtherWorkWaitsForContainersThatSomebodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rest, patience = 200 * time.Millisecond, 10 * time.Second
		l := NewLull(rest, patience)
		last := func(want time.Duration) {
			t.Helper()
			began := time.Now()
			l.Wait(t.Context())
			if took := time.Since(began); took != want {
				t.Errorf("after %v, not %v", took, want)
			}
		}
		last(0) // nobody waits for anything

		first, second := l.Await(), l.Await()
		time.AfterFunc(time.Second, first)
		time.AfterFunc(3*time.Second, second)
		last(3*time.Second + rest)

		// One that begins in the quiet moment counts too.
		done := l.Await()
		time.AfterFunc(time.Second, done)
		time.AfterFunc(time.Second+rest/2, func() { time.AfterFunc(time.Second, l.Await()) })
		last(2*time.Second + rest/2 + rest)

		// But not for ever.
		done = l.Await()
		last(patience)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		if l.Wait(ctx); time.Since(began) > 0 {
			t.Error("waited although the context has ended")
		}
		done()
		done() // counts once
		last(rest)
	})
}
