package pool

import (
	"container/list"
	"time"

	"github.com/tinefn/tine/driver"
)

// group is what the pool has for one launch spec: instances and waiters. All
// methods need the pool's mutex.
type group struct {
	pool     *Pool
	spec     *Spec
	watcher  Watcher
	app, fn  *share
	revision Revision // the newest that callers came with

	registryToken string            // likewise; a secret
	extensions    map[string]string // likewise; never changed

	// superseded says that there is a newer definition of the function, or none
	// any more: instances end as soon as nobody waits for one.
	superseded bool
	kept       bool // it is to have its minimum of instances, called or not
	stock      int  // how many that are; see stock.go

	idle    []*Instance // idle or frozen; last in, first out, so that surplus ones age
	all     map[*Instance]struct{}
	waiters *list.List // of *waiter, oldest first

	queueTimer *time.Timer // nil: nobody has waited yet
	watched    bool        // queueTimer is set

	launching  int          // launches that hold capacity and are not ready yet
	ending     int          // instances that are being removed
	image      driver.Image // what its name meant when last looked for
	imageReady bool         // it was local then
	imageAt    time.Time    // when that was
	refresh    *refreshing
	preparing  bool // it is being looked for
	pushed     bool // since that began
	imageTook  time.Duration

	failures  int         // launches or image look-ups failed in a row
	failedAt  time.Time   // when the last of them did
	notBefore time.Time   // no further one before, after such a failure
	retry     *time.Timer // of the end of that pause; nil: there was none

	holdTime   average // how long callers hold an instance
	launchTime average // what a launch costs
}

// groupLocked returns the group of a spec. The first caller with a newer
// definition of a function supersedes the groups of older ones.
func (p *Pool) groupLocked(spec *Spec) *group {
	g := p.groups[spec.Key]
	if g == nil {
		g = &group{pool: p, spec: spec, watcher: p.observer.Watch(spec), all: map[*Instance]struct{}{}, waiters: list.New(), revision: spec.Revision}
		g.refresh = p.refreshingLocked(spec)
		g.app, g.fn = p.apps.of(spec.AppID), p.fns.of(spec.FnID)
		g.app.join(g)
		g.fn.join(g)
		p.groups[spec.Key] = g
		p.supersedeLocked(g)
	} else if g.revision.Older(spec.Revision) {
		g.revision = spec.Revision
		p.supersedeLocked(g)
	}
	if spec.RegistryToken != "" {
		g.registryToken = spec.RegistryToken
	}
	g.extensions = spec.Container.Extensions
	return g
}

// imageTrust is how long an image that no container is made from is taken to be
// where it was found. Drivers do not clean up one that was just asked for.
const imageTrust = 30 * time.Second

// hasImage reports whether the image need not be looked for before a launch.
func (g *group) hasImage() bool {
	if !g.imageReady || time.Since(g.imageAt) < imageTrust {
		return g.imageReady
	}
	for inst := range g.all {
		if !inst.outdated() {
			return true
		}
	}
	return false
}

// imageRequest asks for the image of the group's instances.
func (g *group) imageRequest() driver.ImageRequest {
	return driver.ImageRequest{Name: g.spec.Container.Image, Tenant: g.spec.Container.Tenant, Token: g.registryToken}
}

// supersedeLocked retires the function's groups that are older than another
// one. It is called when g is new or has become newer.
func (p *Pool) supersedeLocked(g *group) {
	if len(g.fn.groups) == 1 {
		if g.superseded { // it was given up, and its last instance is not gone yet
			g.superseded = false
			p.shareStockLocked()
		}
		return
	}
	for other := range g.fn.groups {
		other.superseded = false
		for newer := range g.fn.groups {
			other.superseded = other.superseded || other.revision.Older(newer.revision)
		}
		if other.superseded {
			p.endIdleLocked(other, "its definition changed")
		}
	}
	p.shareStockLocked()
	for other := range g.fn.groups {
		if other != g {
			p.dropIfUnusedLocked(other)
		}
	}
}

func (p *Pool) endIdleLocked(g *group, why string) {
	for inst := g.popIdle(); inst != nil; inst = g.popIdle() {
		p.endLocked(inst, why)
	}
}

// dropIfUnusedLocked forgets a group that nothing refers to, unless its last
// failure still bars launches.
func (p *Pool) dropIfUnusedLocked(g *group) {
	if len(g.all) > 0 || g.launching > 0 || g.ending > 0 || g.waiters.Len() > 0 || g.preparing || g.wantedStock() > 0 ||
		!p.closed && g.barred(time.Now()) || p.groups[g.spec.Key] != g {
		return
	}
	for _, timer := range []*time.Timer{g.queueTimer, g.retry} {
		if timer != nil {
			timer.Stop()
		}
	}
	delete(p.groups, g.spec.Key)
	delete(p.hungry, g)
	g.watcher.Close()
	p.apps.leave(g.spec.AppID, g)
	p.fns.leave(g.spec.FnID, g)
	p.unstockLocked(g)
}

func (g *group) popIdle() *Instance {
	n := len(g.idle)
	if n == 0 {
		return nil
	}
	inst := g.idle[n-1]
	g.idle[n-1] = nil
	g.idle = g.idle[:n-1]
	g.pool.resting = lessOf(g.pool.resting, g.spec.Need)
	return inst
}

// update keeps the list of groups that want a launch. It is called when
// something changed that wanted depends on.
func (g *group) update() {
	if g.wanted() > 0 {
		g.pool.hungry[g] = struct{}{}
	} else {
		delete(g.pool.hungry, g)
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
		want = min(want, limit-g.count()-g.ending)
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

// average is a moving average in which the last eight values or so count.
type average struct{ value time.Duration }

func (a *average) add(d time.Duration) {
	if a.value == 0 {
		a.value = d
		return
	}
	a.value += (d - a.value) / 8
}
