package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tinefn/tine/driver"
)

// Exit codes of processes that a signal ended.
const (
	killedCode     = 137
	terminatedCode = 143
)

// Container is one container of the fake engine.
type Container struct {
	engine *Engine
	number int
	spec   *driver.Spec
	script Script

	process    context.Context // ends when the process is killed or ended
	kill       context.CancelFunc
	wg         sync.WaitGroup // the process and its connections
	terminated chan struct{}  // closed by SIGTERM
	exited     chan struct{}  // closed when exit is set
	removed    chan struct{}  // closed by removal

	mu             sync.Mutex // guards the rest
	started        bool
	exit           driver.Exit
	thawed         chan struct{} // nil: not frozen; closed by thawing
	removeFailures int           // so far
}

var _ driver.Container = (*Container)(nil)

func newContainer(e *Engine, number int, spec *driver.Spec, script Script) *Container {
	c := &Container{
		engine: e, number: number, spec: spec, script: script,
		terminated: make(chan struct{}), exited: make(chan struct{}), removed: make(chan struct{}),
	}
	c.process, c.kill = context.WithCancel(context.Background())
	return c
}

// ID is made of the container's number.
func (c *Container) ID() string { return fmt.Sprintf("fake-%d", c.number) }

// Doom stands for the loss of something that the container needs.
func (c *Container) Doom() {
	if c.spec.OnDrain != nil {
		c.spec.OnDrain()
	}
}

// Spec is what the container was made from.
func (c *Container) Spec() *driver.Spec { return c.spec }

// Frozen reports whether the container is frozen.
func (c *Container) Frozen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.thawed != nil
}

// Removed reports whether the container was removed.
func (c *Container) Removed() bool { return isClosed(c.removed) }

// HeldMemory is what the script says.
func (c *Container) HeldMemory() (int64, error) {
	if c.script.HeldMemory == 0 {
		return 0, errors.ErrUnsupported
	}
	return c.script.HeldMemory, nil
}

// Kill ends the container's process from outside, as the kernel would.
func (c *Container) Kill(exit driver.Exit) { c.end(exit) }

// enter begins an operation on a container that exists.
func (c *Container) enter(ctx context.Context, op Op) error {
	if err := c.engine.enter(ctx, op, c.script.Hang); err != nil {
		return err
	}
	if c.Removed() {
		return fmt.Errorf("%s container %s: %w", op, c.spec.ID, driver.ErrGone)
	}
	return nil
}

