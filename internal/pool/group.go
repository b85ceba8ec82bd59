package pool

import (
	"container/list"
	"time"
)

// group is what the pool has for one launch spec: instances and waiters. All
// methods need the pool's mutex.
type group struct {
	pool *Pool
	spec *Spec

	idle    []*Instance // last in, first out, so that surplus ones age
	all     map[*Instance]struct{}
	waiters *list.List // of *waiter, oldest first

	launching  int  // launches that hold capacity and are not ready yet
	imageReady bool // the image was local when last looked for
	preparing  bool // it is being looked for

	failures  int       // launches failed in a row while other instances worked
	notBefore time.Time // no launch before, after such a failure
}

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

func (p *Pool) groupLocked(spec *Spec) *group {
	g := p.groups[spec.Key]
	if g == nil {
		g = &group{pool: p, spec: spec, all: map[*Instance]struct{}{}, waiters: list.New()}
		p.groups[spec.Key] = g
	}
	return g
}

// dropIfUnusedLocked forgets a group that nothing refers to.
func (p *Pool) dropIfUnusedLocked(g *group) {
	if len(g.all) == 0 && g.launching == 0 && g.waiters.Len() == 0 && !g.preparing && p.groups[g.spec.Key] == g {
		delete(p.groups, g.spec.Key)
	}
}

func (g *group) popIdle() *Instance {
	n := len(g.idle)
	if n == 0 {
		return nil
	}
	inst := g.idle[n-1]
	g.idle[n-1] = nil
	g.idle = g.idle[:n-1]
	return inst
}

func (g *group) enqueue(now time.Time) *waiter {
	w := &waiter{since: now, served: make(chan grant, 1)}
	w.elem = g.waiters.PushBack(w)
	g.pool.hungry[g] = struct{}{}
	return w
}

// leave takes a waiter out of line; false means that it was served.
func (g *group) leave(w *waiter) bool {
	if w.elem == nil {
		return false
	}
	g.waiters.Remove(w.elem)
	w.elem = nil
	if g.waiters.Len() == 0 {
		delete(g.pool.hungry, g)
	}
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
func (g *group) failBefore(when time.Time, err error) {
	for front := g.waiters.Front(); front != nil && !front.Value.(*waiter).since.After(when); front = g.waiters.Front() {
		g.serve(grant{err: err})
	}
}

// failSurplus fails the waiters that no launch is under way for, newest first.
func (g *group) failSurplus(err error) {
	for g.wanted() > 0 {
		w := g.waiters.Back().Value.(*waiter)
		g.leave(w)
		w.served <- grant{err: err}
	}
}

// wanted is how many launches would serve those who wait: one each.
func (g *group) wanted() int { return g.waiters.Len() - g.launching }

// since is when the oldest waiter came. There must be one.
func (g *group) since() time.Time { return g.waiters.Front().Value.(*waiter).since }

// hasNone reports that the function has no instance and none under way.
func (g *group) hasNone() bool { return len(g.all) == 0 && g.launching == 0 }
