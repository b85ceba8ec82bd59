package pool

import (
	"fmt"
	"slices"
	"time"

	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/model"
)

// This file decides who gets memory and processor time: fillLocked runs
// whenever a waiter comes or capacity returns, and starts what can be started.

// fillLocked starts launches for waiters, most deserving function first, as
// long as capacity lasts. The first function that cannot be served keeps those
// behind it waiting, also smaller ones: otherwise a large function would never
// find enough free memory at once. What is freed later is thereby reserved for
// it.
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
		if !p.ledger.TryReserve(g.spec.Need) {
			if !p.makeRoomLocked(g) && p.opts.FailFast {
				g.failSurplus(notPlaced(fmt.Errorf("no capacity for function %s: %w", g.spec.FnID, model.ErrServerBusy)))
				p.dropIfUnusedLocked(g)
				continue
			}
			return
		}
		p.launchLocked(g)
	}
}

// nextLocked returns the group that the next launch is for: one without any
// instance goes before one that wants one more, then the longest wait counts.
func (p *Pool) nextLocked() *group {
	now := time.Now()
	var best *group
	for g := range p.hungry {
		if g.wanted() <= 0 || g.preparing || now.Before(g.notBefore) {
			continue
		}
		if best == nil || moreDeserving(g, best) {
			best = g
		}
	}
	return best
}

func moreDeserving(a, b *group) bool {
	if a.hasNone() != b.hasNone() {
		return a.hasNone()
	}
	return a.since().Before(b.since())
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
		inst.group.removeIdle(inst)
		p.endLocked(inst, "evicted for another function")
	}
	return true
}

// victimsLocked chooses the idle instances that must go for g's next launch,
// longest idle first, and reports whether they and what is being removed are
// enough.
func (p *Pool) victimsLocked(g *group) ([]*Instance, bool) {
	missing := p.ledger.Missing(g.spec.Need)
	missing = lessOf(missing, p.returning)
	if missing == (capacity.Amount{}) {
		return nil, true
	}
	var idle []*Instance
	for _, other := range p.groups {
		if other != g {
			idle = append(idle, other.idle...)
		}
	}
	slices.SortFunc(idle, func(a, b *Instance) int { return a.idleSince.Compare(b.idleSince) })
	for i, inst := range idle {
		missing = lessOf(missing, inst.group.spec.Need)
		if missing == (capacity.Amount{}) {
			return idle[:i+1], true
		}
	}
	return nil, false
}

// lessOf subtracts b from a, not going below zero.
func lessOf(a, b capacity.Amount) capacity.Amount {
	return capacity.Amount{
		MemoryBytes: max(0, a.MemoryBytes-b.MemoryBytes),
		MilliCPU:    max(0, a.MilliCPU-b.MilliCPU),
	}
}

// starvingLocked reports whether a function without any instance has waited so
// long that g has to give one up. Without this rule a function that is busy all
// the time would keep all memory for ever.
func (p *Pool) starvingLocked(g *group) bool {
	next := p.nextLocked()
	return next != nil && next != g && next.hasNone() && next.imageReady &&
		time.Since(next.since()) >= p.opts.YieldAfter &&
		lessOf(p.ledger.Missing(next.spec.Need), p.returning) != (capacity.Amount{})
}
