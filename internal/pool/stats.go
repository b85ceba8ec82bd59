package pool

import (
	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/capacity"
)

// Stats is a snapshot of the pool.
type Stats struct {
	Counts
	Used, Total capacity.Amount
}

// Counts are numbers of instances and callers.
type Counts struct {
	Launching, Idle, Frozen, Busy int // instances
	Starved                       int // launches that wait for capacity
	Waiting                       int // callers in line
}

// Add adds the numbers of others.
func (c *Counts) Add(other Counts) {
	c.Launching += other.Launching
	c.Idle += other.Idle
	c.Frozen += other.Frozen
	c.Busy += other.Busy
	c.Starved += other.Starved
	c.Waiting += other.Waiting
}

// Stats returns the present numbers.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	stats := Stats{Used: p.ledger.Used(), Total: p.ledger.Total()}
	for _, g := range p.groups {
		stats.Add(g.counts())
	}
	return stats
}

// Each calls f with the numbers of each launch spec in use, with the pool's
// mutex held: f must return at once and not call the pool.
func (p *Pool) Each(f func(*Spec, Counts)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.groups {
		f(g.spec, g.counts())
	}
}

func (g *group) counts() Counts {
	c := Counts{Launching: g.launching, Waiting: g.waiters.Len(), Starved: max(0, g.wanted())}
	for inst := range g.all {
		switch inst.state {
		case Idle:
			c.Idle++
		case Frozen:
			c.Frozen++
		case Busy:
			c.Busy++
		default: // launching is counted by the group, and what ends is not in all
		}
	}
	return c
}

// HeldMemory calls f with what each instance that was launched holds of memory, in
// bytes, as far as its driver can tell. It takes a few reads of files for each, which it
// does without the pool's mutex, so that an instance may have moved on meanwhile.
func (p *Pool) HeldMemory(f func(spec *Spec, state State, bytes int64)) {
	type held struct {
		spec  *Spec
		state State
		meter driver.MemoryMeter
	}
	var all []held
	p.mu.Lock()
	for _, g := range p.groups {
		for inst := range g.all {
			if meter, ok := inst.container.(driver.MemoryMeter); ok && inst.state != Launching {
				all = append(all, held{g.spec, inst.state, meter})
			}
		}
	}
	p.mu.Unlock()
	for _, one := range all {
		if bytes, err := one.meter.HeldMemory(); err == nil { // otherwise it has ended, or nobody knows
			f(one.spec, one.state, bytes)
		}
	}
}
