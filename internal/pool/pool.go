// Package pool keeps warm function instances, as database/sql keeps
// connections. A caller acquires an instance, uses it alone, and gives it
// back; the pool decides when to launch one, when to end one, and who waits.
//
// There is no polling and no broadcast. Whoever frees an instance hands it to
// the oldest waiter of its function; whoever frees memory starts the launch
// that has waited for it. One mutex guards all of this, and no engine is ever
// called while it is held.
//
// Read this file first: Acquire, and what happens when an instance comes
// back. Then group.go (one function's instances and waiters), capacity.go (who
// gets memory, who is evicted), launch.go (from a Spec to an answering
// container), instance.go (one container's life).
package pool

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/internal/sockdir"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// Options configures a [Pool]. Zero durations and counts get the defaults.
type Options struct {
	Driver  driver.Driver
	Sockets Sockets
	Total   capacity.Amount // what all instances together may reserve
	Logger  *slog.Logger

	// NewSession, if set, makes what the holders of an instance keep with it, a
	// connection, when the instance is ready. It is closed when the instance
	// ends, possibly while it is being used.
	NewSession func(*sockdir.Socket) io.Closer

	StartTimeout time.Duration // from container start to socket; 0: none
	QueueTimeout time.Duration // longest wait for an instance; 0: none
	QueueSize    int           // waiting calls per function
	FailFast     bool          // refuse at once what cannot be launched now
	// YieldAfter is how long a function without any instance waits until a
	// busier one must give one up, and how long an instance serves at least
	// before it is given up, so that it was worth its launch.
	YieldAfter time.Duration
}

// Defaults of the options.
const (
	DefaultQueueSize  = 1024
	DefaultYieldAfter = time.Second
)

// Pool hands out instances. It is safe for concurrent use.
type Pool struct {
	opts Options
	log  *slog.Logger

	ctx    context.Context // of everything the pool does on its own
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // launches, monitors and removals

	mu        sync.Mutex // guards the rest, all groups and all instances' states
	groups    map[string]*group
	hungry    map[*group]struct{} // groups with waiters
	ledger    *capacity.Ledger
	returning capacity.Amount // reserved by instances that are being removed
	busy      int             // instances that callers hold
	drained   chan struct{}   // closed when the pool is closed and busy is 0
	closed    bool
}

// errClosed is the cause that ends what still runs when the pool closes.
var errClosed = fmt.Errorf("the server shuts down: %w", model.ErrServerBusy)

// New returns an empty pool. Close ends it.
func New(opts Options) *Pool {
	if opts.QueueSize <= 0 {
		opts.QueueSize = DefaultQueueSize
	}
	if opts.YieldAfter <= 0 {
		opts.YieldAfter = DefaultYieldAfter
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Pool{
		opts: opts, log: opts.Logger, ctx: ctx, cancel: cancel,
		groups: map[string]*group{}, hungry: map[*group]struct{}{}, ledger: capacity.NewLedger(opts.Total), drained: make(chan struct{}),
	}
}

// Fits reports whether an instance of that size could ever be launched here.
func (p *Pool) Fits(need capacity.Amount) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ledger.Fits(need)
}

// Acquire returns an instance for the spec's function that the caller alone
// uses until it calls Release or Destroy on the lease. It takes an idle one, or
// waits in line for one that is launched or comes back.
//
// Errors: ctx's, if it ended first; model.ErrServerBusy with
// invoke.ErrNotPlaced for a full queue, an expired wait, an engine that does
// not answer, or a closed pool; and the reason why a launch failed.
func (p *Pool) Acquire(ctx context.Context, spec *Spec) (*Lease, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, notPlaced(errClosed)
	}
	g := p.groupLocked(spec)
	if inst := g.popIdle(); inst != nil {
		p.takeLocked(inst)
		p.mu.Unlock()
		return p.lease(inst), nil
	}
	if g.waiters.Len() >= p.opts.QueueSize {
		p.mu.Unlock()
		return nil, notPlaced(fmt.Errorf("%d calls wait for function %s already: %w", p.opts.QueueSize, spec.FnID, model.ErrServerBusy))
	}
	w := g.enqueue(time.Now())
	p.fillLocked()
	p.mu.Unlock()
	return p.await(ctx, g, w)
}

