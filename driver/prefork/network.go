package prefork

import (
	"math/rand/v2"
	"time"
)

// A network in which namespaces cannot be made, or do not work, is left alone
// for a pause that doubles, so that the others keep the pool full. After it, one
// attempt at a time finds out whether it works again: what was made has to be used,
// or to get as old as provenAge.
const (
	firstNetworkPause = 500 * time.Millisecond
	lastNetworkPause  = time.Minute
)

// network is one of the networks that namespaces are made in.
type network struct {
	name      string
	count     [gone]int // items by state
	failures  int       // in a row
	failed    time.Time // when the last of them was
	notBefore time.Time // no further attempt before
}

// items is how many namespaces there are in the network.
func (n *network) items() int {
	sum := 0
	for _, count := range n.count {
		sum += count
	}
	return sum
}

// worked ends the pauses.
func (n *network) worked() { n.failures = 0 }

// fail begins a pause after an attempt that began at some time, and returns how long
// it is until the next one. Up to a quarter is taken off by chance, so that servers
// do not try all at once. Attempts that began before the last failure was known say
// no more than that one did, as when many items die at one moment.
func (n *network) fail(began time.Time) time.Duration {
	if began.Before(n.failed) {
		return max(0, time.Until(n.notBefore))
	}
	pause := lastNetworkPause
	if n.failures < 10 { // more doublings are longer anyway
		pause = min(firstNetworkPause<<n.failures, lastNetworkPause)
	}
	pause -= rand.N(pause / 4)
	n.failures++
	n.failed = time.Now()
	n.notBefore = n.failed.Add(pause)
	return pause
}

// open reports whether an attempt may be made, and if not when it may be, if
// that is a matter of time.
func (n *network) open(now time.Time) (ok bool, at time.Time) {
	switch {
	case now.Before(n.notBefore):
		return false, n.notBefore
	case n.failures > 0 && n.count[Creating] > 0:
		return false, time.Time{}
	}
	return true, time.Time{}
}

// pickLocked chooses the network with the fewest namespaces of those that may
// be tried. If there is none, it tells when there may be one.
func (p *Pool) pickLocked(now time.Time) (best *network, next time.Time) {
	for _, n := range p.networks {
		ok, at := n.open(now)
		if ok && (best == nil || n.items() < best.items()) {
			best = n
		}
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return best, next
}
