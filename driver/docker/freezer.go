package docker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/cgroupfs"
)

// A container is frozen by its control group where this process can write
// that, which takes microseconds, and otherwise by the engine, which takes
// tens of milliseconds. Which of them is found out at the first Freeze, so
// that a start does not pay for it.
//
// The engine does not know of what is done to a control group, and version 1
// keeps a frozen process from dying. So nothing may ask the engine to end a
// container before it is thawed. Remove may overtake Freeze, without a lock
// that would make it wait for a slow engine:
//
//	Freeze: remember freezer ─► freeze ─► is it being removed? then thaw
//	Remove: it is being removed ─► thaw by the remembered freezer ─► remove
//
// Whichever order the steps take, a thaw comes after the freeze.

// freezer is how a container is frozen.
type freezer struct {
	group *cgroupfs.Freezer // nil: by the engine
}

// Freeze stops the processes.
func (c *engineContainer) Freeze(ctx context.Context) error {
	what := "freeze container " + c.name
	callCtx, cancel := c.driver.deadline(ctx)
	defer cancel()
	f, err := c.findFreezer(callCtx)
	if err != nil {
		if err = failure(callCtx, what, err); errors.Is(err, driver.ErrUnavailable) {
			err = fmt.Errorf("%w: %w", driver.ErrNotFrozen, err)
		}
		return err
	}
	if c.removing.Load() {
		return fmt.Errorf("%s: %w", what, driver.ErrGone)
	}
	if f.group != nil {
		err = told(what, f.group.Freeze())
	} else {
		err = failure(callCtx, what, c.pause(callCtx))
	}
	if c.removing.Load() {
		err = errors.Join(c.thawOvertaken(ctx, f, err), driver.ErrGone)
		return fmt.Errorf("%s: %w", what, err)
	}
	return err
}

// Thaw lets the processes go on.
func (c *engineContainer) Thaw(ctx context.Context) error {
	what := "thaw container " + c.name
	callCtx, cancel := c.driver.deadline(ctx)
	defer cancel()
	err := callCtx.Err()
	if f := c.freezer.Load(); err == nil && f != nil && f.group != nil {
		err = f.group.Thaw()
		if errors.Is(err, cgroupfs.ErrEnded) && c.removing.Load() {
			err = driver.ErrGone
		}
		return told(what, err)
	}
	if err == nil { // without a Freeze before, the engine says that it is not frozen
		err = c.unpause(callCtx)
	}
	return failure(callCtx, what, err)
}

// The engine (28.2 at least) answers a pause, and its opposite, before its
// record of the container says so. One that comes right after the other is
// refused until then, a few milliseconds at most on a quiet machine.
const (
	engineLag   = 500 * time.Millisecond // after which a refusal is taken for the truth
	engineRetry = 2 * time.Millisecond
)

func (c *engineContainer) pause(ctx context.Context) error {
	return whenNoted(ctx, "is already paused", func() error {
		_, err := c.driver.engine.ContainerPause(ctx, c.ID(), client.ContainerPauseOptions{})
		return err
	})
}

func (c *engineContainer) unpause(ctx context.Context) error {
	return whenNoted(ctx, "is not paused", func() error {
		_, err := c.driver.engine.ContainerUnpause(ctx, c.ID(), client.ContainerUnpauseOptions{})
		return err
	})
}

// whenNoted asks again while the engine refuses with a text, which is all that
// tells this refusal from others.
func whenNoted(ctx context.Context, refusal string, ask func() error) error {
	for until := time.Now().Add(engineLag); ; {
		err := ask()
		if err == nil || !answered(err) || !strings.Contains(message(err), refusal) || time.Now().After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(engineRetry):
		}
	}
}

// told adds what was tried to an error of a control group. It is not for
// failure, which takes errors of system calls for those of a connection.
func told(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// thawOvertaken undoes a Freeze that Remove overtook, and that ended with
// froze: the engine may have frozen a process that it had already told to die,
// and that it waits for.
func (c *engineContainer) thawOvertaken(ctx context.Context, f *freezer, froze error) error {
	if f.group != nil {
		if err := f.group.Thaw(); !errors.Is(err, cgroupfs.ErrEnded) {
			return err
		}
		return nil
	}
	if froze != nil && answered(froze) {
		return nil // the engine did not freeze it
	}
	callCtx, cancel := c.driver.deadline(context.WithoutCancel(ctx))
	defer cancel()
	err := c.unpause(callCtx)
	if answered(err) {
		return nil // there is nothing to thaw any more
	}
	return failure(callCtx, "thaw", err)
}

// thawForEnd thaws what the engine does not know to be frozen, before it is
// asked to end the container. An error is worth mentioning only if that fails.
func (c *engineContainer) thawForEnd() error {
	f := c.freezer.Load()
	if f == nil || f.group == nil { // what the engine froze, it thaws itself
		return nil
	}
	if err := f.group.Thaw(); !errors.Is(err, cgroupfs.ErrEnded) {
		return told("thaw container "+c.name, err)
	}
	return nil
}

// findFreezer returns the way to freeze the container, which does not change.
func (c *engineContainer) findFreezer(ctx context.Context) (*freezer, error) {
	if f := c.freezer.Load(); f != nil {
		return f, ctx.Err()
	}
	f := &freezer{group: c.driver.cgroups.beside(c.ID())}
	if f.group != nil {
		c.freezer.Store(f)
		return f, ctx.Err()
	}
	pid, err := c.driver.firstProcess(ctx, c.ID())
	if err != nil {
		return nil, err
	}
	if f.group, err = c.driver.cgroups.find(pid, c.ID()); err != nil {
		c.driver.log.Debug("freezing by the engine, the control group cannot be used",
			slog.String("container_id", c.name), slog.Any("error", err))
	}
	c.freezer.Store(f)
	return f, nil
}

// firstProcess returns the number that the engine knows the container's first
// process by. It means something only on the engine's host.
func (d *Driver) firstProcess(ctx context.Context, id string) (pid int, err error) {
	found, err := d.engine.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return 0, err
	}
	if state := found.Container.State; state != nil && state.Pid > 0 {
		return state.Pid, nil
	}
	return 0, cgroupfs.ErrEnded
}

// thawLeftover thaws a container of another server, which may have ended
// without doing so. What stands in the way does so for the removal too, or
// means that the other server could not freeze it this way either.
func (d *Driver) thawLeftover(ctx context.Context, id string) {
	callCtx, cancel := d.deadline(ctx)
	defer cancel()
	pid, err := d.firstProcess(callCtx, id)
	if err != nil {
		return
	}
	if group, err := d.cgroups.find(pid, id); err == nil {
		_ = group.Thaw()
	}
}