// await waits in line. A caller that gives up just as it is served gives the
// instance to the next.
func (p *Pool) await(ctx context.Context, g *group, w *waiter) (*Lease, error) {
	var expired <-chan time.Time
	if p.opts.QueueTimeout > 0 {
		timer := time.NewTimer(p.opts.QueueTimeout)
		defer timer.Stop()
		expired = timer.C
	}
	var err error
	select {
	case served := <-w.served:
		return p.accept(ctx, served)
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-expired:
		err = notPlaced(fmt.Errorf("no instance of function %s became free within %v: %w", g.spec.FnID, p.opts.QueueTimeout, model.ErrServerBusy))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !g.leave(w) {
		if served := <-w.served; served.inst != nil {
			p.putBackLocked(served.inst)
		}
		return nil, err
	}
	p.dropIfUnusedLocked(g)
	return nil, err
}

// accept takes what a waiter was served, unless its caller has left meanwhile.
func (p *Pool) accept(ctx context.Context, served grant) (*Lease, error) {
	if served.err != nil {
		return nil, served.err
	}
	lease := p.lease(served.inst)
	if ctx.Err() != nil {
		lease.Release()
		return nil, context.Cause(ctx)
	}
	return lease, nil
}

// takeLocked marks an instance as held by a caller.
func (p *Pool) takeLocked(inst *Instance) {
	inst.setState(Busy)
	inst.calls++
	p.busy++
}

// putBackLocked takes an instance from its holder and finds it a new use: the
// next waiter, a function that has waited too long without any instance, or
// the idle list.
func (p *Pool) putBackLocked(inst *Instance) {
	p.busy--
	defer p.checkDrainedLocked()
	g := inst.group
	switch {
	case inst.dead():
		p.endLocked(inst, "its process ended")
	case p.closed:
		p.endLocked(inst, "the server shuts down")
	case time.Since(inst.readySince) >= p.opts.YieldAfter && p.starvingLocked(g):
		p.endLocked(inst, "evicted for a function that has none")
	case g.waiters.Len() > 0:
		p.takeLocked(inst) // for the waiter, which may run as soon as it is served
		g.serve(grant{inst: inst})
	default:
		p.idleLocked(inst)
	}
	p.fillLocked()
}

// destroyLocked takes an instance from its holder and ends it.
func (p *Pool) destroyLocked(inst *Instance, why string) {
	p.busy--
	p.endLocked(inst, why)
	p.fillLocked()
	p.checkDrainedLocked()
}

func (p *Pool) checkDrainedLocked() {
	if p.closed && p.busy == 0 {
		select {
		case <-p.drained:
		default:
			close(p.drained)
		}
	}
}

// Close refuses new callers, ends idle instances, waits until callers have
// given theirs back or ctx ends, ends the rest, and waits until everything is
// removed, for which engine deadlines set the limit.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	for _, g := range p.groups {
		for g.serve(grant{err: notPlaced(errClosed)}) {
		}
		for inst := g.popIdle(); inst != nil; inst = g.popIdle() {
			p.endLocked(inst, "the server shuts down")
		}
	}
	p.checkDrainedLocked()
	p.mu.Unlock()

	var err error
	select {
	case <-p.drained:
	case <-ctx.Done():
		err = fmt.Errorf("calls still running when the shutdown deadline passed: %w", ctx.Err())
	}
	p.cancel(errClosed)
	p.mu.Lock()
	for _, g := range p.groups {
		for inst := range g.all {
			p.endLocked(inst, "the server shuts down")
		}
	}
	p.mu.Unlock()
	p.wg.Wait()
	return err
}

// Stats is a snapshot of the pool.
type Stats struct {
	Idle, Busy, Launching, Waiting int
	Used, Total                    capacity.Amount
}

// Stats returns the present numbers.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	stats := Stats{Busy: p.busy, Used: p.ledger.Used(), Total: p.ledger.Total()}
	for _, g := range p.groups {
		stats.Idle += len(g.idle)
		stats.Launching += g.launching
		stats.Waiting += g.waiters.Len()
	}
	return stats
}

// notPlaced marks err as proof that the function did not see the call.
func notPlaced(err error) error { return fmt.Errorf("%w (%w)", err, invoke.ErrNotPlaced) }
