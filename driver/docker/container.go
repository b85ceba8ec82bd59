package docker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
)

// stopGrace is how long the engine waits between SIGTERM and SIGKILL: the
// shortest time other than none that its API knows, in seconds.
const stopGrace = 1

// killedCode is the exit code of a process that SIGKILL ended.
const killedCode = 137

// engineContainer is one container of the engine.
type engineContainer struct {
	driver *Driver
	name   string // the spec's ID
	spec   *driver.Spec
	id     atomic.Pointer[string] // the engine's; another one if it had to be made again
	output atomic.Pointer[output] // nil: not attached

	connection connection    // guarded by the driver's mutex, once Create has returned
	awaited    func()        // nobody waits for it any more; may be repeated
	joins      int           // namespaces of the prefork pool that it tried
	lost       time.Duration // with those that were gone

	ended    atomic.Bool             // by Stop or Remove, or about to be
	removing atomic.Bool             // by Remove, for good
	freezer  atomic.Pointer[freezer] // nil before the first Freeze

	startOnce, removeOnce sync.Once
	started, removed      chan struct{} // closed when that was done
}

var _ driver.Container = (*engineContainer)(nil)

// Create makes a container.
//
// The request goes on when the caller leaves: the engine does not stop making
// a container because nobody waits for the answer, so somebody must be there
// to remove it.
func (d *Driver) Create(ctx context.Context, spec *driver.Spec) (driver.Container, error) {
	if !d.begin() {
		return nil, errClosed
	}
	c := &engineContainer{
		driver: d, name: spec.ID, spec: spec, awaited: d.starts.lull.Await(),
		started: make(chan struct{}), removed: make(chan struct{}),
	}
	result := make(chan error)
	go func() { // Close waits for it through begin
		defer d.wg.Done()
		err := c.create()
		select {
		case result <- err:
		case <-ctx.Done(): // the caller has left, or is about to
			if err == nil {
				err = c.Remove(d.creation)
			}
			if err != nil {
				d.log.Warn("creation was abandoned", slog.String("container_id", c.name), slog.Any("error", err))
			}
		}
	}()
	select {
	case err := <-result:
		if err != nil {
			return nil, err
		}
		return c, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("create container %s: %w", spec.ID, ended(ctx))
	}
}

// create makes the container, or leaves nothing.
func (c *engineContainer) create() error {
	d := c.driver
	d.cleaner.hold(d.creation, imageOf(c.spec))
	c.connection = d.connect(c)
	err := c.make(d.creation)
	if err == nil && !d.remember(c) {
		err = errClosed
		if failed := c.Remove(d.creation); failed != nil {
			d.mayLeave.Store(true)
			err = errors.Join(errClosed, failed)
		}
	}
	if err != nil {
		c.awaited()
		d.disconnect(c.connection)
		d.cleaner.release(imageOf(c.spec))
	}
	return err
}

// make asks the engine to make the container, with another namespace if the one
// that it was to join is gone. Only what the engine refused is repeated: a
// creation without an answer may have happened, and is being undone by name.
func (c *engineContainer) make(ctx context.Context) error {
	began := time.Now()
	err := c.request()
	for err != nil && answered(err) && c.lostNamespace(ctx) {
		c.lost += time.Since(began)
		c.reconnect()
		began = time.Now()
		err = c.request()
	}
	return err
}

// request asks the engine to make the container.
func (c *engineContainer) request() error {
	d := c.driver
	options, err := d.createOptions(d.creation, c.spec, c.connection.mode)
	if err != nil {
		return err
	}
	callCtx, cancel := d.deadline(d.creation)
	defer cancel()
	result, err := d.engine.ContainerCreate(callCtx, options)
	if err != nil && answered(err) && options.HostConfig.StorageOpt != nil && !errdefs.IsNotFound(err) {
		// Few storage drivers can limit a container's layer, and only an
		// attempt tells which.
		d.warnDisk.Do(func() {
			d.log.Warn("the engine cannot limit the disk space of containers", slog.Any("error", err))
		})
		options.HostConfig.StorageOpt = nil
		result, err = d.engine.ContainerCreate(callCtx, options)
	}
	if err == nil {
		c.id.Store(&result.ID)
		return nil
	}
	return d.notCreated(callCtx, "container", c.name, err)
}

