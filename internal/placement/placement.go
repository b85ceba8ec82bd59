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

// Runner is one machine that executes calls. Runners are told apart by their
// identity, so an implementation is a pointer.
//
// Invoke must not change the call's Header and Extensions: after an error that
// wraps [invoke.ErrNotPlaced] another runner gets them. If that error also wraps
// [model.ErrServerBusy], or has its status, the runner is well but has no room. Invoke should
// not take long to find out that a runner cannot be reached.
type Runner interface {
	invoke.Invoker

	// Address is where the runner is, for logs and for hashing.
	Address() string

	// Close lets the calls in progress finish, until the context ends. Calls that
	// come after it get an error that wraps [invoke.ErrNotPlaced].
	Close(ctx context.Context) error
}

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

// Pool tells which runners there are now. It is asked at the beginning of each
// sweep, so it answers from memory. It must be safe for concurrent use.
//
// An error that is the function's fault and has the status 502 ends the call at
// once if there are no runners; others end it when its time is up.
type Pool interface {
	Runners(ctx context.Context, call *invoke.Call) ([]Runner, error)

	// Close closes the runners, which lets their calls finish.
	Close(ctx context.Context) error
}

// Lister is a [Pool] whose runners are the same for all calls. A placer asks them
// how they are before there is a call.
type Lister interface {
	All() []Runner // nil once it is closed
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
