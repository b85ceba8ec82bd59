package node

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/docker"
	"github.com/tinefn/tine/internal/breaker"
	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/internal/config"
	"github.com/tinefn/tine/internal/metrics"
)

// forever is a timeout that never comes.
const forever time.Duration = math.MaxInt64

// openDriver opens what runs containers, and takes the memory that its pool needs.
func (n *Node) openDriver(ctx context.Context, size *capacity.Sizing) (driver.Driver, error) {
	engine, err := n.opts.Driver, error(nil)
	if engine == nil {
		engine, err = n.openNamed(ctx, size)
	}
	if err != nil {
		return nil, err
	}
	layers := []driver.Driver{engine}
	for _, wrap := range n.opts.WrapDriver {
		engine = wrap(engine)
		layers = append(layers, engine)
	}
	n.keys = instanceKey(layers)
	n.stack.push("the container engine", engine.Close)
	can := engine.Capabilities()
	n.log.Info("container engine", slog.String("driver", can.Name), slog.String("version", can.Version))
	guarded := breaker.New(engine, breaker.Options{
		Failures: n.config.Engine.Failures, MaxPause: n.config.Engine.MaxPause, Logger: n.log,
	})
	metrics.RegisterCircuit(n.registry, guarded.Open)
	return guarded, nil
}

// openDocker connects to a Docker engine.
func (n *Node) openDocker(ctx context.Context, size *capacity.Sizing) (driver.Driver, error) {
	c := n.config.Engine
	pool, err := n.preforkPool(*size)
	if err != nil {
		return nil, err
	}
	seen := metrics.NewEngine(n.registry)
	made, err := docker.New(ctx, docker.Options{
		Host: c.Host, CertPath: c.CertPath, TLSVerify: c.TLSVerify, Logger: n.log,
		Auth: c.Auth, ConfigDir: c.ConfigDir, AppAuthDir: c.AppAuthDir, LoadFile: c.LoadFile,
		StateDir: c.StateDir, AccessTTL: cmp.Or(c.AccessTTL, -1), MaxStarts: c.MaxStarts,
		CallTimeout: c.CallTimeout, PullTimeout: cmp.Or(n.config.Runner.PullTimeout, forever),
		Networks: c.Networks, LabelTag: c.LabelTag, EnableVolumes: c.EnableVolumes,
		MaxImageBytes: c.MaxImageBytes, ExemptImages: c.ExemptImages,
		Runtime: c.Runtime, Runtimes: c.Runtimes, PullRetries: c.PullRetries, Prefork: pool,
		Observe: seen.Request, Retried: seen.Retried,
	})
	if err != nil {
		return nil, err
	}
	if made.PreforkLevels() != nil {
		size.Reserve(int64(pool.Max)*docker.PlaceholderBytes, "network namespaces")
	}
	metrics.RegisterPreforkLevels(n.registry, made.PreforkLevels)
	if c.MaxImageBytes > 0 {
		metrics.RegisterImages(n.registry, made.ImageStats)
	}
	metrics.RegisterInstanceID(n.registry, made.InstanceID())
	n.log.Info("instance of this server", slog.String("tine.instance", made.InstanceID()))
	return made, nil
}

// The largest sizes of pools that depend on the machine: a share of the memory for
// functions, and no more than a node of any size makes use of.
const (
	poolMemoryShare = 20
	preforkMost     = 64
	sandboxesMost   = 128
)

// preforkPool is what the settings and the machine make of the prefork pool.
func (n *Node) preforkPool(size capacity.Sizing) (docker.Prefork, error) {
	c := n.config.Engine.Prefork
	hostname, err := os.Hostname()
	if err != nil {
		return docker.Prefork{}, fmt.Errorf("name of this machine: %w", err)
	}
	most := c.Max
	if most == config.PreforkAuto {
		most = poolByMemory(size, docker.PlaceholderBytes, c.Min, preforkMost)
	}
	return docker.Prefork{
		Min: c.Min, Max: most, Networks: c.Networks, UseOnce: c.UseOnce,
		Quarantine: cmp.Or(c.Quarantine, -1), KeepUsed: cmp.Or(c.KeepUsed, -1),
		AppShare: n.config.Engine.Pool.AppShare, Short: n.shortage(),
		Image: c.Image, Command: c.Command, Hostname: hostname, Observer: n.preforkMetrics(),
	}, nil
}

// preforkMetrics are those of the pool, of whichever driver.
func (n *Node) preforkMetrics() *metrics.Prefork {
	if n.prefork == nil {
		n.prefork = metrics.NewPrefork(n.registry)
	}
	return n.prefork
}

// poolByMemory is how many things that wait a machine has the memory for.
func poolByMemory(size capacity.Sizing, bytesEach int64, least, most int) int {
	return max(int(min(size.Total.MemoryBytes/poolMemoryShare/bytesEach, int64(most))), least)
}

// shortage tells when the machine is short of what a pool takes.
func (n *Node) shortage() func() (processors, memory bool) {
	c := n.config.Engine.Pool
	return capacity.Pressure{System: os.DirFS("/"), CPUs: runtime.NumCPU(), Limits: capacity.PressureLimits{
		CPUPercent: c.CPUPercent, MemoryPercent: c.MemoryPercent, MinFreeBytes: c.MinFreeBytes,
	}}.Short
}
