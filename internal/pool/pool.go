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
// back. Then group.go (one function's instances and waiters), share.go (who is
// served next), capacity.go (where memory comes from), launch.go (from a Spec
// to an answering container), instance.go (one container's life), rest.go and
// end.go (what becomes of it when nobody uses it), refresh.go (when its image's name
// comes to mean another one).
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

	Observer Observer // nil: none

	// FreezeAfter is how long an instance rests before it is frozen, where the
	// engine can do that; negative: it is not.
	FreezeAfter time.Duration

	// ImageRefresh is how often it is found out whether the names of images that
	// instances are of mean other images by now; 0: never.
	ImageRefresh time.Duration

	StartTimeout time.Duration // from container start to socket; 0: none
	QueueTimeout time.Duration // longest wait for an instance; 0: none
	QueueSize    int           // waiting calls per function
	FailFast     bool          // refuse at once what cannot be launched now
	// YieldAfter is how long a function waits until one that uses more must
	// give it an instance, and how long an instance serves at least before it
	// is given up, so that it was worth its launch.
	YieldAfter time.Duration
	// StockPercent is the part of Total that minimum instances may take, all
	// together.
	StockPercent int
}

// Defaults of the options.
const (
	DefaultQueueSize    = 1024
	DefaultYieldAfter   = time.Second
	DefaultStockPercent = 75
)

// Pool hands out instances. It is safe for concurrent use.
type Pool struct {
	opts     Options
	log      *slog.Logger
	observer Observer
	freezes  bool // resting instances are frozen

	ctx    context.Context // of everything the pool does on its own
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // launches, monitors and removals

	mu        sync.Mutex // guards the rest, all groups and all instances' states
	groups    map[string]*group
	hungry    map[*group]struct{} // groups that want a launch
	stocked   stocks
	refreshes map[imageUse]*refreshing
	refreshed chan struct{} // closed, and made anew, when an answer about an image was there
	apps, fns shares
	ledger    *capacity.Ledger
	returning capacity.Amount // reserved by instances that are being removed, and soon will be
	resting   capacity.Amount // reserved by resting instances
	busy      int             // instances that callers hold
	drained   chan struct{}   // closed when the pool is closed and busy is 0
	closed    bool
	sealed    bool          // Close waits for what runs, so that nothing may begin
	done      chan struct{} // closed when Close has ended

	look         *time.Timer // lets fillLocked run
	lookAt       time.Time   // when; zero: not at all
	noLookBefore time.Time   // for each call; see fillSoonLocked
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
	if opts.StockPercent <= 0 {
		opts.StockPercent = DefaultStockPercent
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	if opts.Observer == nil {
		opts.Observer = blind{}
	}
	return &Pool{
		opts: opts, log: opts.Logger, observer: opts.Observer, ctx: ctx, cancel: cancel,
		freezes: opts.FreezeAfter >= 0 && opts.Driver.Capabilities().Freeze,
		groups:  map[string]*group{}, hungry: map[*group]struct{}{}, apps: shares{}, fns: shares{}, refreshes: map[imageUse]*refreshing{}, refreshed: make(chan struct{}),
		ledger: capacity.NewLedger(opts.Total), drained: make(chan struct{}), done: make(chan struct{}),
	}
}

// Fits reports whether an instance of that size could ever be launched here.
func (p *Pool) Fits(need capacity.Amount) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ledger.Fits(need)
}

// Acquire returns an instance for the spec's function that the caller alone
// uses until it calls Release or Destroy on the lease. It takes one at rest, or
// waits in line for one that is launched or comes back.
//
// Errors: ctx's, if it ended first; model.ErrServerBusy with
// invoke.ErrNotPlaced for a full queue, an expired wait, an engine that does
// not answer, or a closed pool; and the reason why a launch failed.
func (p *Pool) Acquire(ctx context.Context, spec *Spec) (*Lease, error) {
	began := time.Now()
	for {
		lease, frozen, err := p.acquire(ctx, spec)
		if err != nil || !frozen {
			return lease, err
		}
		thawed, err := p.thawFor(ctx, lease)
		if err != nil || thawed {
			return lease, err
		}
		// An engine that hangs must not be tried with one instance after another.
		if limit := p.opts.QueueTimeout; limit > 0 && time.Since(began) >= limit {
			err := fmt.Errorf("no instance of function %s could be thawed within %v: %w", spec.FnID, limit, model.ErrServerBusy)
			return nil, notPlaced(model.WithRetryAfter(err, limit))
		}
	}
}

func (p *Pool) acquire(ctx context.Context, spec *Spec) (lease *Lease, frozen bool, err error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, false, notPlaced(errClosed)
	}
	g := p.groupLocked(spec)
	if inst := g.popIdle(); inst != nil {
		frozen = inst.state == Frozen
		p.takeLocked(inst)
		p.refreshLocked(g, inst.stateSince)
		p.mu.Unlock()
		return p.lease(inst), frozen, nil
	}
	if g.waiters.Len() >= p.opts.QueueSize {
		err := p.busyLocked(g, fmt.Errorf("%d calls wait for function %s already: %w", p.opts.QueueSize, spec.FnID, model.ErrServerBusy))
		p.mu.Unlock()
		return nil, false, err
	}
	w := g.enqueue(time.Now())
	p.watchQueueLocked(g)
	p.retryForCallersLocked(g)
	p.fillSoonLocked()
	p.refuseAtOnceLocked(g)
	p.mu.Unlock()
	lease, err = p.await(ctx, g, w)
	g.watcher.Waited(time.Since(w.since), err)
	return lease, false, err
}

