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

// freeLocked makes capacity free that an instance held until its removal.
func (p *Pool) freeLocked(inst *Instance) {
	p.ledger.Release(inst.group.spec.Need)
	if !inst.overdue {
		p.returning = lessOf(p.returning, inst.group.spec.Need)
	}
}

// part is which part of the machine an amount is, from 0 to 1.
func (p *Pool) part(a capacity.Amount) float64 {
	total := p.ledger.Total()
	return max(float64(a.MemoryBytes)/float64(max(1, total.MemoryBytes)), float64(a.MilliCPU)/float64(max(1, total.MilliCPU)))
}

// nextLocked returns the group that the next launch is for, nil if none is due.
// Those that were passed over do not count.
func (p *Pool) nextLocked(passed map[*group]bool) *group {
	now := time.Now()
	var best *group
	for g := range p.hungry {
		if g.preparing || g.barred(now) || passed[g] {
			continue
		}
		if best == nil || p.moreDeserving(g, best) {
			best = g
		}
	}
	return best
}

func (p *Pool) moreDeserving(a, b *group) bool {
	if a.callersLack() != b.callersLack() {
		return a.callersLack() // callers before stock
	}
	if partA, partB := p.part(a.app.used), p.part(b.app.used); a.app != b.app && partA != partB {
		return partA < partB
	}
	if partA, partB := p.part(a.fn.used), p.part(b.fn.used); a.fn != b.fn && partA != partB {
		return partA < partB
	}
	return a.callersLack() && a.oldest().Before(b.oldest())
}

// mustYieldLocked reports whether an instance that its holder gives back has to
// make room for another function. Without this rule functions that are busy all
// the time would keep for ever what they got first.
func (p *Pool) mustYieldLocked(inst *Instance) bool {
	g := inst.group
	if len(p.hungry) == 0 || !g.spare() || time.Now().Before(p.noLookBefore) {
		return false
	}
	p.restLookLocked(len(p.hungry))
	next := p.nextLocked(nil)
	if next == nil || next == g || !next.imageReady || !next.callersLack() {
		return false
	}
	// An instance is to have been worth its launch, and the next one's, too.
	served := time.Since(inst.readySince)
	if served < max(p.opts.YieldAfter, g.launchTime.value, next.launchTime.value) {
		return false
	}
	missing := lessOf(p.ledger.Missing(next.spec.Need), p.returning)
	if missing == (capacity.Amount{}) {
		return false
	}
	// Where it takes several instances, they are given up only as long as
	// capacity is held back, or the first ones might be given up in vain.
	waited := time.Since(next.oldest())
	alone := lessOf(missing, g.spec.Need) == (capacity.Amount{})
	if waited < p.opts.YieldAfter || !alone && waited > p.holdFor() {
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
