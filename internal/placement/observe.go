package placement

import "time"

// Outcome is what became of a call at a placer.
type Outcome int

// The outcomes.
const (
	PlacedOK       Outcome = iota // a runner executed it
	PlacedError                   // a runner took it and it failed
	PlacedAbort                   // a runner took it, and its caller left or its time was up
	CallerLeft                    // its caller left before a runner took it
	CallerTimedOut                // its caller's deadline passed before a runner took it
	TimedOut                      // no runner took it in time, or no other could be tried
	PoolFailed                    // the pool said that there will be none
	Refused                       // the placer is closed
)

// placed reports whether a runner took the call.
func (o Outcome) placed() bool { return o == PlacedOK || o == PlacedError || o == PlacedAbort }

// Observer is told about placement, for metrics. Its methods are called from
// many goroutines and must return at once.
type Observer interface {
	PoolAsked(runners int, err error) // at the beginning of a sweep
	NotPlaced(busy bool)              // an attempt was refused for lack of room, or reached nobody

	// Over is called once for each call: what became of it, after how many
	// attempts, and how long it had been on its way, without the attempt at
	// the runner that took it.
	Over(outcome Outcome, attempts int, waited time.Duration)
}

type blind struct{}

func (blind) PoolAsked(int, error)             {}
func (blind) NotPlaced(bool)                   {}
func (blind) Over(Outcome, int, time.Duration) {}
