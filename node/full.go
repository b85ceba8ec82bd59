package node

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/internal/catalog"
	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/gateway"
	"github.com/tinefn/tine/internal/metrics"
	"github.com/tinefn/tine/internal/pool"
	"github.com/tinefn/tine/internal/runner"
	"github.com/tinefn/tine/internal/sockdir"
	"github.com/tinefn/tine/internal/store"
	"github.com/tinefn/tine/internal/syslog"
	"github.com/tinefn/tine/model"
)

// buildFull builds a node that does everything: definitions, and above them
//
//	gateway -> catalog -> definitions
//	gateway -> runner -> pool -> driver
func (n *Node) buildFull(ctx context.Context, router *edge.Router) error {
	definitions, err := n.openStore(ctx)
	if err != nil {
		return err
	}
	local, err := n.buildLocal(ctx)
	if err != nil {
		return err
	}
	invoker := n.extend(local, whenHeld)
	targets := catalog.New(n.heard(definitions), catalog.DefaultTTL)
	standby := runner.NewStandby(local, definitions)
	n.stack.push("minimum instances", func(context.Context) error { standby.Close(); return nil })
	calls := gateway.New(gateway.Options{
		Catalog: targets, Invoker: invoker,
		Logger: n.log, MaxDetachedBytes: n.config.Runner.MaxDetachedBytes,
		Override: n.opts.Override, NoInvoke: n.opts.OmitInvoke, NoTriggers: n.opts.OmitTriggers,
	})
	n.stack.push("detached calls", calls.Close)
	calls.Register(router)
	standby.Start()
	return n.serveDefinitions(router, store.Notify(definitions, func(change store.Change) {
		targets.Forget()
		tell(standby, change)
	}))
}

// buildLocal makes what executes calls on this machine, from the driver up.
func (n *Node) buildLocal(ctx context.Context) (*runner.Runner, error) {
	size, err := n.measureMachine()
	if err != nil {
		return nil, err
	}
	engine, err := n.openDriver(ctx, &size)
	if err != nil {
		return nil, err
	}
	instances, err := n.buildPool(engine, size)
	if err != nil {
		return nil, err
	}
	local, err := n.buildRunner(instances)
	if err != nil {
		return nil, err
	}
	return local, n.serveRegistry(instances)
}

// tell passes a change of definitions on to who keeps instances.
func tell(standby *runner.Standby, change store.Change) {
	switch {
	case change.AppID != "" && change.Removed:
		standby.AppRemoved(change.AppID)
	case change.AppID != "":
		standby.AppChanged(change.AppID)
	case change.FnID != "" && change.Removed:
		standby.FnRemoved(change.FnID)
	case change.FnID != "":
		standby.FnChanged(change.FnID)
	}
}

// measureMachine finds out what the machine has for containers.
func (n *Node) measureMachine() (capacity.Sizing, error) {
	c := n.config.Runner
	size, err := capacity.Host(os.DirFS("/"), runtime.NumCPU(), capacity.Limits{MaxMemoryBytes: c.MaxMemoryBytes, MaxMilliCPU: c.MaxMilliCPU})
	if err != nil {
		return size, fmt.Errorf("size of this machine: %w", err)
	}
	for _, text := range size.Warnings {
		n.log.Warn(text)
	}
	return size, nil
}

// buildPool makes the pool of instances, as large as the machine allows.
func (n *Node) buildPool(engine driver.Driver, size capacity.Sizing) (*pool.Pool, error) {
	c := n.config.Runner
	n.log.Info("available memory", slog.Int64("bytes", size.Total.MemoryBytes), slog.Int64("milli_cpu", size.Total.MilliCPU),
		slog.String("because", size.Explanation))
	opts := sockdir.Options{Root: n.config.Sockets.Path, EngineRoot: n.config.Sockets.EnginePath, Logger: n.log}
	if engine.Capabilities().SocketFiles {
		opts.Memory = sockdir.Memory{Bytes: n.config.Engine.Sandbox.SocketBytes, Inodes: n.config.Engine.Sandbox.SocketInodes}
	}
	sockets, err := sockdir.New(opts)
	if err != nil {
		return nil, err
	}
	n.stack.push("socket directories", func(context.Context) error { return sockets.Close() })
	instances := pool.New(pool.Options{
		Driver: engine, Logger: n.log, Observer: metrics.NewInstances(n.registry), Total: size.Total, NewSession: runner.NewSession,
		Sockets: func() (pool.SocketDir, error) {
			dir, err := sockets.Create()
			if err != nil {
				return nil, err // not a nil *Dir, which would be no nil SocketDir
			}
			return dir, nil
		},
		StartTimeout: c.StartTimeout, QueueTimeout: c.QueueTimeout, QueueSize: c.QueueSize, FailFast: c.FailFast,
		FreezeAfter: c.FreezeAfter, YieldAfter: c.YieldAfter, StockPercent: c.StockPercent, ImageRefresh: c.ImageRefresh,
	})
	metrics.RegisterLevels(n.registry, instances)
	return instances, nil
}

// runtimes are those that functions may ask for.
func (n *Node) runtimes() []string {
	allowed := slices.Clone(n.config.Engine.Runtimes)
	if own := n.config.Engine.Runtime; own != "" && !slices.Contains(allowed, own) {
		allowed = append(allowed, own)
	}
	return allowed
}

// buildRunner makes the local invoker, which stops after its pool.
func (n *Node) buildRunner(instances *pool.Pool) (*runner.Runner, error) {
	hostname, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("name of this machine: %w", err)
	}
	c := n.config.Runner
	lines := syslog.NewHub(hostname, n.log)
	n.stack.push("syslog", func(context.Context) error { lines.Close(); return nil })
	local := runner.New(runner.Options{
		Pool: instances, Logger: n.log, Hostname: hostname, Scale: model.Scale(c.Scale),
		Runtimes: n.runtimes(), InstanceKey: n.keys, Override: n.opts.Override,
		Observer: metrics.NewCalls(n.registry), LogOutput: c.LogOutput, MaxLogBytes: c.MaxLogBytes, Syslog: lines,
		Limits: driver.Limits{
			Processes: c.Processes, DiskMiB: c.DiskMiB, OpenFiles: c.OpenFiles, LockedMemoryBytes: c.LockedMemoryBytes,
			PendingSignals: c.PendingSignals, MessageQueueBytes: c.MessageQueueBytes, TmpInodes: c.TmpInodes,
		},
		Security:         driver.Security{Unprivileged: !c.Privileged, ReadOnlyRoot: !c.WritableRoot, Init: true},
		MaxResponseBytes: c.MaxResponseBytes, MaxResponseHeaderBytes: c.MaxResponseHeaderBytes, HoldBytes: c.ResponseHoldBytes,
	})
	n.stack.push("instances", func(ctx context.Context) error {
		err := instances.Close(ctx)
		local.Close()
		return err
	})
	return local, nil
}
