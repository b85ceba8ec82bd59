package pool

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/tinefn/tine/driver"
)

// This file is what happens to an instance that nobody uses: after a moment it
// is frozen, so that it takes no processor time, and in the end it is removed.

// freezeTimeout bounds freezing and thawing. An instance that takes longer is
// replaced.
const freezeTimeout = 5 * time.Second

// An instance that could not be frozen for now, as the engine does not answer,
// runs on. The next attempt comes after a pause that doubles.
const (
	firstFreezePause = time.Second
	lastFreezePause  = 30 * time.Second
)

// restLocked puts an instance aside until somebody wants it.
func (p *Pool) restLocked(inst *Instance) {
	inst.setState(Idle)
	inst.restSince = inst.stateSince
	inst.group.idle = append(inst.group.idle, inst)
	p.resting = sum(p.resting, inst.group.spec.Need)
	p.setTimerLocked(inst)
}

// setTimerLocked sets the timer to the next thing that happens to a resting
// instance. The timer is not stopped when the instance is taken, so that a
// busy one pays for it once a rest only.
func (p *Pool) setTimerLocked(inst *Instance) {
	next := p.restLeft(inst)
	if inst.state == Idle && p.freezes {
		next = min(next, p.freezeLeft(inst))
	}
	if inst.canProve() {
		next = min(next, time.Until(inst.readySince.Add(provenAge)))
	}
	next = max(next, 0)
	if inst.timer == nil {
		inst.timer = time.AfterFunc(next, func() { p.onTimer(inst) })
	} else {
		inst.timer.Reset(next)
	}
}

// freezeLeft is how long an idle instance has until it is frozen.
func (p *Pool) freezeLeft(inst *Instance) time.Duration {
	return time.Until(inst.stateSince.Add(max(p.opts.FreezeAfter, inst.freezePause)))
}

// restLeft is how long a resting instance may go on resting.
func (p *Pool) restLeft(inst *Instance) time.Duration {
	spec := inst.group.spec
	left := time.Until(inst.restSince.Add(spec.IdleTimeout))
	if spec.Scale.MaxAge > 0 {
		left = min(left, time.Until(inst.readySince.Add(spec.Scale.MaxAge)))
	}
	return left
}

func (p *Pool) onTimer(inst *Instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !inst.state.resting() {
		return
	}
	g := inst.group
	if inst.canProve() && time.Since(inst.readySince) >= provenAge {
		g.provenLocked()
		p.fillLocked()
	}
	switch {
	case inst.tooOld():
		p.endRestingLocked(inst, "maximum age")
		p.fillLocked()
		return
	case p.restLeft(inst) <= 0 && g.spare():
		p.endRestingLocked(inst, "idle timeout")
		return
	case p.restLeft(inst) <= 0: // the function keeps so many
		inst.restSince = time.Now()
	case inst.state == Idle && p.freezes && p.freezeLeft(inst) <= 0:
		inst.setState(Frozen)
		p.wg.Go(func() { p.freeze(inst) })
	}
	p.setTimerLocked(inst)
}

func (p *Pool) endRestingLocked(inst *Instance, why string) {
	inst.group.removeIdle(inst)
	p.endLocked(inst, why)
}

func (g *group) removeIdle(inst *Instance) {
	if i := slices.Index(g.idle, inst); i >= 0 {
		g.idle = slices.Delete(g.idle, i, i+1)
		g.pool.resting = lessOf(g.pool.resting, g.spec.Need)
	}
}

// freeze stops the processes of an instance in state Frozen, unless somebody
// took it meanwhile.
func (p *Pool) freeze(inst *Instance) {
	inst.freezing <- struct{}{}
	defer func() { <-inst.freezing }()
	p.mu.Lock()
	due := inst.state == Frozen && !inst.frozen
	p.mu.Unlock()
	if !due { // it was taken, or this is a freeze of an earlier rest, which is late
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, freezeTimeout)
	defer cancel()
	began := time.Now()
	inst.frozen = true // also if it fails: nobody knows how far it went
	err := p.guard("freezing", func() error { return inst.container.Freeze(ctx) })
	if !errors.Is(err, driver.ErrNotFrozen) {
		inst.group.watcher.Froze(time.Since(began), err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		inst.freezePause = 0
	case errors.Is(err, driver.ErrNotFrozen):
		inst.frozen = false
		inst.freezePause = min(max(2*inst.freezePause, firstFreezePause), lastFreezePause)
		inst.log.Debug("instance is not frozen yet", slog.Duration("retry_in", inst.freezePause), slog.Any("error", err))
		if inst.state == Frozen {
			inst.setState(Idle)
			p.setTimerLocked(inst)
		}
	case inst.state == Frozen: // otherwise who took it finds out
		inst.log.Warn("cannot freeze instance", slog.Any("error", err))
		p.endRestingLocked(inst, "it could not be frozen")
		p.fillLocked()
	}
}

// thawFor thaws a leased instance for its caller. False means that it could not
// be thawed, and was ended; an error, that the caller left. The instance is not
// lost then: it is given back when it is thawed.
func (p *Pool) thawFor(ctx context.Context, lease *Lease) (bool, error) {
	const failed = "it could not be thawed"
	thawed := make(chan error, 1)
	if !p.spawn(func() { thawed <- p.thaw(lease.Instance) }) {
		lease.Destroy("the server shuts down")
		return false, notPlaced(errClosed)
	}
	select {
	case err := <-thawed:
		if err != nil {
			lease.Destroy(failed)
		}
		return err == nil, nil
	case <-ctx.Done():
	}
	settle := func() {
		if <-thawed != nil {
			lease.Destroy(failed)
		} else {
			lease.ReleaseUnused()
		}
	}
	if !p.spawn(settle) {
		lease.Destroy("the server shuts down")
	}
	return false, context.Cause(ctx)
}

// thaw makes an instance that was taken in state Frozen usable. It waits for a
// freeze in progress, which is bounded, and does not end with the caller: an
// instance must not go back half frozen.
func (p *Pool) thaw(inst *Instance) error {
	inst.freezing <- struct{}{}
	defer func() { <-inst.freezing }()
	if !inst.frozen {
		return nil
	}
	ctx, cancel := context.WithTimeout(p.ctx, freezeTimeout)
	defer cancel()
	began := time.Now()
	err := p.guard("thawing", func() error { return inst.container.Thaw(ctx) })
	inst.group.watcher.Thawed(time.Since(began), err)
	inst.frozen = err != nil
	return err
}
