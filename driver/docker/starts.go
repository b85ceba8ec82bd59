package docker

import (
	"context"
	"sync"
	"time"
)

// starts bounds the starts of containers that are under way: engines get slower
// per start, and have been seen to hang, when they are asked for many at once.
// What is not for a container that somebody waits for can wait until there has
// been none for a moment, as it would only take the processors from those.
type starts struct {
	slots chan struct{}

	mu      sync.Mutex // guards the rest
	awaited int        // containers that somebody waits for
	changed chan struct{}
	quiet   time.Time // when the last of them was there
}

const (
	// quietFor is how long nobody may have waited for a container: the function in it
	// has to begin, and the next one may follow.
	quietFor = 200 * time.Millisecond

	// patience is how long other work is put off at most, so that a busy time without
	// end does not keep the pool empty.
	patience = 10 * time.Second
)

func newStarts(limit int) *starts {
	return &starts{slots: make(chan struct{}, limit), changed: make(chan struct{})}
}

// await says that somebody waits for a container. The caller calls done when it
// was started, or will not be.
func (s *starts) await() (done func()) {
	s.mu.Lock()
	s.awaited++
	s.mu.Unlock()
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.awaited--; s.awaited == 0 {
			s.quiet = time.Now()
			close(s.changed)
			s.changed = make(chan struct{})
		}
	})
}

// enter waits for a turn to start a container. The caller calls leave when that
// is over.
func (s *starts) enter(ctx context.Context) (leave func(), err error) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	case <-ctx.Done():
		return nil, ended(ctx)
	}
}

// awaitQuiet waits until nobody has waited for a container for a moment, until
// patience ends, or ctx.
func (s *starts) awaitQuiet(ctx context.Context) {
	limit := time.Now().Add(patience)
	for ctx.Err() == nil {
		s.mu.Lock()
		wait, changed := time.Until(s.quiet.Add(quietFor)), s.changed
		if s.awaited > 0 {
			wait = patience
		}
		s.mu.Unlock()
		if wait = min(wait, time.Until(limit)); wait <= 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}
