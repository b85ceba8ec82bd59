package pool

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/model"
)

// This file finds memory and processor time: fillLocked runs whenever a waiter
// comes or capacity returns, and starts what can be started.

// fillLocked starts launches, most deserving function first, as long as
// capacity lasts. The first function that cannot be served keeps those behind
// it waiting, also smaller ones: otherwise a large function would never find
// enough free memory at once. What is freed later is thereby reserved for it.
func (p *Pool) fillLocked() {
	if p.closed {
		return
	}
	for {
		g := p.nextLocked()
		if g == nil {
			return
		}
		if !g.imageReady {
			p.prepareLocked(g)
			continue
		}
		if p.reserveLocked(g) {
			p.launchLocked(g)
			continue
		}
		if p.makeRoomLocked(g) || !p.opts.FailFast || g.waiters.Len() == 0 {
			return
		}
		g.failSurplus(p.busyLocked(g, fmt.Errorf("no capacity for function %s: %w", g.spec.FnID, model.ErrServerBusy)))
		p.dropIfUnusedLocked(g)
	}
}

// makeRoomLocked evicts idle instances of other functions for g, unless what
// is being removed already will do. It is all or nothing: nobody loses an
// instance without g gaining one. It reports whether there is or will be room.
func (p *Pool) makeRoomLocked(g *group) bool {
	victims, enough := p.victimsLocked(g)
	if !enough {
		return false
	}
	for _, inst := range victims {
		p.observer.Evicted(inst.group.spec, inst.state)
		inst.group.removeIdle(inst)
		p.endLocked(inst, "evicted for another function")
	}
	return true
}

// victimsLocked chooses the idle instances that must go for g's next launch and
// reports whether they and what is being removed are enough. Those go first
// that were idle longest, measured in the time that it takes to launch them
// again; none goes that does not help.
func (p *Pool) victimsLocked(g *group) ([]*Instance, bool) {
	missing := lessOf(p.ledger.Missing(g.spec.Need), p.returning)
	if missing == (capacity.Amount{}) {
		return nil, true
	}
	var victims []*Instance
	for left, idle := missing, p.evictableLocked(g); left != (capacity.Amount{}); {
		if len(idle) == 0 {
			return nil, false
		}
		victims = append(victims, idle[0])
		left = lessOf(left, idle[0].group.spec.Need)
		idle = idle[1:]
	}
	return onlyNeeded(victims, missing), true
}

// onlyNeeded drops instances without which the others are still enough.
func onlyNeeded(victims []*Instance, missing capacity.Amount) []*Instance {
	var all capacity.Amount
	for _, inst := range victims {
		all = sum(all, inst.group.spec.Need)
	}
	return slices.DeleteFunc(victims, func(inst *Instance) bool {
		others := lessOf(all, inst.group.spec.Need)
		if lessOf(missing, others) != (capacity.Amount{}) {
			return false
		}
		all = others
		return true
	})
}

// evictableLocked lists the idle instances that g may take the place of, the
// least worth keeping first.
func (p *Pool) evictableLocked(g *group) []*Instance {
	now := time.Now()
	worth := func(inst *Instance) float64 {
		return float64(max(inst.group.launchTime.value, time.Millisecond)) / float64(now.Sub(inst.restSince)+1)
	}
	var idle []*Instance
	for _, other := range p.groups {
		if other == g {
			continue
		}
		if surplus := len(other.all) - other.stock; surplus > 0 {
			idle = append(idle, other.idle[:min(surplus, len(other.idle))]...) // the oldest are in front
		}
	}
	slices.SortFunc(idle, func(a, b *Instance) int { return cmp.Compare(worth(a), worth(b)) })
	return idle
}
