package prefork

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/model"
)

// namePrefix begins the names of namespaces. They are host names too.
const namePrefix = "tine-prefork-"

// Pool keeps namespaces ready. It is safe for concurrent use.
type Pool struct {
	opts Options
	log  *slog.Logger

	ctx    context.Context // ends when Close begins
	cancel context.CancelFunc
	wg     sync.WaitGroup // makes, probes and removals

	mu       sync.Mutex // guards the rest
	closed   bool
	networks []*network
	items    map[*item]struct{}
	count    [gone]int // of items by state
	demand   demand
	shares   shares
	short    shortage
	timer    *time.Timer // of balanceLocked
}

// Why namespaces end. The texts are labels of metrics.
const (
	causeUsed     = "used"
	causeUnwanted = "unwanted"
	causeDied     = "died"
	causeBroken   = "broken" // a probe failed
	causeClosed   = "closed"

	causeUnjoinable = "unjoinable"
)

// New makes a pool and begins to fill it. Close ends it.
func New(opts Options) *Pool {
	opts = opts.withDefaults()
	p := &Pool{opts: opts, log: opts.Logger, items: map[*item]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	for _, name := range opts.Networks {
		p.networks = append(p.networks, &network{name: name})
	}
	p.timer = time.AfterFunc(time.Hour, func() {
		p.lookAround()
		p.balance()
	})
	p.balance()
	return p
}

func (p *Pool) balance() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.balanceLocked()
}

// createLocked begins to make a namespace.
func (p *Pool) createLocked(n *network) {
	it := &item{name: namePrefix + model.NewID(), network: n, since: time.Now()}
	p.items[it] = struct{}{}
	p.count[Creating]++
	n.count[Creating]++
	p.wg.Go(func() {
		p.opts.Quiet(p.ctx)
		if !p.hasRoom() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.moveLocked(it, gone)
			p.balanceLocked()
			return
		}
		began := time.Now()
		space, err := p.opts.Maker.Make(p.ctx, it.name, n.name)
		if err == nil {
			p.mu.Lock()
			it.space, it.made = space, began
			p.moveLocked(it, Probing)
			p.balanceLocked()
			p.mu.Unlock()
			p.admit(it)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.closed { // it was cut short
			p.opts.Observer.Made(n.name, time.Since(began), err)
		}
		p.moveLocked(it, gone)
		p.networkFailedLocked(n, began, fmt.Errorf("make a namespace: %w", err))
		p.balanceLocked()
	})
}

// networkFailedLocked takes note that what began at some time failed, and that this is
// probably the network's fault.
func (p *Pool) networkFailedLocked(n *network, began time.Time, err error) {
	if p.closed {
		return
	}
	pause := n.fail(began)
	p.log.Warn("no namespace can be prepared", slog.String("network", n.name), slog.Any("error", err),
		slog.Int("failures", n.failures), slog.Duration("retry_in", pause))
}

// admit probes an item and makes it ready.
func (p *Pool) admit(it *item) {
	err := it.space.Probe(p.ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	isNew := !it.used()
	if isNew {
		p.opts.Observer.Made(it.network.name, time.Since(it.made), err)
	}
	switch {
	case p.closed: // Close removes it, as it is
	case it.dead:
		p.diedYoungLocked(it, errHolderDied)
		p.retireLocked(it, causeDied)
	case err != nil:
		p.diedYoungLocked(it, err)
		p.retireLocked(it, causeBroken)
	default:
		it.probed = time.Now()
		p.moveLocked(it, Ready)
	}
	p.balanceLocked()
}

// provenAge is how old an item gets that is taken for a sign that its network
// works, and that one like it lives.
const provenAge = 10 * time.Second

var errHolderDied = errors.New("its holder died")

// diedYoungLocked counts the end of an item against its network if it came so soon
// that the next one would probably end the same way.
func (p *Pool) diedYoungLocked(it *item, err error) {
	if time.Since(it.made) < provenAge {
		p.networkFailedLocked(it.network, it.made, fmt.Errorf("namespace %s, %v after it was made: %w", it.name, time.Since(it.made).Round(time.Millisecond), err))
	}
}

// probeAgain probes an item that is ready or leased.
func (p *Pool) probeAgain(it *item) {
	err := it.space.Probe(p.ctx)
	var drain func()
	p.mu.Lock()
	it.probing = false
	it.probed = time.Now()
	// An engine that does not answer says nothing about the namespace.
	inUse := it.state == Ready || it.state == Leased
	if err != nil && inUse && p.ctx.Err() == nil && !errors.Is(err, driver.ErrUnavailable) {
		p.log.Warn("a namespace does not work any more", slog.String("namespace", it.name), slog.String("network", it.network.name),
			slog.Any("state", it.state), slog.Any("error", err))
		drain = p.lostLocked(it, causeBroken, err)
	}
	p.balanceLocked()
	p.mu.Unlock()
	if drain != nil {
		drain()
	}
}

// Died tells the pool that the holder of a namespace has died. Others are
// ignored.
func (p *Pool) Died(id string) {
	var drain func()
	p.mu.Lock()
	for it := range p.items {
		if it.space == nil || it.space.ID() != id || it.dead || it.state == Retiring {
			continue
		}
		p.log.Warn("the holder of a namespace died", slog.String("namespace", it.name), slog.Any("state", it.state))
		drain = p.lostLocked(it, causeDied, errHolderDied)
		break
	}
	p.balanceLocked()
	p.mu.Unlock()
	if drain != nil {
		drain()
	}
}

// ProbeAll makes all probes due, after a time in which Died may not have been
// called.
func (p *Pool) ProbeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for it := range p.items {
		it.probed = time.Time{}
	}
	p.balanceLocked()
}