// notCreated says why the engine has not made a container of some kind. One that
// it may have made without saying so is removed.
func (d *Driver) notCreated(callCtx context.Context, kind, name string, err error) error {
	if !answered(err) {
		d.removeStray(name)
	}
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("create %s %s: %w: %w", kind, name, driver.ErrImageNotFound, err)
	}
	return failure(callCtx, "create "+kind+" "+name, err)
}

// ID is the engine's identifier.
func (c *engineContainer) ID() string { return *c.id.Load() }

// Start attaches to the output, if somebody wants it, and starts the process.
// If the namespace that the container was to join is gone, it is made again
// with another one.
func (c *engineContainer) Start(ctx context.Context) error {
	defer c.awaited()
	leave, err := c.driver.starts.enter(ctx)
	if err != nil {
		return fmt.Errorf("start container %s: %w", c.name, err)
	}
	defer leave()
	began := time.Now()
	err = c.start(ctx)
	for err != nil && c.lostNamespace(ctx) {
		c.lost += time.Since(began)
		if err := c.remake(ctx); err != nil {
			return err
		}
		began = time.Now()
		err = c.start(ctx)
	}
	if err != nil {
		return err
	}
	if lease := c.lease(); lease != nil {
		lease.Joined(c.lost)
	}
	c.startOnce.Do(func() { close(c.started) })
	c.joined()
	return nil
}

func (c *engineContainer) start(ctx context.Context) error {
	what := "start container " + c.name
	callCtx, cancel := c.driver.deadline(ctx)
	defer cancel()
	if (c.spec.Stdout != nil || c.spec.Stderr != nil) && c.output.Load() == nil {
		if err := c.attach(callCtx); err != nil {
			return failure(callCtx, what, err)
		}
	}
	if _, err := c.driver.engine.ContainerStart(callCtx, c.ID(), client.ContainerStartOptions{}); err != nil {
		switch {
		case errdefs.IsInvalidArgument(err): // of a program, a user or a directory that the image does not have
			return fmt.Errorf("%s: %w: %s", what, driver.ErrProgram, message(err))
		case errdefs.IsNotFound(err) && c.exists(callCtx): // the engine says "not found" of a network as well
			return fmt.Errorf("%s: %s", what, message(err))
		}
		return failure(callCtx, what, err)
	}
	return nil
}

func (c *engineContainer) exists(ctx context.Context) bool {
	_, err := c.driver.engine.ContainerInspect(ctx, c.ID(), client.ContainerInspectOptions{})
	return err == nil
}

// Wait blocks until the process ended. The engine calls a container that was
// not started yet "not running", hence the wait for the start. The request for
// the exit code costs a connection and three goroutines while it waits, so it
// is made when the output ended, which does not mean that the process did.
func (c *engineContainer) Wait(ctx context.Context) (driver.Exit, error) {
	what := "wait for container " + c.name
	select {
	case <-c.started:
	case <-c.removed:
		return driver.Exit{}, fmt.Errorf("%s: %w", what, driver.ErrGone)
	case <-ctx.Done():
		return driver.Exit{}, fmt.Errorf("%s: %w", what, ended(ctx))
	}
	if o := c.output.Load(); o != nil { // its end says nearly always that the process ended
		select {
		case <-o.done:
		case <-ctx.Done():
			return driver.Exit{}, fmt.Errorf("%s: %w", what, ended(ctx))
		}
	}
	code, err := c.awaitExit(ctx)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return driver.Exit{}, fmt.Errorf("%s: %w", what, ended(ctx))
	case errdefs.IsNotFound(err):
		return driver.Exit{}, fmt.Errorf("%s: %w", what, driver.ErrGone)
	default: // whatever it was, the caller has to ask again
		return driver.Exit{}, fmt.Errorf("%s: %w: %w", what, driver.ErrUnavailable, err)
	}
	if code != killedCode {
		return driver.Exit{Code: code}, nil
	}
	callCtx, cancel := c.driver.deadline(ctx)
	defer cancel()
	state, err := c.driver.engine.ContainerInspect(callCtx, c.ID(), client.ContainerInspectOptions{})
	if err != nil {
		return driver.Exit{}, failure(callCtx, what, err)
	}
	recorded := state.Container.State != nil && state.Container.State.OOMKilled
	presumed := !recorded && c.looksOutOfMemory()
	return driver.Exit{Code: code, OutOfMemory: recorded || presumed, Presumed: presumed}, nil
}

