package pool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/sockdir"
)

// State is where an instance is in its life:
//
//	launching ──► idle ◄──► busy
//	    │           │         │
//	    └───────────┴────►────┴──► ending ──► (removed)
type State int

// The states.
const (
	Launching State = iota
	Idle
	Busy
	Ending
)

func (s State) String() string {
	return [...]string{"launching", "idle", "busy", "ending"}[s]
}

// legal lists the states that may follow each state.
var legal = [...][]State{
	Launching: {Idle, Busy, Ending},
	Idle:      {Busy, Ending},
	Busy:      {Idle, Busy, Ending}, // busy to busy: handed from one caller to the next
	Ending:    {},
}

// Instance is one container of a function.
type Instance struct {
	ID     string // also the container's name
	Socket *sockdir.Socket

	// Session is what Options.NewSession made, for the holder of the lease.
	Session io.Closer

	group     *group
	container driver.Container
	dir       SocketDir
	output    OutputSink // nil: discarded
	log       *slog.Logger
	exited    chan struct{} // closed when the process ended; exit is set before
	exit      driver.Exit

	// Guarded by the pool's mutex.
	state      State
	calls      int // leases so far
	readySince time.Time
	idleSince  time.Time
	idleTimer  *time.Timer
}

// Exited is closed when the instance's process has ended.
func (inst *Instance) Exited() <-chan struct{} { return inst.exited }

// dead reports whether the process has ended.
func (inst *Instance) dead() bool {
	select {
	case <-inst.exited:
		return true
	default:
		return false
	}
}

// setState moves to another state. An illegal move is an error in this package.
func (inst *Instance) setState(next State) {
	if !slices.Contains(legal[inst.state], next) {
		panic(fmt.Sprintf("pool: instance %s cannot go from %v to %v", inst.ID, inst.state, next))
	}
	inst.state = next
}

// idleLocked puts an instance aside until somebody wants it or its idle
// timeout passes.
func (p *Pool) idleLocked(inst *Instance) {
	inst.setState(Idle)
	inst.idleSince = time.Now()
	inst.group.idle = append(inst.group.idle, inst)
	if inst.idleTimer == nil {
		inst.idleTimer = time.AfterFunc(inst.group.spec.IdleTimeout, func() { p.expire(inst) })
	} else {
		inst.idleTimer.Reset(inst.group.spec.IdleTimeout)
	}
}

// expire ends an instance that was idle for the whole timeout. The timer is
// not stopped when the instance is taken, so it may fire in the middle.
func (p *Pool) expire(inst *Instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if inst.state == Idle && time.Since(inst.idleSince) >= inst.group.spec.IdleTimeout {
		inst.group.removeIdle(inst)
		p.endLocked(inst, "idle timeout")
	}
}

func (g *group) removeIdle(inst *Instance) {
	if i := slices.Index(g.idle, inst); i >= 0 {
		g.idle = slices.Delete(g.idle, i, i+1)
	}
}

// endLocked begins an instance's removal; repeating it does nothing. Its
// capacity returns when the engine has removed it.
func (p *Pool) endLocked(inst *Instance, why string) {
	if inst.state == Ending {
		return
	}
	inst.setState(Ending)
	if inst.idleTimer != nil {
		inst.idleTimer.Stop()
	}
	delete(inst.group.all, inst)
	p.returning = sum(p.returning, inst.group.spec.Need)
	inst.log.Debug("instance ends", slog.String("reason", why), slog.Int("calls", inst.calls))
	p.wg.Go(func() { p.remove(inst) })
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
	p.removeContainer(inst)
	if inst.Socket != nil {
		_ = inst.Socket.Close() // only a descriptor
	}
	if inst.dir != nil {
		if err := inst.dir.Remove(); err != nil {
			inst.log.Warn("cannot remove socket directory", slog.Any("error", err))
		}
	}
	if inst.output != nil {
		if err := inst.output.Close(); err != nil {
			inst.log.Warn("cannot close the output", slog.Any("error", err))
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	need := inst.group.spec.Need
	p.ledger.Release(need)
	p.returning = lessOf(p.returning, need)
	p.dropIfUnusedLocked(inst.group)
	p.fillLocked()
}

func (p *Pool) removeContainer(inst *Instance) {
	if inst.container == nil {
		return
	}
	// Removal goes on while the pool closes; the driver's own deadline bounds it.
	ctx := context.WithoutCancel(p.ctx)
	for wait := firstRemovalRetry; ; wait = min(2*wait, lastRemovalRetry) {
		err := inst.container.Remove(ctx)
		if err == nil || errors.Is(err, driver.ErrGone) {
			return
		}
		inst.log.Warn("cannot remove container", slog.Any("error", err), slog.Duration("retry_in", wait))
		if !p.pause(wait) {
			return // the driver's Close is the last to try
		}
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

// monitor waits for the container's process to end and takes an idle instance
// out of service then; the holder of a busy one notices by itself.
func (p *Pool) monitor(inst *Instance) {
	for wait := firstRemovalRetry; ; wait = min(2*wait, lastRemovalRetry) {
		exit, err := inst.container.Wait(p.ctx)
		if p.ctx.Err() != nil {
			return
		}
		if err == nil || errors.Is(err, driver.ErrGone) {
			inst.exit = exit
			break
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
	if inst.state == Idle {
		inst.log.Info("instance's process ended while idle", slog.Any("exit", inst.exit))
		inst.group.removeIdle(inst)
		p.endLocked(inst, "its process ended")
		p.fillLocked()
	}
}
