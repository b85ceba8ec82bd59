package node

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/tinefn/tine/internal/config"
	"github.com/tinefn/tine/internal/forward"
	"github.com/tinefn/tine/internal/metrics"
	"github.com/tinefn/tine/internal/placement"
	"github.com/tinefn/tine/internal/runnerrpc"
	"github.com/tinefn/tine/invoke"
)

// buildForward makes what has runners execute calls: the pool of runners, the
// placer above it, and what counts calls around both.
func (n *Node) buildForward(ctx context.Context) (invoke.Invoker, error) {
	pool, err := n.openRunners(ctx)
	if err != nil {
		return nil, err
	}
	placer, err := n.openPlacer(pool)
	if err != nil {
		return nil, err
	}
	n.needs = func(ctx context.Context) string {
		if runners, err := pool.Runners(ctx, nil); err != nil || len(runners) == 0 {
			return "no runner is known"
		}
		return ""
	}
	return forward.New(forward.Options{Next: placer, Logger: n.log, Observer: metrics.NewForwards(n.registry)}), nil
}

// openPlacer makes what places calls on runners, the embedding program's or the one
// that the settings name. When it stops the pool does.
func (n *Node) openPlacer(pool placement.Pool) (invoke.Invoker, error) {
	if n.opts.Placer != nil {
		n.stack.push("calls on runners", pool.Close)
		return n.opts.Placer(pool)
	}
	c := n.config.Placement
	placer := placement.New(placement.Options{
		Pool: pool, Policy: n.policy(), Logger: n.log, Observer: metrics.NewPlacement(n.registry),
		Timeout: c.Timeout, DetachedTimeout: c.DetachedTimeout, DetachedHeadroom: cmp.Or(n.config.LB.Headroom, noHeadroom),
		RetryDelay: c.RetryDelay, MaxRetryDelay: c.MaxRetryDelay, MaxBackoff: c.MaxBackoff,
		MaxKeptBody: c.MaxKeptBody, MaxKeptBodies: c.MaxKeptBodies,
		ProbeInterval: cmp.Or(c.ProbeInterval, -1), ProbeTimeout: c.ProbeTimeout,
	})
	placer.Start()
	metrics.RegisterRunners(n.registry, placer.Levels)
	n.stack.push("calls on runners", placer.Close)
	return placer, nil
}

// noHeadroom is no limit of a detached call: more than any process lives, and little
// enough to be added to.
const noHeadroom = 10 * 365 * 24 * time.Hour

// policy is how runners are chosen.
func (n *Node) policy() placement.Policy {
	switch c := n.config.Placement; c.Placer {
	case config.PlacerRing:
		return placement.NewRing(c.LoadFactor)
	case config.PlacerNaive:
		return placement.NewNaive()
	default:
		return placement.NewChoices()
	}
}

// openRunners makes the pool of runners, the embedding program's or the one that the
// settings name.
func (n *Node) openRunners(ctx context.Context) (placement.Pool, error) {
	if n.opts.RunnerPool == nil {
		return n.discoverRunners(ctx)
	}
	clients, err := n.runnerClients()
	if err != nil {
		return nil, err
	}
	return n.opts.RunnerPool(func(address string) (invoke.Runner, error) { return dialRunner(address, clients) })
}

// discoverRunners makes the pool of the runners that the settings name. Those that
// cannot be reached are members too: they may come later.
func (n *Node) discoverRunners(ctx context.Context) (placement.Pool, error) {
	c := n.config.Placement
	places, err := placement.ParsePlaces(c.Addresses)
	if err != nil {
		return nil, fmt.Errorf("FN_RUNNER_ADDRESSES: %w", err)
	}
	clients, err := n.runnerClients()
	if err != nil {
		return nil, err
	}
	pool, err := placement.Discover(ctx, placement.DiscoveryOptions{
		Places: places, File: c.File, Logger: n.log,
		Interval: c.LookupInterval, Timeout: c.LookupTimeout, FileInterval: c.FileInterval, DrainTimeout: c.DrainTimeout,
		Dial: func(address string) (placement.Runner, error) { return dialRunner(address, clients) },
		DialNamed: func(address, serverName string) (placement.Runner, error) {
			named := clients
			if named.TLS != nil && named.TLS.ServerName == "" {
				named.TLS = named.TLS.Clone()
				named.TLS.ServerName = serverName
			}
			return dialRunner(address, named)
		},
	})
	if err != nil {
		return nil, err
	}
	return pool, nil
}

// dialRunner returns a runner that is not connected to yet.
func dialRunner(address string, opts runnerrpc.ClientOptions) (placement.Runner, error) {
	client, err := runnerrpc.Dial(address, opts)
	if err != nil {
		return nil, err
	}
	return &remoteRunner{client, forward.Runner(address, client)}, nil
}

// remoteRunner is a runner whose calls know where they are, and that can be asked
// how it is.
type remoteRunner struct {
	*runnerrpc.Client
	tracked invoke.Invoker
}

var _ placement.Prober = (*remoteRunner)(nil)

func (r *remoteRunner) Invoke(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
	return r.tracked.Invoke(ctx, call)
}

// Probe asks for the number of calls, and for what the runner's status image says if
// it has one. A runner that is only too busy for that is well.
func (r *remoteRunner) Probe(ctx context.Context) (placement.Report, error) {
	status, err := r.Status(ctx)
	if err == nil && status.Failed && status.ErrorCode != http.StatusServiceUnavailable {
		err = fmt.Errorf("its status is %d %s", status.ErrorCode, status.Error)
	}
	if err != nil {
		return placement.Report{}, err
	}
	return placement.Report{Active: status.Active}, nil
}
