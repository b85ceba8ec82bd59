//go:build linux

package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/native/network"
	"github.com/tinefn/tine/driver/prefork"
	"github.com/tinefn/tine/internal/image"
)

// container is one sandbox with a spec.
type container struct {
	driver *Driver
	spec   *driver.Spec
	image  *image.Lease
	unit   *unit
	lease  *prefork.Lease // nil: the unit is the container's own

	awaited func()        // ends that somebody waits for it to be started
	started chan struct{} // closed when the function's program runs
	removed chan struct{} // closed when nothing is left
	copied  chan struct{} // closed when all of the output was read
	copying atomic.Int32  // outputs that are being read

	startOnce, removeOnce sync.Once
	ended                 atomic.Bool // by Stop or Remove, or about to be
	removing              atomic.Bool // by Remove, for good
}

var (
	_ driver.Container   = (*container)(nil)
	_ driver.MemoryMeter = (*container)(nil)
)

// Create takes a sandbox from the pool, or makes one if there is none.
func (d *Driver) Create(ctx context.Context, spec *driver.Spec) (_ driver.Container, err error) {
	d.mu.Lock()
	closed := d.closed
	d.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	c := &container{driver: d, spec: spec, awaited: d.lull.Await(), started: make(chan struct{}), copied: make(chan struct{}), removed: make(chan struct{})}
	defer func() {
		if err != nil {
			c.awaited()
		}
	}()
	name := spec.Image
	if spec.ImageID != "" {
		name = spec.ImageID
	}
	if c.image, err = d.images.Acquire(name); err != nil {
		if errors.Is(err, image.ErrNotFound) {
			err = fmt.Errorf("%w: %w", driver.ErrImageNotFound, err)
		}
		return nil, fmt.Errorf("create container %s: %w", spec.ID, err)
	}
	if err := c.takeSandbox(ctx); err != nil {
		c.image.Release()
		return nil, fmt.Errorf("create container %s: %w", spec.ID, err)
	}
	if !d.remember(c) {
		return nil, errors.Join(errClosed, c.Remove(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// takeSandbox finds the container a sandbox.
func (c *container) takeSandbox(ctx context.Context) (err error) {
	class := network.Egress
	if c.spec.Security.NoNetwork {
		class = network.None
	}
	if pool := c.driver.pool; pool != nil && class == network.Egress {
		for lease := pool.Lease(c.spec.Tenant, c.drain); lease != nil; lease = pool.Lease(c.spec.Tenant, c.drain) {
			if ready, ok := lease.Item().(*unit); ok && !ready.box.Ended() {
				c.lease = lease
				c.take(ready)
				return nil
			}
			lease.Broken() // the kernel has ended it, as the machine had no memory
		}
	}
	made, err := c.driver.make(ctx, c.spec.ID, class)
	if err == nil {
		c.take(made)
	}
	return err
}

// take makes a sandbox the container's.
func (c *container) take(u *unit) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.taken = true
	c.unit = u
}

// drain tells who uses the container that it lost its network.
func (c *container) drain() {
	if c.spec.OnDrain != nil {
		c.spec.OnDrain()
	}
}

// ID is the name that was given.
func (c *container) ID() string { return c.spec.ID }

// Start runs the function's program.
func (c *container) Start(ctx context.Context) error {
	defer c.awaited()
	err := c.live()
	if err == nil {
		err = c.start(ctx)
		if gone := c.live(); err != nil && gone != nil {
			err = gone // Remove has overtaken it
		}
	}
	if err != nil {
		return fmt.Errorf("start container %s: %w", c.spec.ID, driver.Exhausted(err))
	}
	c.copying.Store(2)
	go c.copy(c.unit.box.Stdout, c.spec.Stdout)
	go c.copy(c.unit.box.Stderr, c.spec.Stderr)
	c.startOnce.Do(func() { close(c.started) })
	return nil
}

// copy passes on what the function prints, until it has ended and all is read. What
// nobody wants is read too, or the function would block on it.
func (c *container) copy(from *os.File, to io.Writer) {
	defer func() {
		if c.copying.Add(-1) == 0 {
			close(c.copied)
		}
	}()
	buffer := make([]byte, outputBuffer)
	for {
		n, err := from.Read(buffer)
		if n > 0 && to != nil {
			_, _ = to.Write(buffer[:n]) // a sink that fails loses its data
		}
		if err != nil {
			return
		}
	}
}

// outputBuffer is the size in bytes of the buffer that each output of a running
// container has.
const outputBuffer = 512

// Wait blocks until the process ended.
func (c *container) Wait(ctx context.Context) (driver.Exit, error) {
	gone := fmt.Errorf("wait for container %s: %w", c.spec.ID, driver.ErrGone)
	select {
	case <-c.started:
	case <-c.removed:
		return driver.Exit{}, gone
	case <-ctx.Done():
		return driver.Exit{}, fmt.Errorf("wait for container %s: %w", c.spec.ID, ctx.Err())
	}
	select {
	case <-c.unit.box.Done():
	case <-ctx.Done():
		return driver.Exit{}, fmt.Errorf("wait for container %s: %w", c.spec.ID, ctx.Err())
	}
	c.awaitOutput()
	if c.live() != nil {
		return driver.Exit{}, gone // its end is Remove's doing, or nobody's business any more
	}
	status := c.unit.box.Status()
	exit := driver.Exit{Code: status.Code}
	if status.Signal {
		exit.Code += signalBase
	}
	if exit.Code == signalBase+int(unix.SIGKILL) && !c.ended.Load() {
		kills, err := c.unit.group.OutOfMemory()
		exit.OutOfMemory = err == nil && kills > 0
	}
	return exit, nil
}

// signalBase is added to the number of a signal that ended a process, see
// driver.Exit.
const signalBase = 128

// errEnded is for containers whose process has ended.
var errEnded = errors.New("its process has ended")

// live tells whether there is still something to do anything with.
func (c *container) live() error {
	if c.removing.Load() {
		return driver.ErrGone
	}
	return nil
}

// running is live and not ended.
func (c *container) running() error {
	select {
	case <-c.unit.box.Done():
		if err := c.live(); err != nil {
			return err
		}
		return errEnded
	default:
		return c.live()
	}
}

// Freeze stops the processes.
func (c *container) Freeze(ctx context.Context) error {
	return c.freezing("freeze", func() error { return c.unit.group.Freeze(ctx) })
}

// Thaw lets the processes go on.
func (c *container) Thaw(ctx context.Context) error {
	return c.freezing("thaw", func() error { return c.unit.group.Thaw(ctx) })
}

func (c *container) freezing(what string, do func() error) error {
	err := c.running()
	if err == nil {
		if err = do(); err != nil || c.removing.Load() {
			if ended := c.running(); ended != nil {
				err = ended // which is why
			}
		}
	}
	if err != nil {
		return fmt.Errorf("%s container %s: %w", what, c.spec.ID, err)
	}
	return nil
}

// HeldMemory is what the control group counts.
func (c *container) HeldMemory() (int64, error) { return c.unit.group.HeldMemory() }

// Stop sends SIGTERM, and SIGKILL after a second or when ctx ends.
func (c *container) Stop(ctx context.Context) error {
	c.ended.Store(true)
	err := errors.Join(c.unit.group.Thaw(context.WithoutCancel(ctx)), c.unit.box.Signal(unix.SIGTERM))
	timer := time.NewTimer(DefaultStopGrace)
	defer timer.Stop()
	select {
	case <-c.unit.box.Done():
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	if killErr := c.unit.group.Kill(); killErr != nil {
		return fmt.Errorf("stop container %s: %w", c.spec.ID, errors.Join(err, killErr))
	}
	if err := c.unit.box.AwaitEnd(context.WithoutCancel(ctx)); err != nil { // nothing outlives its process 1
		return fmt.Errorf("stop container %s: %w", c.spec.ID, err)
	}
	return nil
}

// Remove ends the container and all that belongs to it.
func (c *container) Remove(ctx context.Context) error {
	c.ended.Store(true)
	c.removing.Store(true)
	c.awaited()
	if err := c.unit.Remove(ctx); err != nil {
		return fmt.Errorf("remove container %s: %w", c.spec.ID, err)
	}
	c.removeOnce.Do(func() {
		c.finishOutput()
		if c.lease != nil {
			c.lease.Release()
		}
		c.image.Release()
		c.driver.forget(c)
		close(c.removed)
	})
	return nil
}

// lastOutput is how long the rest of the output of a container that was killed may
// take to be read.
const lastOutput = time.Second

// awaitOutput waits until all that the function printed was passed on. That takes
// no time when its processes have ended, unless the sink does.
func (c *container) awaitOutput() {
	timer := time.NewTimer(lastOutput)
	defer timer.Stop()
	select {
	case <-c.copied:
	case <-timer.C:
	}
}

// finishOutput ends the copying of the output.
func (c *container) finishOutput() {
	select {
	case <-c.started:
		c.awaitOutput()
	default: // nobody reads it
	}
	_ = c.unit.box.Stdout.Close() // which ends a read
	_ = c.unit.box.Stderr.Close()
	select {
	case <-c.started:
		<-c.copied
	default:
	}
}