// Start runs the process.
func (c *Container) Start(ctx context.Context) error {
	if err := c.enter(ctx, OpStart); err != nil {
		return err
	}
	if err := c.engine.pause(ctx, OpStart, c.script.StartDelay); err != nil {
		return err
	}
	if c.script.StartErr != nil {
		return c.script.StartErr
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Removed() { // meanwhile; removal closes the channel under the lock
		return fmt.Errorf("start container %s: %w", c.spec.ID, driver.ErrGone)
	}
	if c.started {
		return nil
	}
	c.started = true
	if c.script.Exit != nil {
		c.wg.Go(func() {
			if c.sleep(c.script.ExitAfter) {
				c.end(*c.script.Exit)
			}
		})
	}
	if c.script.Main != nil {
		c.wg.Go(c.runMain)
	} else {
		c.wg.Go(c.runFunction)
	}
	return nil
}

func (c *Container) runMain() {
	p := &Process{Spec: c.spec, Stdout: orDiscard(c.spec.Stdout), Stderr: orDiscard(c.spec.Stderr), Terminated: c.terminated}
	code := c.script.Main(c.process, p)
	c.end(driver.Exit{Code: code})
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// sleep is time passing in the process. False means that it was killed.
func (c *Container) sleep(d time.Duration) bool {
	if d <= 0 {
		return c.process.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return c.process.Err() == nil
	case <-c.process.Done():
		return false
	}
}

// end sets how the process ended, the first time, and ends it.
func (c *Container) end(exit driver.Exit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(exit)
}

func (c *Container) endLocked(exit driver.Exit) {
	if !isClosed(c.exited) {
		c.exit = exit
		close(c.exited)
	}
	c.kill()
}

// Wait blocks until the process ended.
func (c *Container) Wait(ctx context.Context) (driver.Exit, error) {
	if err := c.enter(ctx, OpWait); err != nil {
		return driver.Exit{}, err
	}
	c.engine.mu.Lock()
	down := c.engine.down
	c.engine.mu.Unlock()
	select {
	case <-c.exited:
	case <-c.removed:
	case <-down:
		return driver.Exit{}, fmt.Errorf("wait for container %s: %w", c.spec.ID, driver.ErrUnavailable)
	case <-ctx.Done():
		return driver.Exit{}, fmt.Errorf("wait for container %s: %w", c.spec.ID, ctx.Err())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !isClosed(c.exited) {
		return driver.Exit{}, fmt.Errorf("wait for container %s: %w", c.spec.ID, driver.ErrGone)
	}
	return c.exit, nil
}

// Freeze makes calls wait.
func (c *Container) Freeze(ctx context.Context) error {
	if err := c.enter(ctx, OpFreeze); err != nil {
		return err
	}
	if err := c.engine.pause(ctx, OpFreeze, c.script.FreezeDelay); err != nil {
		return err
	}
	if c.script.FreezeErr != nil {
		return c.script.FreezeErr
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started || isClosed(c.exited) || c.thawed != nil {
		return fmt.Errorf("freeze container %s: it does not run", c.spec.ID)
	}
	c.thawed = make(chan struct{})
	return nil
}

// Thaw ends Freeze.
func (c *Container) Thaw(ctx context.Context) error {
	if err := c.enter(ctx, OpThaw); err != nil {
		return err
	}
	if err := c.engine.pause(ctx, OpThaw, c.script.ThawDelay); err != nil {
		return err
	}
	if c.script.ThawErr != nil {
		return c.script.ThawErr
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.thawed == nil || isClosed(c.exited) {
		return fmt.Errorf("thaw container %s: it is not frozen", c.spec.ID)
	}
	close(c.thawed)
	c.thawed = nil
	return nil
}

// awaitThaw blocks what a frozen process does. False means that it was killed.
func (c *Container) awaitThaw() bool {
	c.mu.Lock()
	thawed := c.thawed
	c.mu.Unlock()
	if thawed == nil {
		return c.process.Err() == nil
	}
	select {
	case <-thawed:
		return c.process.Err() == nil
	case <-c.process.Done():
		return false
	}
}

// Stop sends SIGTERM: a function ends at once, a Main as it likes until it is
// killed.
func (c *Container) Stop(ctx context.Context) error {
	if err := c.enter(ctx, OpStop); err != nil {
		return err
	}
	c.mu.Lock()
	running := c.started && !isClosed(c.exited)
	if running && c.script.Main == nil {
		c.endLocked(driver.Exit{Code: terminatedCode})
		running = false
	}
	if running && !isClosed(c.terminated) {
		close(c.terminated)
	}
	c.mu.Unlock()
	if !running {
		return nil
	}
	timer := time.NewTimer(c.engine.opts.StopGrace)
	defer timer.Stop()
	select {
	case <-c.exited:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	c.end(driver.Exit{Code: killedCode})
	return nil
}

// Remove kills the process and removes the container.
func (c *Container) Remove(ctx context.Context) error {
	if err := c.engine.enter(ctx, OpRemove, c.script.Hang); err != nil {
		return err
	}
	if c.Removed() {
		return nil
	}
	if err := c.engine.pause(ctx, OpRemove, c.script.RemoveDelay); err != nil {
		return err
	}
	c.mu.Lock()
	failing := c.removeFailures < c.script.RemoveFailures
	if failing {
		c.removeFailures++
	}
	c.mu.Unlock()
	if failing {
		return fmt.Errorf("remove container %s: %w", c.spec.ID, driver.ErrUnavailable)
	}
	c.destroy()
	return nil
}

// destroy ends everything that the container is. It may be repeated.
func (c *Container) destroy() {
	c.mu.Lock()
	if c.started {
		c.endLocked(driver.Exit{Code: killedCode})
	}
	c.kill()
	if !isClosed(c.removed) {
		close(c.removed)
	}
	c.mu.Unlock()
	c.wg.Wait()
	c.engine.forget(c)
}
