package pool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/internal/sockdir"
	"github.com/tinefn/tine/model"
)

// Spec is what instances are launched from. It is immutable: any change of a
// definition that a container could notice gives a spec with another key.
type Spec struct {
	Key         string      // equal keys mean interchangeable instances
	AppID, FnID string      // whose share of the machine it uses
	Revision    Revision    // of the definition
	Container   driver.Spec // ID, SocketDir, Stdout and Stderr are filled in per instance; the newest Extensions are used
	Need        capacity.Amount
	IdleTimeout time.Duration
	Scale       model.Scale

	// RegistryToken, if set, is a secret with which the image may be pulled. It does
	// not tell specs apart: the newest that came with a spec is used.
	RegistryToken string `json:"-"`

	// Output, if set, makes what receives one instance's output.
	Output func(instanceID string) Output
}

// Revision says when a definition was changed: its two parts, the app and the
// function, change on their own.
type Revision struct{ App, Fn time.Time }

// Older reports whether a definition is an earlier state of that of other. Of
// two with a newer part each, neither is.
func (r Revision) Older(other Revision) bool {
	return !r.App.After(other.App) && !r.Fn.After(other.Fn) && (r.App.Before(other.App) || r.Fn.Before(other.Fn))
}

// Output receives what an instance prints and is closed when it ended.
type Output interface {
	Stdout() io.Writer
	Stderr() io.Writer
	Close() error
}

// Sockets makes a socket directory; see package sockdir.
type Sockets func() (SocketDir, error)

// SocketDir is one instance's socket directory.
type SocketDir interface {
	EnginePath() string
	Ready() <-chan struct{}
	Open() (*sockdir.Socket, error)
	Remove() error
}

// prepareLocked makes sure of the image before any capacity is reserved, once
// per group: a pull may take minutes.
func (p *Pool) prepareLocked(g *group) {
	g.preparing = true
	began := time.Now()
	want := g.imageRequest()
	p.wg.Go(func() {
		image, err := p.ensureImage(want)
		err = driver.Exhausted(err)
		p.mu.Lock()
		defer p.mu.Unlock()
		g.preparing = false
		if err != nil {
			p.log.Warn("image is not available", slog.String("fn_id", g.spec.FnID), slog.String("image", g.spec.Container.Image), slog.Any("error", err))
			g.watcher.Launched(Launch{Image: time.Since(began)}, err)
			p.backOffLocked(g, began)
			if g.hasNone() {
				g.failBefore(began, func() error { return imageError(err) })
			}
		} else {
			switch {
			case g.pushed: // perhaps after the name was looked up, so that is done again
			case !g.imageReady || !g.imageAt.After(began): // or a refresh knows better by now
				p.setImageLocked(g, image)
			}
			g.imageTook = time.Since(began)
		}
		g.pushed = false
		p.fillLocked()
		p.dropIfUnusedLocked(g)
	})
}

// ensureImage asks the driver for an image.
func (p *Pool) ensureImage(want driver.ImageRequest) (image driver.Image, err error) {
	err = p.guard("looking for an image", func() error {
		image, err = p.opts.Driver.EnsureImage(p.ctx, want)
		return err
	})
	return image, err
}

// guard makes a panic in f an error. Drivers may be those of an embedding program, and
// on a goroutine of the pool nobody else would recover from what they do.
func (p *Pool) guard(what string, f func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%s panicked: %v", what, cause)
			p.log.Error("a driver panicked, or what else an instance needs", slog.Any("error", err), slog.String("stack", string(debug.Stack())))
		}
	}()
	return f()
}

// launchLocked starts one instance for g. Its capacity is reserved already.
func (p *Pool) launchLocked(g *group) {
	if g.waiters.Len() > 0 {
		g.watcher.Starved(time.Since(g.oldest()))
	}
	g.launching++
	g.update()
	began := time.Now()
	inst := &Instance{
		ID: model.NewID(), group: g, image: g.image, extensions: g.extensions, stateSince: began,
		freezing: make(chan struct{}, 1), exited: make(chan struct{}), removed: make(chan struct{}),
	}
	inst.log = p.log.With(slog.String("fn_id", g.spec.FnID), slog.String("container_id", inst.ID))
	inst.launch.Image, g.imageTook = g.imageTook, 0
	p.wg.Go(func() {
		err := driver.Exhausted(p.guard("a launch", func() error { return p.start(inst) }))
		p.mu.Lock()
		defer p.mu.Unlock()
		g.launching--
		g.update()
		if err == nil && inst.dead() { // its caller would find out, and so would the next one's
			err = fmt.Errorf("%w: the container ended as soon as it listened: %v", model.ErrContainerInitFailed, inst.exit)
		}
		g.watcher.Launched(inst.launch, err)
		if err != nil {
			inst.log.Warn("launch failed", slog.String("image", g.spec.Container.Image), slog.Any("error", err))
			p.launchFailedLocked(g, began, &LaunchError{err: launchError(err), Instance: inst})
			p.endLocked(inst, "launch failed")
			p.fillLocked()
			return
		}
		inst.log.Debug("instance ready", slog.Duration("took", time.Since(began)))
		if g.waiters.Len() > 0 {
			g.provenLocked()
		}
		g.launchTime.add(time.Since(began))
		g.all[inst] = struct{}{}
		g.update()
		inst.readySince = time.Now()
		p.busy++ // as if its launcher held it, and gave it back
		p.putBackLocked(inst)
		p.refreshLocked(g, inst.readySince)
	})
}

