package docker

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/prefork"
)

// networks hands out the least used of the configured networks.
type networks struct {
	names []string

	mu  sync.Mutex // guards use
	use []int      // containers per network of names
}

// take returns the least used network, or "" if none is configured.
func (n *networks) take() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.names) == 0 {
		return ""
	}
	least := 0
	for i, used := range n.use {
		if used < n.use[least] {
			least = i
		}
	}
	n.use[least]++
	return n.names[least]
}

// giveBack ends the use of a network that take returned.
func (n *networks) giveBack(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.names {
		if n.names[i] == name {
			n.use[i]--
			return
		}
	}
}

// connection is how a container gets its network.
type connection struct {
	mode    container.NetworkMode
	network string         // of Options.Networks, "" if none was taken
	lease   *prefork.Lease // of the namespace that it joins, nil if it has its own
	holder  *holder        // of that namespace
}

// holder is what is known of the placeholder of a namespace that was leased.
type holder struct{ dead, used bool } // guarded by the driver's mutex

// maxJoins is how many namespaces of the prefork pool a container tries to join
// before it gets one of its own.
const maxJoins = 2

// connect finds a network for a container: a namespace that is ready, or the
// least used network, in which the engine makes a namespace. Disconnect is
// called when the container is gone.
func (d *Driver) connect(c *engineContainer) connection {
	if c.spec.Security.NoNetwork {
		return connection{mode: network.NetworkNone}
	}
	if d.prefork != nil && c.joins < maxJoins && d.joins(c.spec.Runtime) {
		of := &holder{}
		if lease := d.prefork.Lease(c.spec.Tenant, func() { c.holderDied(of) }); lease != nil {
			c.joins++
			return connection{mode: container.NetworkMode("container:" + lease.ID()), lease: lease, holder: of}
		}
	}
	name := d.networks.take()
	return connection{mode: networkMode(name), network: name}
}

func (d *Driver) disconnect(used connection) {
	if used.lease != nil {
		used.lease.Release()
	}
	d.networks.giveBack(used.network)
}

// networkMode is the mode for a network's name, of which "" is the default.
func networkMode(name string) container.NetworkMode {
	if name == "" {
		return network.NetworkDefault
	}
	return container.NetworkMode(name)
}

// holderDied takes note of the death of a placeholder. Who uses the container is
// told if it runs in that namespace; one that does not run yet may get another.
func (c *engineContainer) holderDied(of *holder) {
	c.driver.mu.Lock()
	of.dead = true
	used := of.used
	c.driver.mu.Unlock()
	if used {
		c.drain()
	}
}

// joined takes note that the container runs in the namespace that it has now.
func (c *engineContainer) joined() {
	c.driver.mu.Lock()
	of := c.connection.holder
	dead := of != nil && of.dead
	if of != nil {
		of.used = true
	}
	c.driver.mu.Unlock()
	if dead {
		c.drain()
	}
}

// drain tells who uses the container that it should serve no further call.
func (c *engineContainer) drain() {
	if c.spec.OnDrain != nil {
		c.spec.OnDrain()
	}
}

// lease is the right to the namespace that the container joins, nil for none.
func (c *engineContainer) lease() *prefork.Lease {
	c.driver.mu.Lock()
	defer c.driver.mu.Unlock()
	return c.connection.lease
}

// lostNamespace finds out whether a container could not be made or started
// because the namespace that it was to join is gone.
func (c *engineContainer) lostNamespace(ctx context.Context) bool {
	lease := c.lease()
	if lease == nil {
		return false
	}
	callCtx, cancel := c.driver.deadline(ctx)
	defer cancel()
	found, err := c.driver.engine.ContainerInspect(callCtx, lease.ID(), client.ContainerInspectOptions{})
	if err != nil {
		return errdefs.IsNotFound(err)
	}
	return found.Container.State == nil || !found.Container.State.Running
}

// reconnect gets a container another network than one that is gone.
func (c *engineContainer) reconnect() {
	c.driver.log.Warn("a prepared network namespace is gone, trying another", slog.String("container_id", c.name))
	c.driver.mu.Lock()
	defer c.driver.mu.Unlock()
	if lost := c.takeConnectionLocked(); lost.lease != nil {
		lost.lease.Broken()
	}
	c.connection = c.driver.connect(c)
}

// takeConnectionLocked returns the container's connection to the one caller who
// ends it. It needs the driver's mutex.
func (c *engineContainer) takeConnectionLocked() connection {
	used := c.connection
	c.connection = connection{}
	return used
}

// remake makes a container again that could not be started for its namespace:
// the engine does not let a container move to another one.
func (c *engineContainer) remake(ctx context.Context) error {
	if err := c.driver.removeByName(ctx, c.ID()); err != nil && !errors.Is(err, driver.ErrGone) {
		return err
	}
	if o := c.output.Swap(nil); o != nil {
		o.finish()
	}
	c.reconnect()
	err := c.make(ctx)
	if !c.removing.Load() {
		return err
	}
	// Remove came too early for this one.
	if err == nil {
		err = c.driver.removeByName(context.WithoutCancel(ctx), c.ID())
	}
	c.driver.mu.Lock()
	defer c.driver.mu.Unlock()
	c.driver.disconnect(c.takeConnectionLocked())
	return errors.Join(driver.ErrGone, err)
}
