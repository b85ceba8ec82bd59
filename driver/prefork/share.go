package prefork

import (
	"math"
	"time"
)

// One app must not take all that is ready, so that others find nothing. Some of it
// is reserved: tenants that have a fair share or more, of what was taken of late and
// of what is in use, do not get the last of what is ready. The fair share counts one
// tenant more than there are, the one that may come: it is half for one that is
// alone, a third where there are two.
//
// How much is reserved depends on who else is there. If nobody is, or was of late, it
// is aloneReserve, so that one app alone has nearly all of the pool; otherwise it is a
// part of all that should be ready.

// aloneReserve is what is kept for others where there are none, but no larger part of
// the minimum than Options.AppShare leaves: an app that comes begins with a function
// or two.
const aloneReserve = 2

// shareHalfLife is the time in which half of what tenants took is forgotten.
const shareHalfLife = 5 * time.Minute

// shares remembers how many unused items tenants took.
type shares struct {
	taken   map[string]*fading
	pruneAt int // entries at which those are dropped that are forgotten
}

// minPrune is the number of tenants below which none is dropped for its memory.
const minPrune = 64

// took takes note of an unused item that a tenant got.
func (s *shares) took(tenant string) {
	if s.taken == nil {
		s.taken = map[string]*fading{}
	}
	if len(s.taken) >= max(s.pruneAt, minPrune) {
		s.prune()
		s.pruneAt = 2 * len(s.taken)
	}
	own := s.taken[tenant]
	if own == nil {
		own = &fading{}
		s.taken[tenant] = own
	}
	own.add(1, shareHalfLife)
}

// prune drops tenants whose takings are forgotten.
func (s *shares) prune() {
	for tenant, taken := range s.taken {
		if taken.now(shareHalfLife) == 0 {
			delete(s.taken, tenant)
		}
	}
}

// mostReserved is what reservedLocked is at most, without the work.
func (p *Pool) mostReserved() int { return p.leaves(p.opts.MaxReady) }

// reservedLocked is how many of the unused ready items are not for a tenant.
func (p *Pool) reservedLocked(tenant string) int {
	p.shares.prune()
	use := map[string]float64{} // what tenants took of late, and what they hold
	for name, taken := range p.shares.taken {
		use[name] = taken.now(shareHalfLife)
	}
	for it := range p.items {
		if it.state == Leased {
			use[it.tenant]++
		}
	}
	own, total := use[tenant], 0.0
	for _, amount := range use {
		total += amount
	}
	if fair := total / float64(len(use)+1); own == 0 || own < fair {
		return 0
	}
	if own < total { // there are others
		return p.leaves(p.targetLocked())
	}
	return min(p.leaves(p.opts.Min), aloneReserve)
}

// leaves is the part of something that is not for one app.
func (p *Pool) leaves(of int) int { return of * max(100-p.opts.AppShare, 0) / 100 }

// fading is an amount of which half is forgotten in a half-life.
type fading struct {
	amount float64
	at     time.Time // when it was that much
}

// negligible is what counts as nothing: what is forgotten has an end, and an idle pool
// does not wake up for it.
const negligible = 0.5

// now is what is left of it.
func (f *fading) now(halfLife time.Duration) float64 {
	now := time.Now()
	f.amount *= math.Exp2(-float64(now.Sub(f.at)) / float64(halfLife))
	if f.at = now; f.amount < negligible {
		f.amount = 0
	}
	return f.amount
}

func (f *fading) add(more float64, halfLife time.Duration) { f.amount = f.now(halfLife) + more }