// looksOutOfMemory guesses why SIGKILL ended a process when the engine has not
// recorded the memory limit as the reason. Engines miss that: Docker 20.10
// does for about one container in fifteen that ends for its limit, and does not
// make up for it later. So a process that has a limit, and that this driver
// did not end, is presumed to be out of memory, although somebody else may have
// killed it.
func (c *engineContainer) looksOutOfMemory() bool {
	return c.spec.Limits.MemoryBytes > 0 && !c.ended.Load()
}

// awaitExit is the long request for the exit code.
func (c *engineContainer) awaitExit(ctx context.Context) (int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began := time.Now()
	// The engine accepts the request at once; only its answer has no deadline.
	accepted := time.AfterFunc(c.driver.opts.CallTimeout, func() { cancel(errNoAnswer) })
	wait := c.driver.engine.ContainerWait(ctx, c.ID(), client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	accepted.Stop()
	// One of the channels delivers for sure: the end of ctx breaks the request.
	select {
	case err := <-wait.Error:
		c.driver.opts.Observe("docker_wait_container", time.Since(began), err)
		return 0, err
	case exit := <-wait.Result:
		c.driver.opts.Observe("docker_wait_container", time.Since(began), nil)
		if exit.Error != nil {
			return 0, errors.New(exit.Error.Message)
		}
		return int(exit.StatusCode), nil
	}
}

// Stop sends SIGTERM, and SIGKILL after a second or when ctx ends.
func (c *engineContainer) Stop(ctx context.Context) error {
	what := "stop container " + c.name
	c.ended.Store(true)
	thawErr := c.thawForEnd()
	callCtx, cancel := c.driver.deadline(ctx)
	defer cancel()
	_, err := c.driver.engine.ContainerStop(callCtx, c.ID(), client.ContainerStopOptions{Timeout: new(stopGrace)})
	if err == nil {
		return nil
	}
	if ctx.Err() == nil {
		return errors.Join(failure(callCtx, what, err), thawErr)
	}
	killCtx, cancelKill := c.driver.deadline(context.WithoutCancel(ctx))
	defer cancelKill()
	_, err = c.driver.engine.ContainerKill(killCtx, c.ID(), client.ContainerKillOptions{Signal: "SIGKILL"})
	if err == nil || errdefs.IsConflict(err) { // conflict: it ended by itself
		return nil
	}
	return errors.Join(failure(killCtx, what, err), thawErr)
}

// Remove kills and removes the container. After an error it may be repeated,
// but the output is over.
func (c *engineContainer) Remove(ctx context.Context) error {
	c.awaited()
	c.ended.Store(true)
	c.removing.Store(true)
	thawErr := c.thawForEnd()
	err := c.driver.removeByName(ctx, c.ID())
	if o := c.output.Load(); o != nil {
		o.finish()
	}
	if err != nil && !errors.Is(err, driver.ErrGone) {
		return errors.Join(err, thawErr)
	}
	c.driver.forget(c)
	c.removeOnce.Do(func() { close(c.removed) })
	return nil
}

// removeByName kills and removes a container with its anonymous volumes. It
// returns driver.ErrGone if there is none.
func (d *Driver) removeByName(ctx context.Context, nameOrID string) error {
	callCtx, cancel := d.deadline(ctx)
	defer cancel()
	_, err := d.engine.ContainerRemove(callCtx, nameOrID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	return failure(callCtx, "remove container "+nameOrID, err)
}
