package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/docker"
	"github.com/tinefn/tine/driver/native"
	"github.com/tinefn/tine/driver/native/network"
	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/internal/config"
	"github.com/tinefn/tine/internal/metrics"
)

// openNative makes the driver that needs no engine. It takes images over from a
// Docker engine if there is one. The memory of sandboxes that wait is taken from the
// size.
func (n *Node) openNative(size *capacity.Sizing) (driver.Driver, error) {
	c := n.config.Engine
	if c.Runtime != "" || len(c.Runtimes) > 0 {
		return nil, errors.New("FN_CONTAINER_RUNTIME or FN_CONTAINER_RUNTIMES_ALLOWED is set, and the native driver runs containers itself: unset them, or set FN_DRIVER=docker")
	}
	engine, err := docker.Connect(dockerConnection(n.config))
	if err != nil {
		return nil, fmt.Errorf("an engine to take images from: %w", err)
	}
	pool := n.sandboxPool(*size)
	opts := nativeSandboxes(n.config)
	opts.Engine, opts.Logger, opts.EnableVolumes = engine, n.log, c.EnableVolumes
	opts.Auth, opts.ConfigDir, opts.AppAuthDir, opts.StateDir = c.Auth, c.ConfigDir, c.AppAuthDir, c.StateDir
	opts.AccessTTL, opts.PullRetries = cmp.Or(c.AccessTTL, -1), c.PullRetries
	opts.AskTimeout, opts.PullTimeout = c.CallTimeout, cmp.Or(n.config.Runner.PullTimeout, forever)
	opts.Pool = pool
	port, err := n.listenRegistry()
	if err != nil {
		return nil, errors.Join(settingsError{err}, engine.Close())
	}
	opts.RegistryHosts = port.names()
	opts.MaxImageBytes, opts.ExemptImages, opts.LoadFile = c.MaxImageBytes, c.ExemptImages, c.LoadFile
	made, err := native.New(opts)
	if err != nil {
		return nil, errors.Join(err, engine.Close(), port.close())
	}
	if made.PoolLevels() != nil {
		size.Reserve(int64(pool.MaxReady)*native.WaitingBytes(), "sandboxes that wait")
	}
	n.registryOf(port, made)
	metrics.RegisterPreforkLevels(n.registry, made.PoolLevels)
	if c.MaxImageBytes > 0 {
		metrics.RegisterImages(n.registry, made.ImageStats)
	}
	return made, nil
}

// sandboxUsers are the driver's words for what is set.
var sandboxUsers = map[config.SandboxUsers]native.Users{
	config.SandboxUsersAuto: native.UsersAuto, config.SandboxUsersOwn: native.UsersOwn, config.SandboxUsersHost: native.UsersHost,
}

// nativeSandboxes is what the settings say of sandboxes.
func nativeSandboxes(c *config.Config) native.Options {
	set := c.Engine.Sandbox
	return native.Options{
		Dir:   filepath.Join(c.Engine.StateDir, "native"),
		Users: sandboxUsers[set.Users], FirstID: set.FirstID, LastID: set.LastID,
		Network: network.Options{
			Bridge: set.Bridge, Subnet: set.Subnet, Nameservers: set.DNS, AllowHost: set.AllowHost, AllowPrivate: set.AllowPrivate,
		},
	}
}

func examineNative(ctx context.Context, c *config.Config) []driver.Finding {
	return native.Examine(ctx, nativeSandboxes(c))
}

// sandboxPool is what the settings and the machine make of the pool of sandboxes.
func (n *Node) sandboxPool(size capacity.Sizing) native.Pool {
	c := n.config.Engine
	most := c.Sandbox.MaxReady
	if most == config.PreforkAuto {
		most = poolByMemory(size, native.WaitingBytes(), c.Sandbox.Min, sandboxesMost)
	}
	pool := native.Pool{
		Min: c.Sandbox.Min, Max: c.Sandbox.Max, MaxReady: min(most, c.Sandbox.Max), AppShare: c.Pool.AppShare,
		Short: n.shortage(), Observer: n.preforkMetrics(),
	}
	if pool.MaxReady == 0 {
		pool.Max = 0 // none may wait
	}
	return pool
}

// registryOf makes the port one of the driver's images.
func (n *Node) registryOf(port *registryPort, images *native.Driver) {
	if port == nil {
		return
	}
	n.registryPort = port
	n.stack.push("the port of the registry", port.server.Stop) // unless serveRegistry comes that far
	c := n.config.Engine.Registry
	port.open = func(accept func(context.Context, string, string) bool, pushed func(context.Context, func(string) bool)) (servedRegistry, error) {
		return images.Registry(native.RegistryOptions{
			Accept: accept, Pushed: pushed,
			BlobBytes: c.MaxBlobBytes, Uploads: c.MaxUploads, UploadTimeout: c.UploadTimeout, BodyTimeout: c.BodyTimeout,
		})
	}
}
