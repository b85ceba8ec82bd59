package pool

import "time"

// Observer is told what happens in a pool, for metrics. Its methods are called
// from many goroutines, some with the pool's mutex held: they must return at
// once and not call the pool.
type Observer interface {
	// Moved: an instance went from one state to another after that time.
	Moved(spec *Spec, from, to State, after time.Duration)
	// Launched: a launch ended, well or with an error.
	Launched(spec *Spec, launch Launch, err error)
	// Evicted: a resting instance is removed for another function.
	Evicted(spec *Spec, state State)
	// Waited: a caller got an instance, or an error, after standing in line.
	Waited(spec *Spec, wait time.Duration, err error)
	// Froze and Thawed: the engine was asked to.
	Froze(took time.Duration, err error)
	Thawed(took time.Duration, err error)
}

// Launch says where the time of a launch went. What was not reached is zero.
type Launch struct {
	Image  time.Duration // look-up or pull, for the first instance after it
	Create time.Duration // of the container, from the socket directory on
	Start  time.Duration // of its process
	Init   time.Duration // from there until the function listened
}

// Total is the sum of the parts.
func (l Launch) Total() time.Duration { return l.Image + l.Create + l.Start + l.Init }

// blind is the observer of pools that have none.
type blind struct{}

func (blind) Moved(*Spec, State, State, time.Duration) {}
func (blind) Launched(*Spec, Launch, error)            {}
func (blind) Evicted(*Spec, State)                     {}
func (blind) Waited(*Spec, time.Duration, error)       {}
func (blind) Froze(time.Duration, error)               {}
func (blind) Thawed(time.Duration, error)              {}
