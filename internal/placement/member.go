package placement

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Member is what a placer knows of a runner. It is safe for concurrent use.
type Member struct {
	runner   Runner
	hash     uint64       // of the address
	inFlight atomic.Int64 // calls of this placer
	others   atomic.Int64 // calls of other load balancers, when the runner was last asked
	asked    atomic.Bool  // it is asked how it is, now and then
	probing  atomic.Bool  // it is being asked
	lastSeen time.Time    // in a pool; guarded by the placer's mu

	mu     sync.Mutex // guards health
	health health
}

// NewMember returns what is known of a runner that nobody has used.
func NewMember(r Runner) *Member { return &Member{runner: r, hash: hash(r.Address())} }

// Address is the runner's.
func (m *Member) Address() string { return m.runner.Address() }

// InFlight is how many calls this placer has at the runner.
func (m *Member) InFlight() int { return int(m.inFlight.Load()) }

// Load is how many calls the runner has, as far as is known: those of this
// placer now, and those of others when the runner was last asked.
func (m *Member) Load() int { return int(m.inFlight.Load() + m.others.Load()) }

// health says how willingly a runner is tried.
//
//	ready ── no room ──► busy ── its pause is over, or a call there ended ──► ready
//	  │ ▲
//	  │ └─ an answer of any kind ──────────────────────────────┐
//	  └─ unreachable, or losses in a row ────► failing ── its pause is over ──► one call tries
//	                                             ▲                               │
//	                                             └──────── it failed again ──────┘
type health struct {
	refusals  int // in a row, for lack of room
	busyUntil time.Time

	failures int  // in a row, since it began to fail
	failing  bool // it is left alone until retryAt
	losses   losses
	lost     bool      // it is failing for its losses
	failedAt time.Time // latest; what began before says nothing new, also when it has recovered
	retryAt  time.Time
	tryUntil time.Time // a call that tries it has so long to find out
}

// Pauses for a runner without room, and for one that fails. Each doubles with
// the next refusal or failure in a row, up to a bound: MaxBackoff of the options
// for one that fails. A runner that drains has no room until it is gone.
const (
	firstBusyPause = 10 * time.Millisecond
	maxBusyPause   = time.Second
	firstBackoff   = 100 * time.Millisecond
)

// lossesToFail is how many calls in a row a runner has to lose that it had taken
// before it counts as failing, not all of one function: a single one may be the call's
// own fault, and all of one function that function's.
const lossesToFail = 3

// tryPatience is how long the call that tries a failing runner keeps others
// from trying it. It may be a long one.
const tryPatience = time.Second

// standing is how a runner stands for one call.
type standing int

const (
	due standing = iota // failing, and the asking call is to find out whether it still is
	ready
	busy    // had no room just now: after those that are ready
	failing // only if there is no other
)

// standing returns how the runner stands. If it is failing and its pause is over,
// the asking call tries it, if it may: it is the only one for a while. Runners that
// say themselves how they are need no such call.
func (m *Member) standing(now time.Time, mayTry bool) standing {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := &m.health
	switch {
	case h.failing && (!mayTry || now.Before(h.retryAt) || now.Before(h.tryUntil) || m.asked.Load() && !h.lost):
		return failing
	case h.failing:
		h.tryUntil = now.Add(tryPatience)
		return due
	case now.Before(h.busyUntil):
		return busy
	}
	return ready
}

// recovers reports whether what began at a time and went well is news of a runner
// that has failed: what was under way before says nothing of how it is now.
func (h *health) recovers(began time.Time) bool { return !h.failing || !began.Before(h.failedAt) }

// recover replaces it by that of a runner that works. It reports whether the runner was
// failing.
func (h *health) recover(by health) (recovered bool) {
	recovered, by.failedAt = h.failing, h.failedAt
	*h = by
	return recovered
}

// answered notes that the runner has executed a call that began at that time. It
// reports whether it was failing.
func (m *Member) answered(began time.Time) (recovered bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.health.recovers(began) {
		return false
	}
	return m.health.recover(health{})
}

// full notes that the runner, which is well, had no room for a call that began at
// that time. It reports whether the runner was failing.
func (m *Member) full(began, now time.Time) (recovered bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.health.recovers(began) {
		return false
	}
	recovered = m.health.recover(health{refusals: m.health.refusals, busyUntil: m.health.busyUntil})
	if h := &m.health; !now.Before(h.busyUntil) { // those that came together count as one
		h.refusals++
		h.busyUntil = now.Add(doubled(firstBusyPause, h.refusals, maxBusyPause))
	}
	return recovered
}

// well notes that the runner can be reached, whatever room it has, by what began at
// that time. It reports whether it was failing. One that loses what it takes may say
// that it is well.
func (m *Member) well(began time.Time) (recovered bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.health.lost || !m.health.recovers(began) {
		return false
	}
	return m.health.recover(health{refusals: m.health.refusals, busyUntil: m.health.busyUntil, losses: m.health.losses})
}

// hasRoom notes that a call at the runner ended.
func (m *Member) hasRoom() {
	m.mu.Lock()
	m.health.busyUntil = time.Time{}
	m.mu.Unlock()
}

// failed notes that the runner could not be reached by what began at that time. It
// reports whether the runner is failing now and was not.
func (m *Member) failed(began, now time.Time, maxBackoff time.Duration) (begins bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := &m.health
	if h.isKnown(began, now) {
		return false
	}
	h.lost = false
	return h.fail(now, maxBackoff)
}

// lost notes that the runner took a call of a function at that time and lost it. It
// reports whether the runner is failing now and was not.
func (m *Member) lost(fnID string, began, now time.Time, maxBackoff time.Duration) (begins bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := &m.health
	if h.isKnown(began, now) {
		return false
	}
	suspect := h.losses.add(fnID)
	if !suspect && !h.failing {
		return false
	}
	h.lost = h.lost || suspect
	return h.fail(now, maxBackoff)
}

// isKnown reports whether a failure of what began at a time is of those that have
// counted: what fails together counts as one, whenever that is noticed.
func (h *health) isKnown(began, now time.Time) bool {
	return began.Before(h.failedAt) || h.failing && now.Before(h.retryAt)
}

// fail has the runner left alone for a while. It reports whether it was not yet.
func (h *health) fail(now time.Time, maxBackoff time.Duration) (begins bool) {
	begins = !h.failing
	h.failing, h.failedAt, h.tryUntil = true, now, time.Time{}
	h.failures++
	h.retryAt = now.Add(jittered(doubled(firstBackoff, h.failures, maxBackoff)))
	return begins
}

// losses are calls in a row that a runner took and lost.
type losses struct {
	count   int
	fnID    string // of the latest
	several bool   // they are of more than one function
}

// add notes another. It reports whether they are the runner's fault, probably.
func (l *losses) add(fnID string) bool {
	l.several = l.several || l.count > 0 && fnID != l.fnID
	l.fnID = fnID
	l.count++
	return l.several && l.count >= lossesToFail
}

// doubled returns first for the first time, then twice as much each time.
func doubled(first time.Duration, time int, most time.Duration) time.Duration {
	if time > 20 { // beyond all bounds
		return most
	}
	return min(first<<max(time-1, 0), most)
}

// jittered returns between three quarters of a time and all of it, so that those
// who wait do not come back together.
func jittered(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(d)/4+1)) //nolint:gosec // not a secret
}