// launchFailedLocked tells those who waited for the launch. Where other
// instances live or are under way, waiters are left to them; the last launch
// to fail answers for all who waited since before it began.
func (p *Pool) launchFailedLocked(g *group, began time.Time, err error) {
	if errors.Is(err, driver.ErrImageNotFound) {
		g.imageReady = false
	}
	p.backOffLocked(g, began)
	if g.hasNone() {
		g.failBefore(began, func() error { return err })
	}
}

// start makes and starts the container and waits until it listens. On an
// error, what was made stays in inst for remove.
func (p *Pool) start(inst *Instance) error {
	spec := inst.group.spec
	began := time.Now()
	dir, err := p.opts.Sockets()
	if err != nil {
		return err
	}
	inst.dir = dir
	container := spec.Container
	container.ID = inst.ID
	container.ImageID = inst.image.ID
	container.Extensions = inst.extensions
	container.SocketDir = dir.EnginePath()
	container.OnDrain = func() { p.drain(inst) }
	if spec.Output != nil {
		inst.Output = spec.Output(inst.ID)
		container.Stdout, container.Stderr = inst.Output.Stdout(), inst.Output.Stderr()
	}
	made, err := p.opts.Driver.Create(p.ctx, &container)
	inst.launch.Create = lap(&began)
	if err != nil {
		return fmt.Errorf("create container: %w", err)
	}
	inst.container = made
	err = made.Start(p.ctx)
	inst.launch.Start = lap(&began)
	if err != nil {
		return fmt.Errorf("start container: %w", err)
	}
	p.wg.Go(func() { p.monitor(inst) })
	err = p.awaitSocket(inst)
	inst.launch.Init = lap(&began)
	if err != nil {
		return err
	}
	inst.Socket, err = dir.Open()
	if err != nil {
		return fmt.Errorf("%w: %w", model.ErrContainerInitFailed, err)
	}
	if p.opts.NewSession != nil {
		inst.Session = p.opts.NewSession(inst.Socket)
	}
	return nil
}

// lap returns the time since began and sets it to now.
func lap(began *time.Time) time.Duration {
	now := time.Now()
	took := now.Sub(*began)
	*began = now
	return took
}

// awaitSocket waits until the function has made its socket.
func (p *Pool) awaitSocket(inst *Instance) error {
	var expired <-chan time.Time
	if p.opts.StartTimeout > 0 {
		timer := time.NewTimer(p.opts.StartTimeout)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-inst.dir.Ready():
		return nil
	case <-inst.exited:
		return fmt.Errorf("%w: the container ended before it listened: %v", model.ErrContainerInitFailed, inst.exit)
	case <-expired:
		return fmt.Errorf("%w: no socket after %v", model.ErrContainerInitTimeout, p.opts.StartTimeout)
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

// LaunchError says why an instance could not be launched.
type LaunchError struct {
	Instance *Instance // for what is left of it: how it ended and what it printed
	err      error
}

func (e *LaunchError) Error() string { return e.err.Error() }

// Unwrap returns the cause, with the kind that the caller is told.
func (e *LaunchError) Unwrap() error { return e.err }

// launchError turns what went wrong in a launch into what its caller is told.
func launchError(err error) error {
	switch {
	case errors.Is(err, driver.ErrUnavailable), errors.Is(err, driver.ErrImageNotFound), errors.Is(err, driver.ErrExhausted):
		return notPlaced(fmt.Errorf("%w: %w", model.ErrServerBusy, err))
	case errors.Is(err, driver.ErrProgram):
		return fmt.Errorf("%w: %w", model.ErrContainerInitFailed, err)
	}
	return err
}

// imageError turns what went wrong with an image into what its caller is told.
func imageError(err error) error {
	if pull, ok := errors.AsType[*driver.PullError](err); ok {
		return &model.Error{Kind: model.ErrImagePullFailed, Message: pull.Error(), Status: pull.Status}
	}
	switch {
	case errors.Is(err, driver.ErrImageVolume):
		return fmt.Errorf("%w: %w", model.ErrImageVolume, err)
	case errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, driver.ErrUnavailable):
		return fmt.Errorf("%w: %w", model.ErrImagePullTimeout, err)
	}
	return launchError(err)
}
