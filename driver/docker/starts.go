package docker

import (
	"context"
	"sync"
	"time"
)

// starts bounds the starts of containers that are under way: engines get slower
// per start, and have been seen to hang, when they are asked for many at once.
// Starts that somebody waits for go first. Others, which prepare for later, wait
// until there are none, as they would only take the processors from them.
type starts struct {
	slots chan struct{}

	mu     sync.Mutex // guards the rest
	urgent int        // starts that somebody waits for, in line or under way
	quiet  chan struct{}
}

// patientWait is how long a start that nobody waits for is put off at most, so
// that a busy time without end does not keep the pool empty.
const patientWait = 10 * time.Second

func newStarts(limit int) *starts {
	s := &starts{slots: make(chan struct{}, limit), quiet: make(chan struct{})}
	close(s.quiet)
	return s
}

// enter waits for a turn. The caller calls leave when the start is over.
func (s *starts) enter(ctx context.Context) (leave func(), err error) {
	s.mu.Lock()
	if s.urgent++; s.urgent == 1 {
		s.quiet = make(chan struct{})
	}
	s.mu.Unlock()
	done := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.urgent--; s.urgent == 0 {
			close(s.quiet)
		}
	}
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots; done() }, nil
	case <-ctx.Done():
		done()
		return nil, ended(ctx)
	}
}

// enterLast waits until nobody else is starting anything, or long enough.
func (s *starts) enterLast(ctx context.Context) (leave func(), err error) {
	timer := time.NewTimer(patientWait)
	defer timer.Stop()
	s.mu.Lock()
	quiet := s.quiet
	s.mu.Unlock()
	select {
	case <-quiet:
	case <-timer.C:
	case <-ctx.Done():
		return nil, ended(ctx)
	}
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	case <-ctx.Done():
		return nil, ended(ctx)
	}
}
