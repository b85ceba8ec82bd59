package placement

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tinefn/tine/invoke"
)

// DiscoveryOptions configures a [Discovery]. Zero durations get the defaults.
type DiscoveryOptions struct {
	Places []Place
	File   string // with more places, see [ParseList]; empty: none

	// Dial makes a runner of an address like 192.0.2.1:9190, without waiting for
	// anything.
	Dial func(address string) (Runner, error)

	// DialNamed, if set, is used in place of Dial for addresses that were found by
	// the name of a host, which is what a certificate is for.
	DialNamed func(address, serverName string) (Runner, error)

	Resolver     Resolver      // nil: the system's
	Interval     time.Duration // from look-up to look-up of names
	Timeout      time.Duration // of all look-ups for one place
	FileInterval time.Duration // from look to look at the file
	DrainTimeout time.Duration // for the calls of a runner that left
	Logger       *slog.Logger  // nil: no logs
}

// Defaults of the options. A runner may have calls for its queue's and its
// function's longest time after it left.
const (
	DefaultLookupInterval = 5 * time.Second
	DefaultLookupTimeout  = 5 * time.Second
	DefaultFileInterval   = time.Second
	DefaultDrainTimeout   = 10 * time.Minute
)

// Resolver looks names up. [net.Resolver] is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// endpoint is one address of a runner.
type endpoint struct{ address, serverName string }

// Discovery is a pool of the runners at some places, which may change: names are
// looked up again and again, and the list in a file is read again. What cannot be
// looked up or read leaves things as they were. Runners that appear get calls
// from the next sweep on; those that leave get no more, and finish what they have.
type Discovery struct {
	opts DiscoveryOptions
	log  *slog.Logger

	now atomic.Pointer[[]Runner] // sorted by address

	mu       sync.Mutex // guards the rest
	listed   []Place    // in the file
	found    map[Place][]endpoint
	troubled map[Place]bool // the last look-up failed
	runners  map[endpoint]Runner
	closed   bool

	stop       context.CancelFunc // of the looking
	looking    sync.WaitGroup
	drainCtx   context.Context
	abandon    context.CancelFunc // of the draining
	draining   sync.WaitGroup
	file       *listFile
	lookAgain  chan struct{} // has one slot: places are new
	firstPause time.Duration
}

var (
	_ Pool   = (*Discovery)(nil)
	_ Lister = (*Discovery)(nil)
)

