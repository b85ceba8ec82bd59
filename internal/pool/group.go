package pool

import (
	"container/list"
	"fmt"
	"slices"
	"time"

	"github.com/tinefn/tine/model"
)

// group is what the pool has for one launch spec: instances and waiters. All
// methods need the pool's mutex.
type group struct {
	pool     *Pool
	spec     *Spec
	app, fn  *share
	revision time.Time // the newest that callers came with

	// superseded says that callers came with a newer definition of the function:
	// instances end as soon as nobody waits for one.
	superseded bool
	stock      int // how many instances it keeps at least; see stock.go

	idle    []*Instance // idle or frozen; last in, first out, so that surplus ones age
	all     map[*Instance]struct{}
	waiters *list.List // of *waiter, oldest first

	queueTimer *time.Timer // nil: nobody has waited yet
	watched    bool        // queueTimer is set

	launching  int  // launches that hold capacity and are not ready yet
	imageReady bool // the image was local when last looked for
	preparing  bool // it is being looked for
	imageTook  time.Duration

	failures  int       // launches or image look-ups failed in a row
	notBefore time.Time // no further one before, after such a failure

	holdTime   average // how long callers hold an instance
	launchTime average // what a launch costs
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

// groupLocked returns the group of a spec. The first caller with a newer
// definition of a function supersedes the groups of older ones.
func (p *Pool) groupLocked(spec *Spec) *group {
	g := p.groups[spec.Key]
	if g == nil {
		g = &group{pool: p, spec: spec, all: map[*Instance]struct{}{}, waiters: list.New(), revision: spec.Revision}
		g.app, g.fn = p.apps.of(spec.AppID), p.fns.of(spec.FnID)
		g.app.join(g)
		g.fn.join(g)
		p.groups[spec.Key] = g
		if spec.Scale.MinInstances > 0 {
			p.stocked = append(p.stocked, g)
		}
		p.supersedeLocked(g)
	} else if spec.Revision.After(g.revision) {
		g.revision = spec.Revision
		p.supersedeLocked(g)
	}
	return g
}

// supersedeLocked retires the function's groups that are older than g, or g
// itself if it is not the newest.
func (p *Pool) supersedeLocked(g *group) {
	newest := g.revision
	for other := range g.fn.groups {
		if other.revision.After(newest) {
			newest = other.revision
		}
	}
	for other := range g.fn.groups {
		other.superseded = other.revision.Before(newest)
		if other.superseded {
			p.endIdleLocked(other, "its definition changed")
		}
		if other != g {
			p.dropIfUnusedLocked(other)
		}
	}
	p.shareStockLocked()
}

func (p *Pool) endIdleLocked(g *group, why string) {
	for inst := g.popIdle(); inst != nil; inst = g.popIdle() {
		p.endLocked(inst, why)
	}
}

// dropIfUnusedLocked forgets a group that nothing refers to, unless its last
// failure still bars launches.
func (p *Pool) dropIfUnusedLocked(g *group) {
	if len(g.all) > 0 || g.launching > 0 || g.waiters.Len() > 0 || g.preparing || g.wantedStock() > 0 ||
		!p.closed && time.Now().Before(g.notBefore) || p.groups[g.spec.Key] != g {
		return
	}
	if g.queueTimer != nil {
		g.queueTimer.Stop()
	}
	delete(p.groups, g.spec.Key)
	delete(p.hungry, g)
	p.apps.leave(g.spec.AppID, g)
	p.fns.leave(g.spec.FnID, g)
	if i := slices.Index(p.stocked, g); i >= 0 {
		p.stocked = slices.Delete(p.stocked, i, i+1)
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
	g.updateHunger()
	return w
}

// watchQueueLocked sees to it that nobody waits longer than the queue's timeout.
// All wait equally long, so that of the oldest is the next to expire, and one
// timer does for all. It is not stopped when the line gets empty, so that a busy
// function does not pay for it with each call.
func (p *Pool) watchQueueLocked(g *group) {
	if p.opts.QueueTimeout <= 0 || g.watched {
		return
	}
	left := time.Until(g.waiters.Front().Value.(*waiter).since.Add(p.opts.QueueTimeout))
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
	p.dropIfUnusedLocked(g)
}

// leave takes a waiter out of line; false means that it was served.
func (g *group) leave(w *waiter) bool {
	if w.elem == nil {
		return false
	}
	g.waiters.Remove(w.elem)
	w.elem = nil
	g.updateHunger()
	return true
}

// updateHunger keeps the list of groups that may want a launch.
func (g *group) updateHunger() {
	if g.waiters.Len() > 0 || g.stock > 0 {
		g.pool.hungry[g] = struct{}{}
	} else {
		delete(g.pool.hungry, g)
	}
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
func (g *group) failSurplus(err error) {
	for g.waiters.Len() > g.launching {
		w := g.waiters.Back().Value.(*waiter)
		g.leave(w)
		w.served <- grant{err: err}
	}
}

// count is how many instances there are or will be.
func (g *group) count() int { return len(g.all) + g.launching }

// wanted is how many launches are due: one for each waiter that none is under
// way for, and what is missing of the stock, as far as the function may have
// so many. After a failure one launch at a time finds out whether it was the
// last.
func (g *group) wanted() int {
	want := max(g.waiters.Len()-g.launching, g.stock-g.count())
	if limit := g.spec.Scale.MaxInstances; limit > 0 {
		want = min(want, limit-g.count())
	}
	if g.failures > 0 {
		want = min(want, 1-g.launching)
	}
	return want
}

// hasNone reports that the function has no instance and none under way.
func (g *group) hasNone() bool { return g.count() == 0 }

// spare reports whether the function could lose an idle instance.
func (g *group) spare() bool { return len(g.all) > g.stock }

// waitTime estimates how long a caller who came now would wait; 0 means that
// nothing is known.
func (g *group) waitTime() time.Duration {
	return g.holdTime.value * time.Duration(g.waiters.Len()+1) / time.Duration(max(1, len(g.all)))
}

// average is a moving average in which the last eight values or so count.
type average struct{ value time.Duration }

func (a *average) add(d time.Duration) {
	if a.value == 0 {
		a.value = d
		return
	}
	a.value += (d - a.value) / 8
}