// await waits in line. A caller that gives up just as it is served gives the
// instance to the next.
func (p *Pool) await(ctx context.Context, g *group, w *waiter) (*Lease, error) {
	select {
	case served := <-w.served:
		return p.accept(ctx, served)
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !g.leave(w) {
		if served := <-w.served; served.inst != nil {
			p.putBackUnusedLocked(served.inst)
		}
		return nil, context.Cause(ctx)
	}
	p.fillSoonLocked() // what it waited for may be enough for others
	p.dropIfUnusedLocked(g)
	return nil, context.Cause(ctx)
}

// refuseAtOnceLocked refuses callers that no launch can be made for now, if
// they are not to wait for that.
func (p *Pool) refuseAtOnceLocked(g *group) {
	if !p.opts.FailFast || !g.callersLack() || g.preparing {
		return
	}
	barred := time.Until(g.notBefore)
	switch {
	case barred > 0 && !g.hasNone(): // other instances may serve them soon
		return
	case barred > 0:
		g.failSurplus(func() error {
			return notPlaced(model.WithRetryAfter(fmt.Errorf("launches of function %s failed: %w", g.spec.FnID, model.ErrServerBusy), barred))
		})
	case g.wanted() <= 0:
		g.failSurplus(func() error {
			return p.busyLocked(g, fmt.Errorf("function %s has all of its instances: %w", g.spec.FnID, model.ErrServerBusy))
		})
	}
	p.dropIfUnusedLocked(g)
}

// accept takes what a waiter was served, unless its caller has left meanwhile.
func (p *Pool) accept(ctx context.Context, served grant) (*Lease, error) {
	switch {
	case ctx.Err() == nil && served.err != nil:
		return nil, served.err
	case ctx.Err() == nil:
		return p.lease(served.inst), nil
	case served.inst != nil:
		p.lease(served.inst).ReleaseUnused()
	}
	return nil, context.Cause(ctx)
}

// takeLocked marks an instance as held by a caller.
func (p *Pool) takeLocked(inst *Instance) {
	inst.setState(Busy)
	inst.takenSince = inst.stateSince
	inst.calls++
	p.busy++
}

// servedLocked notes that the instance's holder has used it.
func (p *Pool) servedLocked(inst *Instance) {
	inst.group.holdTime.add(time.Since(inst.takenSince))
	if !inst.dead() && inst.canProve() {
		inst.group.provenLocked()
	}
}

// putBackUnusedLocked takes an instance from a holder that did nothing with it, which
// is not to count as one of its calls.
func (p *Pool) putBackUnusedLocked(inst *Instance) {
	inst.calls--
	p.putBackLocked(inst)
}

// putBackLocked takes an instance from its holder and finds it a new use: the
// next waiter, a function that deserves its capacity more, or rest.
func (p *Pool) putBackLocked(inst *Instance) {
	p.busy--
	defer p.checkDrainedLocked()
	g := inst.group
	switch {
	case inst.dead():
		p.diedUnusedLocked(inst)
		p.endLocked(inst, "its process ended")
	case inst.drained:
		p.endLocked(inst, drainReason)
	case inst.outdated():
		p.endLocked(inst, outdatedReason)
	case p.closed:
		p.endLocked(inst, "the server shuts down")
	case inst.worn():
		p.endLocked(inst, "it has served its time")
	case p.mustYieldLocked(inst):
		g.watcher.Evicted(Busy)
		p.endLocked(inst, "evicted for a function that uses less")
	case g.waiters.Len() > 0:
		p.takeLocked(inst) // for the waiter, which may run as soon as it is served
		g.serve(grant{inst: inst})
	case g.superseded:
		p.endLocked(inst, "its definition changed")
	default:
		p.restLocked(inst)
	}
	p.fillSoonLocked()
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
// removed, for which engine deadlines set the limit. Whoever calls it again
// waits for the first.
func (p *Pool) Close(ctx context.Context) error {
	if !p.beginClosing() {
		<-p.done
		return nil
	}
	defer close(p.done)
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
	p.sealed = true
	p.mu.Unlock()
	p.wg.Wait()
	return err
}

// beginClosing turns everybody away who waits and ends what rests. False means
// that the pool is closed already.
func (p *Pool) beginClosing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.closed = true
	if p.look != nil {
		p.look.Stop()
	}
	p.shareStockLocked()
	for _, g := range p.groups {
		for g.serve(grant{err: notPlaced(errClosed)}) {
		}
		p.endIdleLocked(g, "the server shuts down")
		p.dropIfUnusedLocked(g)
	}
	p.checkDrainedLocked()
	return true
}

// spawn runs f on a goroutine that Close waits for; false means that it is too
// late for that.
func (p *Pool) spawn(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sealed {
		return false
	}
	p.wg.Go(f)
	return true
}

// busyLocked makes err one that says that the call may be tried again, and
// when: after the time that those in line will take.
func (p *Pool) busyLocked(g *group, err error) error {
	return notPlaced(model.WithRetryAfter(err, g.waitTime()))
}

// notPlaced marks err as proof that the function did not see the call.
func notPlaced(err error) error { return fmt.Errorf("%w (%w)", err, invoke.ErrNotPlaced) }