// Discover looks once, for at most the timeout, and goes on looking until the
// pool is closed. Places where nothing is found yet are no error: runners may
// start later than their load balancers.
func Discover(ctx context.Context, opts DiscoveryOptions) (*Discovery, error) {
	if opts.Dial == nil {
		return nil, errors.New("discovery of runners has no dial function")
	}
	opts.Interval = cmp.Or(opts.Interval, DefaultLookupInterval)
	opts.Timeout = cmp.Or(opts.Timeout, DefaultLookupTimeout)
	opts.FileInterval = cmp.Or(opts.FileInterval, DefaultFileInterval)
	opts.DrainTimeout = cmp.Or(opts.DrainTimeout, DefaultDrainTimeout)
	if opts.Resolver == nil {
		opts.Resolver = net.DefaultResolver
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Discovery{
		opts: opts, log: opts.Logger, found: map[Place][]endpoint{}, troubled: map[Place]bool{}, runners: map[endpoint]Runner{},
		lookAgain: make(chan struct{}, 1), firstPause: min(firstLookupPause, opts.Interval),
	}
	d.now.Store(&[]Runner{})
	d.drainCtx, d.abandon = context.WithCancel(context.WithoutCancel(ctx))
	if opts.File != "" {
		d.file = &listFile{path: opts.File, log: opts.Logger}
		if places, changed := d.file.look(); changed {
			d.listed = places
		}
	}
	well := d.lookUp(ctx)
	looking, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	d.looking.Go(func() { d.monitorNames(looking, well) })
	if d.file != nil {
		d.looking.Go(func() { d.monitorFile(looking) })
	}
	return d, nil
}

// errPoolClosed is the error of a pool that is closed.
var errPoolClosed = errors.New("the pool of runners is closed")

// Runners returns the runners of all functions.
func (d *Discovery) Runners(context.Context, *invoke.Call) ([]Runner, error) {
	now := d.now.Load()
	if now == nil {
		return nil, errPoolClosed
	}
	return *now, nil
}

// All returns the runners, none once the pool is closed.
func (d *Discovery) All() []Runner {
	if now := d.now.Load(); now != nil {
		return *now
	}
	return nil
}

// firstLookupPause is how long a look-up that failed is not made again. It
// doubles up to the interval.
const firstLookupPause = time.Second

// monitorNames looks all names up again and again.
func (d *Discovery) monitorNames(ctx context.Context, well bool) {
	failures := 0
	for {
		pause := d.opts.Interval
		if failures++; well {
			failures = 0
		} else {
			pause = doubled(d.firstPause, failures, d.opts.Interval)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-d.lookAgain:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
		well = d.lookUp(ctx)
	}
}

// monitorFile looks at the file again and again.
func (d *Discovery) monitorFile(ctx context.Context) {
	ticker := time.NewTicker(d.opts.FileInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		places, changed := d.file.look()
		if !changed {
			continue
		}
		d.mu.Lock()
		d.listed = places
		d.updateLocked()
		d.mu.Unlock()
		select {
		case d.lookAgain <- struct{}{}:
		default:
		}
	}
}

// placesLocked returns all places, each once.
func (d *Discovery) placesLocked() []Place {
	var places []Place
	for _, p := range slices.Concat(d.opts.Places, d.listed) {
		if !slices.Contains(places, p) {
			places = append(places, p)
		}
	}
	return places
}

// lookUp looks all names up and reports whether that went well.
func (d *Discovery) lookUp(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, d.opts.Timeout)
	defer cancel()
	d.mu.Lock()
	places := d.placesLocked()
	before := make([][]endpoint, len(places))
	for i, p := range places {
		before[i] = d.found[p]
	}
	d.mu.Unlock()

	found := make([][]endpoint, len(places))
	errs := make([]error, len(places))
	var looking sync.WaitGroup
	for i, p := range places {
		if p.Host != "" {
			looking.Go(func() { found[i], errs[i] = d.resolve(ctx, p, before[i]) })
		}
	}
	looking.Wait()

	d.mu.Lock()
	defer d.mu.Unlock()
	for i, p := range places {
		if p.Host != "" {
			d.noteLocked(p, found[i], errs[i])
		}
	}
	d.updateLocked()
	return errors.Join(errs...) == nil
}

// noteLocked takes note of what a look-up found.
func (d *Discovery) noteLocked(p Place, found []endpoint, err error) {
	if len(found) > 0 {
		d.found[p] = found
	}
	switch {
	case err != nil && !d.troubled[p]:
		d.log.Warn("runners cannot be looked up, those that were known stay", slog.String("name", p.String()), slog.Int("known", len(d.found[p])), slog.Any("error", err))
	case err == nil && d.troubled[p]:
		d.log.Info("runners can be looked up again", slog.String("name", p.String()))
	}
	d.troubled[p] = err != nil
}

// updateLocked makes the runners those of the endpoints that are known now.
func (d *Discovery) updateLocked() {
	if d.closed {
		return
	}
	wanted := map[endpoint]bool{}
	addresses := map[string]bool{}
	add := func(e endpoint) {
		if !addresses[e.address] { // it may have been found by several names
			addresses[e.address], wanted[e] = true, true
		}
	}
	for _, p := range d.placesLocked() {
		if p.Host == "" {
			add(endpoint{address: p.String()})
		}
		for _, e := range d.found[p] {
			add(e)
		}
	}
	for e := range wanted {
		if d.runners[e] != nil {
			continue
		}
		r, err := d.dial(e)
		if err != nil {
			d.log.Error("a runner cannot be used", slog.String("runner", e.address), slog.Any("error", err))
			continue
		}
		d.log.Info("a runner is new", slog.String("runner", e.address), slog.String("host", e.serverName))
		d.runners[e] = r
	}
	for e, r := range d.runners {
		if !wanted[e] {
			delete(d.runners, e)
			d.drain(e, r)
		}
	}
	now := make([]Runner, 0, len(d.runners))
	for _, r := range d.runners {
		now = append(now, r)
	}
	slices.SortFunc(now, func(a, b Runner) int { return cmp.Compare(a.Address(), b.Address()) })
	if !slices.Equal(now, *d.now.Load()) {
		d.now.Store(&now)
	}
}

func (d *Discovery) dial(e endpoint) (Runner, error) {
	if e.serverName != "" && d.opts.DialNamed != nil {
		return d.opts.DialNamed(e.address, e.serverName)
	}
	return d.opts.Dial(e.address)
}

// drain lets the calls of a runner that left finish.
func (d *Discovery) drain(e endpoint, r Runner) {
	d.log.Info("a runner has left, its calls may finish", slog.String("runner", e.address))
	d.draining.Go(func() {
		ctx, cancel := context.WithTimeout(d.drainCtx, d.opts.DrainTimeout)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			d.log.Warn("calls of a runner that has left were given up", slog.String("runner", e.address), slog.Any("error", err))
		}
	})
}

// Close ends the looking and closes the runners. Calls finish until the context
// ends.
func (d *Discovery) Close(ctx context.Context) error {
	d.stop()
	d.looking.Wait()
	d.mu.Lock()
	runners := d.runners
	d.closed, d.runners = true, nil
	d.now.Store(nil)
	d.mu.Unlock()

	stopAbandon := context.AfterFunc(ctx, d.abandon)
	defer stopAbandon()
	defer d.abandon()
	errs := make(chan error, len(runners))
	for _, r := range runners {
		d.draining.Go(func() { errs <- r.Close(ctx) })
	}
	d.draining.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}
