package pool

import (
	"time"

	"github.com/tinefn/tine/internal/capacity"
)

// This file decides who is served next when capacity is short: the app that
// uses least of the machine, within an app the function that uses least, and
// between equals whoever waits longest. Use is what is reserved for instances,
// of memory or processor time, whichever is the larger part of what there is.

// share is what an app or a function uses.
type share struct {
	used   capacity.Amount
	groups map[*group]struct{}
}

func (s *share) join(g *group) { s.groups[g] = struct{}{} }

// shares holds the share of each app, or function, that has a group.
type shares map[string]*share

func (s shares) of(id string) *share {
	if s[id] == nil {
		s[id] = &share{groups: map[*group]struct{}{}}
	}
	return s[id]
}

func (s shares) leave(id string, g *group) {
	delete(s[id].groups, g)
	if len(s[id].groups) == 0 {
		delete(s, id)
	}
}

// reserveLocked takes capacity for one more instance of g, if it is free.
func (p *Pool) reserveLocked(g *group) bool {
	if !p.ledger.TryReserve(g.spec.Need) {
		return false
	}
	g.app.used = sum(g.app.used, g.spec.Need)
	g.fn.used = sum(g.fn.used, g.spec.Need)
	return true
}

// returnLocked notes that an instance of g is being removed: its capacity is
// no longer its function's, and not free yet.
func (p *Pool) returnLocked(g *group) {
	g.app.used = lessOf(g.app.used, g.spec.Need)
	g.fn.used = lessOf(g.fn.used, g.spec.Need)
	p.returning = sum(p.returning, g.spec.Need)
}

// freeLocked makes capacity of g free that was being returned.
func (p *Pool) freeLocked(g *group) {
	p.ledger.Release(g.spec.Need)
	p.returning = lessOf(p.returning, g.spec.Need)
}

// part is which part of the machine an amount is, from 0 to 1.
func (p *Pool) part(a capacity.Amount) float64 {
	total := p.ledger.Total()
	return max(float64(a.MemoryBytes)/float64(max(1, total.MemoryBytes)), float64(a.MilliCPU)/float64(max(1, total.MilliCPU)))
}

// nextLocked returns the group that the next launch is for, nil if none is due.
func (p *Pool) nextLocked() *group {
	now := time.Now()
	var best *group
	for g := range p.hungry {
		if g.wanted() <= 0 || g.preparing || now.Before(g.notBefore) {
			continue
		}
		if best == nil || p.moreDeserving(g, best) {
			best = g
		}
	}
	return best
}

func (p *Pool) moreDeserving(a, b *group) bool {
	frontA, frontB := a.waiters.Front(), b.waiters.Front()
	if (frontA == nil) != (frontB == nil) {
		return frontA != nil // callers before stock
	}
	if partA, partB := p.part(a.app.used), p.part(b.app.used); a.app != b.app && partA != partB {
		return partA < partB
	}
	if partA, partB := p.part(a.fn.used), p.part(b.fn.used); a.fn != b.fn && partA != partB {
		return partA < partB
	}
	return frontA != nil && frontA.Value.(*waiter).since.Before(frontB.Value.(*waiter).since)
}

// mustYieldLocked reports whether an instance that its holder gives back has to
// make room for another function. Without this rule functions that are busy all
// the time would keep for ever what they got first.
func (p *Pool) mustYieldLocked(inst *Instance) bool {
	g := inst.group
	if time.Since(inst.readySince) < p.opts.YieldAfter || !g.spare() {
		return false
	}
	next := p.nextLocked()
	if next == nil || next == g || !next.imageReady || next.waiters.Len() == 0 {
		return false
	}
	if time.Since(next.waiters.Front().Value.(*waiter).since) < p.opts.YieldAfter {
		return false
	}
	if lessOf(p.ledger.Missing(next.spec.Need), p.returning) == (capacity.Amount{}) {
		return false
	}
	return next.hasNone() || p.staysPoorer(next, g)
}

// staysPoorer reports whether next would not use more than g if g gave an
// instance to it: only then they do not take it from each other in turn.
func (p *Pool) staysPoorer(next, g *group) bool {
	from, to := g.fn, next.fn
	if g.app != next.app {
		from, to = g.app, next.app
	}
	return p.part(sum(to.used, next.spec.Need)) <= p.part(lessOf(from.used, g.spec.Need))
}

func sum(a, b capacity.Amount) capacity.Amount {
	return capacity.Amount{MemoryBytes: a.MemoryBytes + b.MemoryBytes, MilliCPU: a.MilliCPU + b.MilliCPU}
}

// lessOf subtracts b from a, not going below zero.
func lessOf(a, b capacity.Amount) capacity.Amount {
	return capacity.Amount{
		MemoryBytes: max(0, a.MemoryBytes-b.MemoryBytes),
		MilliCPU:    max(0, a.MilliCPU-b.MilliCPU),
	}
}
