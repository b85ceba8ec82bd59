package pool

import (
	"time"

	"github.com/tinefn/tine/driver"
)

// Observer is told what happens in a pool, for metrics.
type Observer interface {
	// Watch is called for each launch spec that comes into use.
	Watch(spec *Spec) Watcher
}

// Watcher is told what happens to the callers and instances of one launch spec.
// Its methods are called from many goroutines, some with the pool's mutex held:
// they must return at once and not call the pool.
type Watcher interface {
	// Moved: an instance went from one state to another after that time.
	Moved(from, to State, after time.Duration)
	// Starved: a launch found capacity after its caller waited so long.
	Starved(wait time.Duration)
	// Launched: a launch ended, well or with an error.
	Launched(launch Launch, err error)
	// Evicted: an instance in this state is ended for another function.
	Evicted(state State)
	// Exited: a container's process ended, whoever wanted that.
	Exited(exit driver.Exit)
	// Waited: a caller got an instance, or an error, after standing in line.
	Waited(wait time.Duration, err error)
	// Froze and Thawed: the engine was asked to.
	Froze(took time.Duration, err error)
	Thawed(took time.Duration, err error)
	// Close: the spec is not in use any more. Waited may still be called.
	Close()
}

// Launch says where the time of a launch went. What was not reached is zero.
type Launch struct {
	Image  time.Duration // look-up or pull, for the first instance after it
	Create time.Duration // of the container, from the socket directory on
	Start  time.Duration // of its process
	Init   time.Duration // from there until the function listened
}

// blind is the observer of pools that have none.
type blind struct{}

func (blind) Watch(*Spec) Watcher               { return blind{} }
func (blind) Moved(State, State, time.Duration) {}
func (blind) Starved(time.Duration)             {}
func (blind) Launched(Launch, error)            {}
func (blind) Evicted(State)                     {}
func (blind) Exited(driver.Exit)                {}
func (blind) Waited(time.Duration, error)       {}
func (blind) Froze(time.Duration, error)        {}
func (blind) Thawed(time.Duration, error)       {}
func (blind) Close()                            {}
