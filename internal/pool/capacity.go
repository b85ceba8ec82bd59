package pool

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/model"
)

// This file finds memory and processor time: fillLocked runs whenever a caller
// comes or leaves, an instance comes to rest, or capacity returns, and starts
// what can be started.

// holdFactor is how many times YieldAfter capacity is held back for a function
// that needs more than is free, so that large ones find enough at once. After
// that others go before it: it may be that what it lacks does not come.
const holdFactor = 5

func (p *Pool) holdFor() time.Duration { return holdFactor * p.opts.YieldAfter }

// fillLocked starts launches, most deserving function first, as long as
// capacity lasts. For a while the first function that cannot be served keeps
// those behind it waiting, also smaller ones: otherwise a large function would
// never find enough free memory at once. What is freed meanwhile is thereby
// reserved for it.
func (p *Pool) fillLocked() {
	if p.closed || len(p.hungry) == 0 {
		return
	}
	p.restLookLocked(len(p.hungry))
	var passed map[*group]bool
	for g := p.nextLocked(passed); g != nil; g = p.nextLocked(passed) {
		switch {
		case !g.hasImage():
			p.prepareLocked(g)
		case p.reserveLocked(g):
			p.launchLocked(g)
		case p.makeRoomLocked(g):
			return // it comes
		case g.callersLack() && p.isRefusedLocked(g):
			p.dropIfUnusedLocked(g)
		case g.callersLack() && p.heldLocked(g):
			return
		default:
			if passed == nil {
				passed = map[*group]bool{}
			}
			passed[g] = true
		}
	}
}

// isRefusedLocked refuses callers that are not to wait for what g lacks, or
// would wait in vain.
func (p *Pool) isRefusedLocked(g *group) bool {
	var why string
	if others := lessOf(p.stocked.held, times(g.spec.Need, g.stock)); p.ledger.Total().MemoryBytes-others.MemoryBytes < g.spec.Need.MemoryBytes ||
		p.ledger.Total().MilliCPU-others.MilliCPU < g.spec.Need.MilliCPU {
		why = "minimum instances of other functions leave too little"
	} else if p.opts.FailFast {
		why = "no capacity"
	}
	if why == "" {
		return false
	}
	g.failSurplus(func() error {
		return p.busyLocked(g, fmt.Errorf("%s for function %s: %w", why, g.spec.FnID, model.ErrServerBusy))
	})
	return true
}

// heldLocked reports whether capacity is held back for g, and sees to it that
// somebody looks again when that ends.
func (p *Pool) heldLocked(g *group) bool {
	left := time.Until(g.oldest().Add(p.holdFor()))
	if left <= 0 {
		return false
	}
	p.lookAgainLocked(left)
	return true
}

// lookAgainLocked lets fillLocked run after that time, at the latest.
func (p *Pool) lookAgainLocked(after time.Duration) {
	at := time.Now().Add(after)
	if !p.lookAt.IsZero() && !at.Before(p.lookAt) {
		return
	}
	p.lookAt = at
	if p.look == nil {
		p.look = time.AfterFunc(after, p.onLook)
	} else {
		p.look.Reset(after)
	}
}

func (p *Pool) onLook() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lookAt = time.Time{}
	p.fillLocked()
}

// Looking at very many functions for each call that begins or ends would slow
// all calls down. Where more than cheapLook of them lack capacity, that happens
// once in lookEvery.
const (
	cheapLook = 64
	lookEvery = 5 * time.Millisecond
)

// restLookLocked notes how much there was to look at.
func (p *Pool) restLookLocked(count int) {
	if count > cheapLook {
		p.noLookBefore = time.Now().Add(lookEvery)
	}
}

// fillSoonLocked is fillLocked for what happens with each call.
func (p *Pool) fillSoonLocked() {
	if len(p.hungry) == 0 {
		return
	}
	if left := time.Until(p.noLookBefore); left > 0 {
		p.lookAgainLocked(left)
		return
	}
	p.fillLocked()
}

// makeRoomLocked evicts idle instances of other functions for g, unless what
// is being removed already will do. It is all or nothing: nobody loses an
// instance without g gaining one. It reports whether there will be room.
func (p *Pool) makeRoomLocked(g *group) bool {
	missing := lessOf(p.ledger.Missing(g.spec.Need), p.returning)
	if missing == (capacity.Amount{}) {
		return true
	}
	if lessOf(missing, p.resting) != (capacity.Amount{}) {
		return false // not even all of them would do
	}
	victims, enough := p.victimsLocked(g, missing)
	if !enough {
		return false
	}
	for _, inst := range victims {
		inst.group.watcher.Evicted(inst.state)
		p.endRestingLocked(inst, "evicted for another function")
	}
	return true
}

// victimsLocked chooses the idle instances that must go for what g is missing
// and reports whether they are enough. Those go first that were idle longest,
// measured in the time that it takes to launch them again; none goes that does
// not help.
func (p *Pool) victimsLocked(g *group, missing capacity.Amount) ([]*Instance, bool) {
	idle := p.evictableLocked(g)
	p.restLookLocked(len(idle))
	var victims []*Instance
	for left := missing; left != (capacity.Amount{}); idle = idle[1:] {
		if len(idle) == 0 {
			return nil, false
		}
		victims = append(victims, idle[0])
		left = lessOf(left, idle[0].group.spec.Need)
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
