// Package fake is a container engine in pure Go, for tests and demonstrations.
// Its containers are goroutines of this process: an HTTP handler that serves a
// real unix socket, the way function kits do, or any function that stands for
// a program. What goes wrong with a container is scripted ([Script]); what
// goes wrong with the engine is done to it (Down, Hang).
//
// With Options.NoSocket nothing but channels, mutexes and timers is waited
// for, so that the engine works in a bubble of package testing/synctest.
package fake

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/tinefn/tine/driver"
)

// Op names an operation of the engine.
type Op string

// The operations.
const (
	OpEnsureImage Op = "ensure image"
	OpCreate      Op = "create"
	OpStart       Op = "start"
	OpWait        Op = "wait"
	OpFreeze      Op = "freeze"
	OpThaw        Op = "thaw"
	OpStop        Op = "stop"
	OpRemove      Op = "remove"
)

// Defaults of [Options].
const (
	DefaultCallTimeout = 30 * time.Second
	DefaultStopGrace   = time.Second
)

// Options configures an [Engine]. The zero value is usable: all images exist
// and hold a function that echoes.
type Options struct {
	// Script says how the n-th container to be created, from 0, behaves. It is
	// called without locks held. Nil: all goes well.
	Script func(n int, spec *driver.Spec) Script

	// EnsureImage stands for the look-up and pull of an image. Nil: all images
	// are there.
	EnsureImage func(ctx context.Context, want driver.ImageRequest) (driver.Image, error)

	Handler http.Handler // the function of scripts that have none; nil: Echo

	// NoSocket makes containers without sockets: where the socket would appear
	// there is a plain file of its name, if there is a directory for it.
	NoSocket bool

	// OnReady, if set, is called when a function listens, or would listen.
	OnReady func(spec *driver.Spec)

	NoFreeze    bool          // the engine cannot freeze
	CallTimeout time.Duration // of operations that hang, default DefaultCallTimeout
	StopGrace   time.Duration // between SIGTERM and SIGKILL, default DefaultStopGrace
}

// Engine implements [driver.Driver].
type Engine struct {
	opts Options

	mu         sync.Mutex // guards the rest
	closed     bool
	down       chan struct{}         // closed while the engine is down
	hanging    []Op                  // operations that hang
	live       map[string]*Container // created and not removed, by name
	containers []*Container          // ever created
	attempts   int                   // of creation
	calls      map[Op]int
	maxLive    int
}

var _ driver.Driver = (*Engine)(nil)

// New makes an engine that is up.
func New(opts Options) *Engine {
	if opts.Handler == nil {
		opts.Handler = http.HandlerFunc(Echo)
	}
	if opts.CallTimeout <= 0 {
		opts.CallTimeout = DefaultCallTimeout
	}
	if opts.StopGrace <= 0 {
		opts.StopGrace = DefaultStopGrace
	}
	return &Engine{opts: opts, down: make(chan struct{}), live: map[string]*Container{}, calls: map[Op]int{}}
}

// Capabilities of the engine.
func (e *Engine) Capabilities() driver.Capabilities {
	return driver.Capabilities{Name: "fake", Version: "1", Freeze: !e.opts.NoFreeze, Pull: e.opts.EnsureImage != nil}
}

// Down makes all operations fail with driver.ErrUnavailable, also those in
// progress. Containers run on.
func (e *Engine) Down() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !isClosed(e.down) {
		close(e.down)
	}
}

// Up ends Down.
func (e *Engine) Up() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if isClosed(e.down) {
		e.down = make(chan struct{})
	}
}

// Hang makes new calls of these operations, and only these, block until their
// context or the call timeout ends. Without arguments nothing hangs any more.
func (e *Engine) Hang(ops ...Op) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hanging = ops
}

// Calls counts the calls of an operation, failed ones included.
func (e *Engine) Calls(op Op) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls[op]
}

// Live counts the containers that exist, ended ones included.
func (e *Engine) Live() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.live)
}

// MaxLive is the most that Live has ever been.
func (e *Engine) MaxLive() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.maxLive
}

// Containers returns all containers ever created, in that order.
func (e *Engine) Containers() []*Container {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.containers)
}

// enter begins an operation: it fails if the engine is down and blocks if the
// operation hangs.
func (e *Engine) enter(ctx context.Context, op Op, hanging []Op) error {
	e.mu.Lock()
	e.calls[op]++
	hangs := slices.Contains(e.hanging, op) || slices.Contains(hanging, op)
	down := e.down
	e.mu.Unlock()
	switch {
	case isClosed(down):
		return fmt.Errorf("%s: %w", op, driver.ErrUnavailable)
	case hangs:
		if err := e.pause(ctx, op, e.opts.CallTimeout); err != nil {
			return err
		}
		return fmt.Errorf("%s: %w: no answer in time", op, driver.ErrUnavailable)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", op, ctx.Err())
	}
	return nil
}

// pause is the time that an operation takes. It is cut short by the end of
// ctx or of the engine's being up.
func (e *Engine) pause(ctx context.Context, op Op, d time.Duration) error {
	e.mu.Lock()
	down := e.down
	e.mu.Unlock()
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-down:
		return fmt.Errorf("%s: %w", op, driver.ErrUnavailable)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", op, ctx.Err())
	}
}

// EnsureImage runs Options.EnsureImage. Concurrent calls are not shared: the
// script sees them all.
func (e *Engine) EnsureImage(ctx context.Context, want driver.ImageRequest) (driver.Image, error) {
	if err := e.enter(ctx, OpEnsureImage, nil); err != nil {
		return driver.Image{}, err
	}
	if e.isClosed() {
		return driver.Image{}, errClosed
	}
	if e.opts.EnsureImage == nil {
		return driver.Image{}, nil
	}
	return e.opts.EnsureImage(ctx, want)
}

// errClosed is for calls after Close.
var errClosed = fmt.Errorf("%w: the driver is closed", driver.ErrUnavailable)

func (e *Engine) isClosed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// Create makes a container as its script says.
func (e *Engine) Create(ctx context.Context, spec *driver.Spec) (driver.Container, error) {
	e.mu.Lock()
	n := e.attempts
	e.attempts++
	e.mu.Unlock()
	var script Script
	if e.opts.Script != nil {
		script = e.opts.Script(n, spec)
	}
	if err := e.enter(ctx, OpCreate, script.Hang); err != nil {
		return nil, err
	}
	if err := e.pause(ctx, OpCreate, script.CreateDelay); err != nil {
		return nil, err
	}
	if script.CreateErr != nil {
		return nil, script.CreateErr
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errClosed
	}
	if e.live[spec.ID] != nil {
		return nil, fmt.Errorf("create container: the name %s is taken", spec.ID)
	}
	c := newContainer(e, n, spec, script)
	e.live[spec.ID] = c
	e.containers = append(e.containers, c)
	e.maxLive = max(e.maxLive, len(e.live))
	return c, nil
}

// Close kills and removes all containers, whatever their scripts say and also
// if the engine is down. No goroutine of the engine is left.
func (e *Engine) Close(context.Context) error {
	e.mu.Lock()
	e.closed = true
	left := make([]*Container, 0, len(e.live))
	for _, c := range e.live {
		left = append(left, c)
	}
	e.mu.Unlock()
	for _, c := range left {
		c.destroy()
	}
	return nil
}

func (e *Engine) forget(c *Container) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.live[c.spec.ID] == c {
		delete(e.live, c.spec.ID)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
