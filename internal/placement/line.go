package placement

import (
	"slices"
	"sync"
)

// line is who waits for a runner, in order of arrival. Whoever sees that a call
// ended wakes the first, so that freed room is used at once, and by whoever has
// waited longest.
type line struct {
	mu      sync.Mutex // guards the rest
	arrived uint64
	waiting []*waiter
}

// waiter is one call that waits. Its place is that of its arrival, however
// often it was woken in vain.
type waiter struct {
	arrival uint64
	wake    chan struct{} // has one slot
	listed  bool          // guarded by the line's mu
}

// arrive gives a call its place, which it takes by wait.
func (l *line) arrive() *waiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.arrived++
	return &waiter{arrival: l.arrived, wake: make(chan struct{}, 1)}
}

// wait puts a call in its place.
func (l *line) wait(w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, _ := slices.BinarySearchFunc(l.waiting, w.arrival, func(other *waiter, arrival uint64) int {
		return int(int64(other.arrival - arrival)) //nolint:gosec // the difference is small
	})
	l.waiting = slices.Insert(l.waiting, i, w)
	w.listed = true
}

// leave takes a call out of the line that stopped waiting. It reports whether the
// call was woken at the same moment; if it does not use that, it wakes the next.
func (l *line) leave(w *waiter) (woken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.listed {
		i := slices.Index(l.waiting, w)
		l.waiting = slices.Delete(l.waiting, i, i+1)
		w.listed = false
		return false
	}
	<-w.wake
	return true
}

// wakeFirst wakes who has waited longest.
func (l *line) wakeFirst() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return
	}
	first := l.waiting[0]
	l.waiting = slices.Delete(l.waiting, 0, 1)
	first.listed = false
	first.wake <- struct{}{}
}

// wakeAll wakes everybody.
func (l *line) wakeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.waiting {
		w.listed = false
		w.wake <- struct{}{}
	}
	l.waiting = nil
}
