package prefork

import "time"

// Lease is the right to put containers into one namespace.
type Lease struct {
	pool       *Pool
	item       *item
	generation uint64
	id         string
}

// Lease hands out the namespace that has been ready for the longest: one that
// the same tenant has used, or else a new one. It is nil if there is none, or what
// there is is for others, and it never waits. Tenant "" is nobody: what it used is for nobody else.
//
// Drain is called, once at most and without locks held, if the namespace's
// holder dies while it is leased.
func (p *Pool) Lease(tenant string, drain func()) *Lease {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	it, result := p.findLocked(tenant)
	p.opts.Observer.Asked(result)
	if it == nil {
		p.demand.missed(p.opts.MaxReady)
		p.balanceLocked()
		return nil
	}
	if !it.used() {
		p.shares.took(tenant)
	}
	p.moveLocked(it, Leased)
	it.generation++
	it.drain = drain
	if it.tenant = tenant; tenant == "" {
		it.tenant = it.name // a tenant of its own
	}
	p.balanceLocked()
	return &Lease{p, it, it.generation, it.space.ID()}
}

// findLocked returns the ready namespace that a tenant is to have next.
func (p *Pool) findLocked(tenant string) (*item, Result) {
	var fresh, own *item
	ready := 0
	for it := range p.items {
		switch {
		case it.state != Ready:
		case it.used():
			if it.tenant == tenant && it.older(own) {
				own = it
			}
		default:
			if ready++; it.older(fresh) {
				fresh = it
			}
		}
	}
	switch {
	case own != nil:
		return own, Hit
	case fresh == nil:
		return nil, Miss
	case ready <= p.mostReserved() && ready <= p.reservedLocked(tenant):
		return nil, Capped
	}
	return fresh, Hit
}

// Item is what was leased.
func (l *Lease) Item() Item { return l.item.space }

// ID is what a container joins the namespace by.
func (l *Lease) ID() string { return l.id }

// Joined tells the observer that a container has joined the namespace, after it
// had lost some time with others.
func (l *Lease) Joined(wait time.Duration) { l.pool.opts.Observer.Joined(wait) }

// Release gives the namespace back, in which no container may be left. Only the
// first call counts.
func (l *Lease) Release() { l.end("") }

// Broken gives back a namespace that a container could not join. It is given to
// nobody any more.
func (l *Lease) Broken() { l.end(causeUnjoinable) }

// end ends the lease. Why is empty for a namespace that may be used again.
func (l *Lease) end(why string) {
	p, it := l.pool, l.item
	p.mu.Lock()
	defer p.mu.Unlock()
	if it.state != Leased || it.generation != l.generation {
		return // it ended before
	}
	if p.closed {
		return // Close removes it, as it is
	}
	it.drain = nil
	if why == "" && it.canProve() {
		it.network.worked() // in a busy pool nothing gets as old as provenAge
	}
	switch {
	case why != "":
		p.retireLocked(it, why)
	case it.dead:
		p.retireLocked(it, causeDied)
	case p.opts.UseOnce || it.tenant == it.name:
		p.retireLocked(it, causeUsed)
	default:
		p.moveLocked(it, Quarantined)
	}
	p.balanceLocked()
}
