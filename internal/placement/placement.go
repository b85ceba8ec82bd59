// Package placement chooses the machine that executes a call. The [Placer] is
// the [invoke.Invoker] of a load balancer: it asks a [Pool] which runners there
// are, a [Policy] in which order they are to be tried, and tries them until one
// takes the call. A call is tried again elsewhere only on proof that its function
// did not see it, which is [invoke.ErrNotPlaced] and nothing else.
//
// The package knows no wire: a runner is an invoker with an address.
//
// Read placer.go first, then attempt.go (one attempt, and what it says of a
// runner), body.go (bodies that can be sent again), member.go (what is known of
// a runner) and choices.go (the default policy). discovery.go makes a pool of
// addresses, DNS names and a file.
package placement

import (
	"context"
	"iter"

	"github.com/tinefn/tine/invoke"
)

// What a placer needs is public, for programs with runners or pools of their own.
type (
	Runner = invoke.Runner
	Pool   = invoke.RunnerPool
)

// Prober is a [Runner] that can be asked how it is. A placer asks such runners
// now and then, which finds those that hang, and recovers those that failed
// without a call that tries.
type Prober interface {
	Probe(ctx context.Context) (Report, error)
}

// Report is what a runner says of itself.
type Report struct {
	Active int // calls that it executes, for all load balancers together
}

// Policy says in which order runners are to be tried for a call. The sequence
// must have each of them once; usually only the first is asked for. A policy
// must be safe for concurrent use and must not keep the slice.
type Policy interface {
	Order(call *invoke.Call, among []*Member) iter.Seq[*Member]
}

// Tracker is a [Policy] that wants to know where calls are. Began is called
// before an attempt, and Ended once after it: refused if the call was not
// placed, otherwise when its answer was read or abandoned. Answered is called
// between the two when a runner has answered. Lost says that a runner cannot be
// reached, so that what ran there may be gone.
type Tracker interface {
	Began(call *invoke.Call, m *Member)
	Answered(call *invoke.Call, m *Member)
	Ended(call *invoke.Call, m *Member, refused bool)
	Lost(m *Member)
}
