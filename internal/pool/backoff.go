package pool

import "time"

// Launches that fail are not repeated at once: the engine, and the registry, are
// left in peace. The pause doubles with each failure in a row, up to a bound
// that depends on who waits.
const (
	firstBackoff  = 100 * time.Millisecond
	lonelyBackoff = time.Second      // callers wait for nothing but the next attempt
	callerBackoff = 10 * time.Second // other instances can serve the callers
	stockBackoff  = 5 * time.Minute  // nobody waits
)

// provenAge is how long an instance lives, or one call that it serves, to prove
// that launches of its function succeed. One that ends before that counts as a
// launch that failed.
const provenAge = time.Second

// backOffLocked bars launches for g for a while, after one that began at that
// time. Launches that failed together count as one.
func (p *Pool) backOffLocked(g *group, began time.Time) {
	if g.failures == 0 || !began.Before(g.notBefore) {
		g.failures++
	}
	g.failedAt = time.Now()
	longest := callerBackoff
	switch {
	case g.waiters.Len() == 0:
		longest = stockBackoff
	case g.hasNone():
		longest = lonelyBackoff
	}
	pause := longest
	if doublings := g.failures - 1; doublings < 20 { // beyond that it is above all bounds
		pause = min(firstBackoff<<doublings, longest)
	}
	g.notBefore = time.Now().Add(pause)
	if g.retry == nil {
		g.retry = time.AfterFunc(pause, func() { p.onRetry(g) })
	} else {
		g.retry.Reset(pause)
	}
	g.update()
}

// retryForCallersLocked shortens a pause that was made when nobody waited, or when
// there were other instances, to what it may be for the callers that wait now.
func (p *Pool) retryForCallersLocked(g *group) {
	if g.waiters.Len() == 0 {
		return
	}
	longest := callerBackoff
	if g.hasNone() {
		longest = lonelyBackoff
	}
	if latest := time.Now().Add(longest); latest.Before(g.notBefore) {
		g.notBefore = latest
		g.retry.Reset(longest)
	}
}

func (p *Pool) onRetry(g *group) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fillLocked()
	p.dropIfUnusedLocked(g)
}

// provenLocked notes that launches succeed.
func (g *group) provenLocked() {
	if g.failures > 0 {
		g.failures, g.notBefore = 0, time.Time{}
		g.update()
	}
}

// diedUnusedLocked counts an instance whose process ended right after it listened as
// a launch that failed: the next one would do the same.
func (p *Pool) diedUnusedLocked(inst *Instance) {
	if inst.calls == 0 && time.Since(inst.readySince) < provenAge {
		p.backOffLocked(inst.group, inst.readySince)
	}
}

// canProve reports whether an instance that works would prove that launches
// succeed again. One from before the last failure says nothing about that.
func (inst *Instance) canProve() bool {
	g := inst.group
	return g.failures > 0 && inst.readySince.After(g.failedAt)
}

// barred reports whether launches wait for the end of a pause.
func (g *group) barred(now time.Time) bool { return now.Before(g.notBefore) }
