// Package capacity keeps account of what containers may use of a machine
// (ledger.go), finds out how much the machine has (host.go, cgroup.go), and whether
// it is short of it (pressure.go).
package capacity

import "fmt"

// Amount is a quantity of what containers use. In a need, zero means that the
// resource is not counted for it.
type Amount struct {
	MemoryBytes int64
	MilliCPU    int64 // 1000 is one processor
}

// Ledger is the account: a total, and what of it is reserved. It has no lock:
// whoever decides by it needs a lock around the whole decision, and that one
// guards the ledger too.
type Ledger struct {
	total, used Amount // 0 <= used <= total, so no sum of them overflows
}

// NewLedger returns an account with nothing reserved.
func NewLedger(total Amount) *Ledger {
	mustNotBeNegative(total)
	return &Ledger{total: total}
}

// Total is what there is.
func (l *Ledger) Total() Amount { return l.total }

// Used is what is reserved.
func (l *Ledger) Used() Amount { return l.used }

// Fits reports whether need could be reserved if nothing else was.
func (l *Ledger) Fits(need Amount) bool {
	mustNotBeNegative(need)
	return need.MemoryBytes <= l.total.MemoryBytes && need.MilliCPU <= l.total.MilliCPU
}

// Missing is what would have to be released before need can be reserved.
func (l *Ledger) Missing(need Amount) Amount {
	mustNotBeNegative(need)
	return Amount{
		MemoryBytes: max(0, need.MemoryBytes-(l.total.MemoryBytes-l.used.MemoryBytes)),
		MilliCPU:    max(0, need.MilliCPU-(l.total.MilliCPU-l.used.MilliCPU)),
	}
}

// TryReserve reserves need if it is free, and reports whether it was.
func (l *Ledger) TryReserve(need Amount) bool {
	if l.Missing(need) != (Amount{}) {
		return false
	}
	l.used.MemoryBytes += need.MemoryBytes
	l.used.MilliCPU += need.MilliCPU
	return true
}

// Release gives back what was reserved. To give back more is an error in the
// calling program and panics.
func (l *Ledger) Release(need Amount) {
	mustNotBeNegative(need)
	if need.MemoryBytes > l.used.MemoryBytes || need.MilliCPU > l.used.MilliCPU {
		panic(fmt.Sprintf("capacity: releasing %+v of %+v", need, l.used))
	}
	l.used.MemoryBytes -= need.MemoryBytes
	l.used.MilliCPU -= need.MilliCPU
}

// mustNotBeNegative panics, because a negative amount would turn a reservation
// into a release and can only come from an error in the calling program.
func mustNotBeNegative(a Amount) {
	if a.MemoryBytes < 0 || a.MilliCPU < 0 {
		panic(fmt.Sprintf("capacity: negative amount %+v", a))
	}
}
