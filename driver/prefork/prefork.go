// Package prefork keeps ready what containers start in, so that a start does not
// wait for it to be made: network namespaces for an engine's containers, each held
// by a placeholder, or whole sandboxes.
//
// The pool knows nothing of what it keeps: a [Maker] makes items, and the pool
// decides how many there are and who gets which.
//
//	creating ─► probing ─► ready ─► leased ─► quarantined ─► probing
//	    │          │         │        │            │
//	    └──────────┴─────────┴────────┴────────────┴──► retiring ─► (gone)
//
// An item that an app's container has used is for that app alone from then on,
// after a quarantine, or is used once.
//
// Read pool.go for the pool, lease.go for what a container does with it, refill.go
// for how it is kept full, share.go for who gets what is short, and shortage.go for
// what happens when the machine is.
package prefork

import (
	"context"
	"log/slog"
	"time"
)

// Maker makes network namespaces. It must be safe for concurrent use, and every
// method must return by its own deadline.
type Maker interface {
	// Make makes a namespace in a network, "" being the engine's default. The name
	// is unique. If it returns an error, nothing is left behind, as far as the
	// engine answers.
	Make(ctx context.Context, name, network string) (Item, error)
}

// Item is a network namespace with what holds it, or a sandbox.
type Item interface {
	// ID is what a container joins it by.
	ID() string

	// Probe finds out whether a container that joined it would have a network. An
	// error that wraps driver.ErrUnavailable leaves the question open.
	Probe(ctx context.Context) error

	// Remove removes it and what holds it. It may be repeated after an error.
	Remove(ctx context.Context) error
}

// Options configures a [Pool]. Zero values get the defaults, except Max.
type Options struct {
	Maker    Maker
	Networks []string // names of networks to make namespaces in; empty: the engine's default

	// Quiet waits for a moment at which it costs nobody anything to make or remove a
	// namespace, but not for ever. Nil: it always is.
	Quiet func(ctx context.Context)

	// Short reports whether the machine is short of processor time, or of memory, so
	// that nothing should be made beforehand. It may take the time that it takes to
	// read some files of the kernel. Nil: it never is.
	Short func() (processors, memory bool)

	Min      int // namespaces that are ready while nobody asks for any
	Max      int // of all that exist at a time, leased ones included; at least 1
	MaxReady int // of those that were not used and are ready; 0: Max

	// AppShare is the percentage of what is ready that a tenant gets at most which has
	// more than a fair share, see share.go; 0: DefaultAppShare, 100: all of it.
	AppShare int

	UseOnce    bool          // no namespace is used again, not even by the same app
	Quarantine time.Duration // between two uses by the same app; negative: none
	KeepUsed   time.Duration // how long a used one is kept for its app; negative: not at all
	ProbeEvery time.Duration // of those that are ready
	Parallel   int           // namespaces that are made at one time

	Logger   *slog.Logger // nil: no logs
	Observer Observer     // nil: none
}

// Defaults of [Options].
const (
	DefaultMin = 5

	// DefaultQuarantine is as long as the kernel keeps the addresses of closed
	// connections: TCP_TIMEWAIT_LEN, one minute.
	DefaultQuarantine = time.Minute

	DefaultKeepUsed   = 5 * time.Minute
	DefaultProbeEvery = 30 * time.Second
	DefaultParallel   = 2
	DefaultAppShare   = 75
)

// Observer is told what happens. Its methods must return at once.
type Observer interface {
	// Asked: a container asked for a namespace. One whose namespace is gone asks
	// again.
	Asked(result Result)
	// Joined: a container joined the one that it got. Wait is how long it had taken
	// to find out that others could not be joined, usually nothing.
	Joined(wait time.Duration)
	// Made: an attempt to make a namespace in a network, the probe included, is over.
	Made(network string, took time.Duration, err error)
	// Ended: a namespace is gone. Took is how long its removal took.
	Ended(network, cause string, took time.Duration)
	// Paused: nothing is made for now, as the machine is short of something.
	Paused(shortOf string)
}

// Result is what a container got that asked for a namespace.
type Result string

// The results. The texts are labels of metrics.
const (
	Hit    Result = "hit"
	Miss   Result = "miss"   // none was ready
	Capped Result = "capped" // what is ready is for others
)

// noObserver is the observer of pools that have none.
type noObserver struct{}

func (noObserver) Asked(Result)                        {}
func (noObserver) Joined(time.Duration)                {}
func (noObserver) Made(string, time.Duration, error)   {}
func (noObserver) Ended(string, string, time.Duration) {}
func (noObserver) Paused(string)                       {}

func (o Options) withDefaults() Options {
	if len(o.Networks) == 0 {
		o.Networks = []string{""}
	}
	o.Max = max(o.Max, 1)
	if o.MaxReady <= 0 {
		o.MaxReady = o.Max
	}
	o.MaxReady = min(o.MaxReady, o.Max)
	o.Min = min(max(o.Min, 0), o.MaxReady)
	if o.AppShare <= 0 {
		o.AppShare = DefaultAppShare
	}
	if o.Short == nil {
		o.Short = func() (processors, memory bool) { return false, false }
	}
	for _, setting := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&o.Quarantine, DefaultQuarantine},
		{&o.KeepUsed, DefaultKeepUsed},
		{&o.ProbeEvery, DefaultProbeEvery},
	} {
		if *setting.value == 0 {
			*setting.value = setting.fallback
		}
		*setting.value = max(*setting.value, 0)
	}
	if o.Parallel <= 0 {
		o.Parallel = DefaultParallel
	}
	if o.Quiet == nil {
		o.Quiet = func(context.Context) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observer == nil {
		o.Observer = noObserver{}
	}
	return o
}
