package prefork

import (
	"fmt"
	"slices"
	"time"
)

// State is where a namespace is in its life; see the package comment.
type State int

// The states.
const (
	Creating State = iota
	Probing
	Ready
	Leased
	Quarantined
	Retiring
	gone
)

// StateCount is how many states a namespace that exists can be in.
const StateCount = int(gone)

func (s State) String() string {
	return [...]string{"creating", "probing", "ready", "leased", "quarantined", "retiring", "gone"}[s]
}

// legal lists the states that may follow each state.
var legal = [...][]State{
	Creating:    {Probing, gone}, // gone: it could not be made
	Probing:     {Ready, Retiring},
	Ready:       {Leased, Retiring},
	Leased:      {Quarantined, Retiring},
	Quarantined: {Probing, Retiring},
	Retiring:    {gone},
	gone:        {},
}

// item is one namespace. Its fields are guarded by the pool's mutex, but for
// those that never change. Whoever moves it into a state other than Ready and
// Quarantined is the one to move it out of there.
type item struct {
	name    string
	network *network

	state   State
	since   time.Time // when it got into the state
	space   Item      // nil while Creating
	made    time.Time // when that began
	dead    bool      // what holds it has died
	probed  time.Time
	probing bool // while it is Ready or Leased

	tenant     string // whose it was, "" if nobody's yet
	generation uint64 // counts leases, so that a late Release does not end the next one
	drain      func() // of the lessee
}

// moveLocked moves an item to another state. An illegal move is an error in
// this package.
func (p *Pool) moveLocked(it *item, next State) {
	if !slices.Contains(legal[it.state], next) {
		panic(fmt.Sprintf("prefork: namespace %s cannot go from %v to %v", it.name, it.state, next))
	}
	it.network.count[it.state]--
	p.count[it.state]--
	it.state, it.since = next, time.Now()
	if next == gone {
		delete(p.items, it)
		return
	}
	it.network.count[next]++
	p.count[next]++
}

// used reports whether the namespace is for one app alone.
func (it *item) used() bool { return it.tenant != "" }

// canProve reports whether the network has failed, and the item was made after that:
// it works again if the item does. One that died young cannot, as its end is a failure
// that came after it was made.
func (it *item) canProve() bool {
	return it.network.failures > 0 && !it.made.Before(it.network.failed)
}

// older reports whether an item has been in its state for longer than another.
func (it *item) older(other *item) bool { return other == nil || it.since.Before(other.since) }
