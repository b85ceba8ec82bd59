package prefork

import (
	"math"
	"time"
)

// demand tells how many namespaces should be ready beyond the minimum. Every
// container that found none asks for one more, and what they asked for is
// forgotten by half in demandHalfLife: bursts that come again find as many as
// the last one needed, and a quiet time gives them back.
type demand struct{ fading }

// demandHalfLife is long enough for bursts that a timer starts every few
// minutes.
const demandHalfLife = 5 * time.Minute

// missed asks for one more, up to a limit.
func (d *demand) missed(limit int) {
	d.add(1, demandHalfLife)
	d.amount = min(d.amount, float64(limit))
}

// until is how long it takes until one less is wanted: namespaces are whole, so
// until the demand is below the next half.
func (d *demand) until() time.Duration {
	next := math.Ceil(d.amount-negligible) - negligible
	if next <= 0 {
		return 0
	}
	return time.Duration(math.Log2(d.amount/next) * float64(demandHalfLife))
}

// balanceLocked starts whatever is due: it ends quarantines, probes what is
// ready, retires what is too much and makes what is missing. It is called after
// every change, and by a timer at the time of the next thing that is due.
func (p *Pool) balanceLocked() {
	if p.closed {
		return
	}
	now := time.Now()
	due := alarm{now: now}
	p.ageLocked(now, &due)
	p.shrinkLocked()
	p.growLocked(now, &due)
	if p.demand.amount > 0 {
		due.at(now.Add(p.demand.until() + time.Second)) // it is less by then
	}
	if due.next.IsZero() {
		p.timer.Stop()
	} else {
		p.timer.Reset(max(due.next.Sub(now), time.Millisecond))
	}
}

// alarm is the time of the next thing that is due.
type alarm struct{ now, next time.Time }

func (a *alarm) at(t time.Time) {
	if a.next.IsZero() || t.Before(a.next) {
		a.next = t
	}
}

// ageLocked does what only depends on how long an item has been in its state.
func (p *Pool) ageLocked(now time.Time, due *alarm) {
	for it := range p.items {
		switch it.state {
		case Quarantined:
			switch over := it.since.Add(p.opts.Quarantine); {
			case now.Before(over):
				due.at(over)
			case it.probing: // which ends with another look at it
			default:
				p.moveLocked(it, Probing)
				p.wg.Go(func() { p.admit(it) })
			}
		case Ready:
			p.proveLocked(it, now, due)
			over := it.since.Add(p.opts.KeepUsed)
			if p.short.lacks(shortOfMemory, now) {
				over = now
			}
			switch {
			case !it.used():
			case now.Before(over):
				due.at(over)
			default:
				p.retireLocked(it, causeUnwanted)
				continue
			}
			p.probeLaterLocked(it, now, due)
		case Leased:
			p.proveLocked(it, now, due)
			p.probeLaterLocked(it, now, due)
		default: // somebody is at it
		}
	}
}

// proveLocked ends the pauses of a network in which an item has got old enough
// that was made after the last failure.
func (p *Pool) proveLocked(it *item, now time.Time, due *alarm) {
	if !it.canProve() {
		return
	}
	if proven := it.made.Add(provenAge); now.Before(proven) {
		due.at(proven)
	} else {
		it.network.worked()
	}
}

// probeLaterLocked probes an item that rests, or is in use, now and then.
func (p *Pool) probeLaterLocked(it *item, now time.Time, due *alarm) {
	switch next := it.probed.Add(p.opts.ProbeEvery); {
	case it.probing || it.dead:
	case now.Before(next):
		due.at(next)
	default:
		it.probing = true
		p.wg.Go(func() { p.probeAgain(it) })
	}
}

// targetLocked is how many unused namespaces there should be.
func (p *Pool) targetLocked() int {
	if p.short.lacks(shortOfMemory, time.Now()) {
		return p.opts.Min
	}
	return min(p.opts.Min+int(math.Round(p.demand.now(demandHalfLife))), p.opts.MaxReady)
}

// freshLocked is how many there are or will be.
func (p *Pool) freshLocked() int {
	fresh := 0
	for it := range p.items {
		if !it.used() && it.state <= Ready {
			fresh++
		}
	}
	return fresh
}

// shrinkLocked retires unused namespaces that nobody wants any more, those of
// the fullest network first.
func (p *Pool) shrinkLocked() {
	surplus := p.freshLocked() - p.targetLocked()
	if p.short.lacks(shortOfMemory, time.Now()) {
		surplus -= p.count[Creating] // which are not made
	}
	for ; surplus > 0; surplus-- {
		var last *item
		for it := range p.items {
			if it.state == Ready && !it.used() && (last == nil || it.network.items() > last.network.items()) {
				last = it
			}
		}
		if last == nil {
			return // they are being made
		}
		p.retireLocked(last, causeUnwanted)
	}
}

// growLocked makes unused namespaces that are missing. Where the pool is full,
// what is kept for apps gives way.
func (p *Pool) growLocked(now time.Time, due *alarm) {
	missing := p.targetLocked() - p.freshLocked()
	if p.short.of != "" && now.Before(p.short.until) {
		if missing > 0 || p.demand.amount > 0 { // more than the minimum is wanted
			due.at(p.short.until)
		}
		return
	}
	for ; missing > 0 && p.count[Creating] < p.opts.Parallel; missing-- {
		if len(p.items) >= p.opts.Max {
			break
		}
		network, next := p.pickLocked(now)
		if network == nil {
			if !next.IsZero() {
				due.at(next)
			}
			return
		}
		p.createLocked(network)
	}
	for missing -= p.count[Retiring]; missing > 0 && len(p.items) >= p.opts.Max; missing-- {
		var oldest *item
		for it := range p.items {
			if (it.state == Quarantined || it.state == Ready && it.used()) && it.older(oldest) {
				oldest = it
			}
		}
		if oldest == nil {
			return
		}
		p.retireLocked(oldest, causeUnwanted)
	}
}
