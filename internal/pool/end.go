package pool

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/tinefn/tine/driver"
)

// endLocked begins an instance's removal; repeating it does nothing. Its
// capacity returns when the engine has removed it.
func (p *Pool) endLocked(inst *Instance, why string) {
	if inst.state == Ending {
		return
	}
	inst.setState(Ending)
	inst.why = why
	if inst.timer != nil {
		inst.timer.Stop()
	}
	delete(inst.group.all, inst)
	inst.group.ending++
	p.returnLocked(inst.group)
	p.retryForCallersLocked(inst.group)
	inst.group.update()
	inst.log.Debug("instance ends", slog.String("reason", why), slog.Int("calls", inst.calls))
	p.wg.Go(func() { p.remove(inst) })
}

// End is how an instance ended.
type End struct {
	Why      string       // the pool ended it, or noticed that it had; "" if it lives on
	ByItself bool         // its process ended before anybody asked it to
	Exit     *driver.Exit // of the process, nil if that is not known
}

func (e End) String() string {
	switch {
	case e.Why == "":
		return ""
	case e.ByItself && e.Exit != nil:
		return e.Exit.String()
	case e.ByItself:
		return "the container vanished"
	}
	return "ended by the server: " + e.Why
}

// Ended waits until nothing is left of the instance, or ctx ends, and says how
// it ended, as far as that is known by then.
func (inst *Instance) Ended(ctx context.Context) End {
	select {
	case <-inst.removed:
	case <-ctx.Done():
	}
	inst.group.pool.mu.Lock()
	defer inst.group.pool.mu.Unlock()
	ending := End{Why: inst.why, ByItself: inst.byItself}
	if inst.dead() {
		ending.Exit = inst.exit
	}
	return ending
}

// exitGrace is how long a process whose connection broke may take to end by
// itself. Engines need a tenth of a second to notice.
const exitGrace = time.Second

// noteExit finds out whether the process ended by itself.
func (p *Pool) noteExit(inst *Instance) {
	p.mu.Lock()
	lost := inst.lost
	p.mu.Unlock()
	if lost && inst.container != nil {
		timer := time.NewTimer(exitGrace)
		defer timer.Stop()
		select {
		case <-inst.exited:
		case <-timer.C:
		case <-p.ctx.Done():
		}
	}
	byItself := inst.dead()
	p.mu.Lock()
	defer p.mu.Unlock()
	inst.byItself = byItself
}

// Removal is tried again for ever: as long as the engine does not confirm it,
// the container may be using its memory.
const (
	firstRemovalRetry = 100 * time.Millisecond
	lastRemovalRetry  = 10 * time.Second
)

// remove ends the container and returns its capacity.
func (p *Pool) remove(inst *Instance) {
	if inst.Session != nil {
		_ = inst.Session.Close() // the peer is being killed
	}
	p.noteExit(inst)
	p.removeContainer(inst)
	if inst.Socket != nil {
		_ = inst.Socket.Close() // only a descriptor
	}
	if inst.dir != nil {
		if err := inst.dir.Remove(); err != nil {
			inst.log.Warn("cannot remove socket directory", slog.Any("error", err))
		}
	}
	if inst.Output != nil {
		if err := inst.Output.Close(); err != nil {
			inst.log.Warn("cannot close the output", slog.Any("error", err))
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	close(inst.removed)
	p.freeLocked(inst)
	inst.group.ending--
	inst.group.update()
	p.dropIfUnusedLocked(inst.group)
	p.fillLocked()
}

func (p *Pool) removeContainer(inst *Instance) {
	if inst.container == nil {
		return
	}
	// Removal goes on while the pool closes; the driver's own deadline bounds it,
	// which is longer than anybody is kept waiting for what will be free then.
	ctx := context.WithoutCancel(p.ctx)
	late := time.AfterFunc(p.holdFor(), func() { p.overdue(inst) })
	defer late.Stop()
	for wait := firstRemovalRetry; ; wait = min(2*wait, lastRemovalRetry) {
		err := p.guard("removing a container", func() error { return inst.container.Remove(ctx) })
		if err == nil || errors.Is(err, driver.ErrGone) {
			return
		}
		p.overdue(inst)
		inst.log.Warn("cannot remove container", slog.Any("error", err), slog.Duration("retry_in", wait))
		if !p.pause(wait) {
			return // the driver's Close is the last to try
		}
	}
}

// overdue takes what a container holds, which the engine has not removed, out of
// what is expected to come back soon, so that nobody waits for it.
func (p *Pool) overdue(inst *Instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-inst.removed: // in the moment in which it became late
		return
	default:
	}
	if !inst.overdue {
		inst.overdue = true
		p.returning = lessOf(p.returning, inst.group.spec.Need)
		p.fillLocked()
	}
}

// pause waits; false means that the pool closed.
func (p *Pool) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// drainReason is why an instance ends that its driver wants no more calls for.
const drainReason = "it lost something that it needs"

// drain ends an instance as soon as nobody uses it.
func (p *Pool) drain(inst *Instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if inst.drained || inst.state == Ending {
		return
	}
	inst.drained = true
	inst.log.Info("instance serves no further call", slog.String("reason", drainReason))
	if inst.state.resting() {
		p.endRestingLocked(inst, drainReason)
		p.fillLocked()
	}
}

// monitor waits for the container's process to end and takes an idle instance
// out of service then; the holder of a busy one notices by itself.
func (p *Pool) monitor(inst *Instance) {
	for wait := firstRemovalRetry; ; wait = min(2*wait, lastRemovalRetry) {
		var exit driver.Exit
		err := p.guard("waiting for a container", func() (err error) {
			exit, err = inst.container.Wait(p.ctx)
			return err
		})
		if p.ctx.Err() != nil {
			return
		}
		if err == nil {
			inst.exit = &exit
			inst.group.watcher.Exited(exit)
			break
		}
		if errors.Is(err, driver.ErrGone) {
			break // somebody removed it
		}
		// The engine went away; the container may well live on.
		inst.log.Warn("lost sight of container", slog.Any("error", err), slog.Duration("retry_in", wait))
		if !p.pause(wait) {
			return
		}
	}
	close(inst.exited)
	p.mu.Lock()
	defer p.mu.Unlock()
	if inst.state.resting() {
		p.diedUnusedLocked(inst)
		inst.log.Info("instance's process ended at rest", slog.Any("exit", inst.exit))
		inst.group.removeIdle(inst)
		p.endLocked(inst, "its process ended")
		p.fillLocked()
	}
}