// lostLocked takes an item out of use that does not work, as err says. What it
// returns, if anything, is to be called without the lock.
func (p *Pool) lostLocked(it *item, cause string, err error) (drain func()) {
	switch it.state {
	case Ready, Quarantined:
		it.dead = true
		p.diedYoungLocked(it, err)
		p.retireLocked(it, cause)
	case Probing:
		it.dead = true
	case Leased:
		if !it.dead {
			it.dead = true
			p.diedYoungLocked(it, err)
			drain = it.drain
		}
	default: // it is going already
	}
	return drain
}

// Removal is tried again until Close: as long as the engine does not confirm it,
// the namespace may be there.
const (
	firstRemovalPause = 100 * time.Millisecond
	lastRemovalPause  = 10 * time.Second
)

// retireLocked begins to remove an item.
func (p *Pool) retireLocked(it *item, cause string) {
	p.moveLocked(it, Retiring)
	p.log.Debug("namespace ends", slog.String("namespace", it.name), slog.String("reason", cause))
	p.wg.Go(func() {
		p.opts.Quiet(p.ctx)
		began := time.Now()
		for pause := firstRemovalPause; ; pause = min(2*pause, lastRemovalPause) {
			if p.ctx.Err() != nil {
				return // Close removes what is left
			}
			err := it.space.Remove(context.WithoutCancel(p.ctx))
			if err == nil {
				break
			}
			p.log.Warn("cannot remove a namespace", slog.String("namespace", it.name), slog.Any("error", err), slog.Duration("retry_in", pause))
			if !p.pause(pause) {
				return
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.opts.Observer.Ended(it.network.name, cause, time.Since(began))
		p.moveLocked(it, gone)
		p.balanceLocked()
	})
}

// pause waits; false means that Close has begun.
func (p *Pool) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// Stop hands out nothing any more and makes nothing any more. Close follows.
func (p *Pool) Stop() {
	p.mu.Lock()
	p.closed = true
	p.timer.Stop()
	p.mu.Unlock()
	p.cancel()
}

// Close stops the pool and removes all namespaces, as far as ctx allows. No
// container may be left in one. The error names those that may be left.
func (p *Pool) Close(ctx context.Context) error {
	p.Stop()
	p.wg.Wait() // all of it has a deadline, or ends with p.ctx

	p.mu.Lock()
	left := slices.Collect(maps.Keys(p.items))
	p.mu.Unlock()
	return RemoveAll(left, func(it *item) error { return p.removeLast(ctx, it) })
}

// removeLast removes an item, in whatever state it is.
func (p *Pool) removeLast(ctx context.Context, it *item) error {
	began := time.Now()
	if err := it.space.Remove(ctx); err != nil {
		return fmt.Errorf("namespace %s may be left: %w", it.name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if it.state != Retiring {
		p.moveLocked(it, Retiring)
	}
	p.moveLocked(it, gone)
	p.opts.Observer.Ended(it.network.name, causeClosed, time.Since(began))
	return nil
}

// Level is how many namespaces there are in a network, by state.
type Level struct {
	Network string
	Count   [StateCount]int
}

// Levels returns the levels of all networks.
func (p *Pool) Levels() []Level {
	p.mu.Lock()
	defer p.mu.Unlock()
	levels := make([]Level, len(p.networks))
	for i, n := range p.networks {
		levels[i] = Level{n.name, n.count}
	}
	return levels
}
