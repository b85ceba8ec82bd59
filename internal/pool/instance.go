package pool

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/sockdir"
)

// State is where an instance is in its life:
//
//	launching ──► busy ◄──► idle ◄─► frozen
//	   │  │        ▲ │       ▲ │       │
//	   │  └────────┼─┼───────┘ │       │
//	   │           └─┼─────────┼───────┤
//	   └─────────────┴────►────┴──►────┴──► ending ──► (removed)
type State int

// The states.
const (
	Launching State = iota
	Idle
	Frozen
	Busy
	Ending
)

// StateCount is how many states there are.
const StateCount = int(Ending) + 1

func (s State) String() string {
	return [...]string{"launching", "idle", "frozen", "busy", "ending"}[s]
}

// legal lists the states that may follow each state.
var legal = [...][]State{
	Launching: {Busy, Idle, Ending},
	Idle:      {Frozen, Busy, Ending},
	Frozen:    {Idle, Busy, Ending}, // to idle: it could not be frozen for now
	Busy:      {Idle, Busy, Ending}, // busy to busy: handed from one caller to the next
	Ending:    {},
}

// resting reports whether nobody holds an instance in this state.
func (s State) resting() bool { return s == Idle || s == Frozen }

// Instance is one container of a function.
type Instance struct {
	ID     string // also the container's name
	Socket *sockdir.Socket

	// Session is what Options.NewSession made, for the holder of the lease.
	Session io.Closer

	// Output is what Spec.Output made, nil if there is none.
	Output Output

	group      *group
	container  driver.Container
	image      driver.Image      // that it is launched from
	extensions map[string]string // likewise
	dir        SocketDir
	log        *slog.Logger
	launch     Launch
	exited     chan struct{} // closed when the process ended; exit is set before
	exit       *driver.Exit  // nil: nobody knows
	removed    chan struct{} // closed when nothing is left

	freezing chan struct{} // one slot, taken while the container is being frozen or thawed; before the pool's mutex
	frozen   bool          // guarded by freezing: thawing is due before it can be used

	// Guarded by the pool's mutex.
	state      State
	stateSince time.Time
	why        string // it ends, or has ended
	lost       bool   // its connection broke
	overdue    bool   // the engine failed to remove it, or takes long
	drained    bool   // it is to serve no further call
	byItself   bool   // its process ended before anybody asked it to
	calls      int    // leases so far, without those that were given back unused
	readySince time.Time
	takenSince time.Time
	restSince  time.Time
	timer      *time.Timer // of the next thing to happen while it rests

	freezePause time.Duration // before the next attempt to freeze it; 0: the last one succeeded
}

// worn reports whether the instance has served as many calls, or lived as long,
// as its function allows.
func (inst *Instance) worn() bool {
	limit := inst.group.spec.Scale.MaxCalls
	return limit > 0 && inst.calls >= limit || inst.tooOld()
}

func (inst *Instance) tooOld() bool {
	limit := inst.group.spec.Scale.MaxAge
	return limit > 0 && time.Since(inst.readySince) >= limit
}

// dead reports whether the process has ended.
func (inst *Instance) dead() bool {
	select {
	case <-inst.exited:
		return true
	default:
		return false
	}
}

// setState moves to another state. An illegal move is an error in this package.
func (inst *Instance) setState(next State) {
	if !slices.Contains(legal[inst.state], next) {
		panic(fmt.Sprintf("pool: instance %s cannot go from %v to %v", inst.ID, inst.state, next))
	}
	now := time.Now()
	inst.group.watcher.Moved(inst.state, next, now.Sub(inst.stateSince))
	inst.state, inst.stateSince = next, now
}
