package pool

import (
	"container/list"
	"fmt"
	"time"

	"github.com/tinefn/tine/model"
)

// This file is about the callers that stand in line for a function.

// waiter is a caller in line. served holds one value at most.
type waiter struct {
	since  time.Time
	served chan grant
	elem   *list.Element // nil when no longer in line
}

// grant is what a waiter gets: an instance that it holds already, or an error.
type grant struct {
	inst *Instance
	err  error
}

func (g *group) enqueue(now time.Time) *waiter {
	w := &waiter{since: now, served: make(chan grant, 1)}
	w.elem = g.waiters.PushBack(w)
	g.update()
	return w
}

// leave takes a waiter out of line; false means that it was served.
func (g *group) leave(w *waiter) bool {
	if w.elem == nil {
		return false
	}
	g.waiters.Remove(w.elem)
	w.elem = nil
	g.update()
	return true
}

// serve gives the oldest waiter what it waits for; false means nobody waits.
func (g *group) serve(what grant) bool {
	front := g.waiters.Front()
	if front == nil {
		return false
	}
	w := front.Value.(*waiter)
	g.leave(w)
	w.served <- what
	return true
}

// failBefore fails all waiters that were in line at the given time.
func (g *group) failBefore(when time.Time, why func() error) {
	for front := g.waiters.Front(); front != nil && !front.Value.(*waiter).since.After(when); front = g.waiters.Front() {
		g.serve(grant{err: why()})
	}
}

// failSurplus fails the waiters that no launch is under way for, newest first.
func (g *group) failSurplus(why func() error) {
	for g.callersLack() {
		w := g.waiters.Back().Value.(*waiter)
		g.leave(w)
		w.served <- grant{err: why()}
	}
}

// callersLack reports whether there are callers that no launch is under way
// for.
func (g *group) callersLack() bool { return g.waiters.Len() > g.launching }

// oldest is when the oldest caller began to wait. There must be one.
func (g *group) oldest() time.Time { return g.waiters.Front().Value.(*waiter).since }

// watchQueueLocked sees to it that nobody waits longer than the queue's timeout.
// All wait equally long, so that the oldest is the next to expire, and one timer
// does for all. It is not stopped when the line gets empty, so that a busy
// function does not pay for it with each call.
func (p *Pool) watchQueueLocked(g *group) {
	if p.opts.QueueTimeout <= 0 || g.watched {
		return
	}
	left := time.Until(g.oldest().Add(p.opts.QueueTimeout))
	g.watched = true
	if g.queueTimer == nil {
		g.queueTimer = time.AfterFunc(left, func() { p.onQueueTimer(g) })
	} else {
		g.queueTimer.Reset(left)
	}
}

// onQueueTimer refuses those who have waited too long.
func (p *Pool) onQueueTimer(g *group) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g.watched = false
	g.failBefore(time.Now().Add(-p.opts.QueueTimeout), func() error {
		return p.busyLocked(g, fmt.Errorf("no instance of function %s became free within %v: %w", g.spec.FnID, p.opts.QueueTimeout, model.ErrServerBusy))
	})
	if g.waiters.Len() > 0 {
		p.watchQueueLocked(g)
	}
	p.fillLocked() // what they waited for may be enough for others
	p.dropIfUnusedLocked(g)
}

// waitTime estimates how long a caller who came now would wait; 0 means that
// nothing is known.
func (g *group) waitTime() time.Duration {
	return g.holdTime.value * time.Duration(g.waiters.Len()+1) / time.Duration(max(1, len(g.all)))
}
