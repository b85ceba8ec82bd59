//go:build linux

package native

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tinefn/tine/driver/native/cgroup"
	"github.com/tinefn/tine/driver/native/network"
	"github.com/tinefn/tine/driver/native/sandbox"
	"github.com/tinefn/tine/driver/prefork"
)

// unit is a sandbox with all that belongs to it. It is used once.
type unit struct {
	name    string
	driver  *Driver
	ids     sandbox.IDs
	box     *sandbox.Sandbox
	group   *cgroup.Group
	network *network.Attachment

	mu      sync.Mutex // held while it is being removed
	taken   bool       // a container has it, and closes its outputs
	removed bool
}

var _ prefork.Item = (*unit)(nil)

// poolNetwork is the name of the one network of the pool, for its metrics.
const poolNetwork = "egress"

// startPool begins to fill the pool, if there is to be one.
func (d *Driver) startPool() {
	if d.opts.Pool.Max <= 0 {
		return
	}
	d.pool = prefork.New(prefork.Options{
		Maker: maker{d}, Quiet: d.lull.Wait, Networks: []string{poolNetwork}, Min: d.opts.Pool.Min, Max: d.opts.Pool.Max, UseOnce: true,
		MaxReady: d.opts.Pool.MaxReady, AppShare: d.opts.Pool.AppShare, Short: d.opts.Pool.Short,
		Logger: d.log, Observer: d.opts.Pool.Observer,
	})
}

// The pool is filled, and what was used is removed, when no function has been started
// for lullRest, which takes those that were started to their first answer. It waits
// for lullPatience at most. To make a sandbox beside a start makes that one take half
// as long again, as there are few processors.
const (
	lullRest     = 25 * time.Millisecond
	lullPatience = 500 * time.Millisecond
)

// maker makes sandboxes for the pool.
type maker struct{ driver *Driver }

func (m maker) Make(ctx context.Context, name, _ string) (prefork.Item, error) {
	made, err := m.driver.make(ctx, name, network.Egress)
	if err != nil {
		return nil, err // not a nil *unit
	}
	return made, nil
}

// make makes a sandbox that waits for a job.
func (d *Driver) make(ctx context.Context, name string, class network.Class) (_ *unit, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.opts.MakeTimeout, errMakeTimeout)
	defer cancel()
	u := &unit{name: name, driver: d}
	defer func() {
		if err != nil {
			err = fmt.Errorf("make sandbox %s: %w", name, u.explain(ctx, err))
			d.discard(ctx, u)
		}
	}()
	if d.ids != nil {
		if u.ids, err = d.ids.Take(); err != nil {
			return nil, err
		}
	}
	if u.group, err = d.groups.Create(name); err != nil {
		return nil, err
	}
	born, _ := u.group.Fd()
	if u.box, err = d.spawner.Spawn(sandbox.Options{Cgroup: born, IDs: u.ids, Enter: u.enter}); err != nil {
		return nil, err
	}
	if err = u.group.Attach(u.box.PID); err != nil {
		return nil, err
	}
	if u.network, err = d.networks.Attach(ctx, class, network.Target{PID: u.box.PID}, name); err != nil {
		return nil, err
	}
	if text := u.network.ResolvConf(); text != "" {
		if err = d.base.setNameservers(text); err != nil {
			return nil, err
		}
	}
	return u, u.box.Ready(ctx)
}

// enter lets the sandbox be born in its group as far as there is none of version 2.
func (u *unit) enter() (leave func() error) {
	leave, err := u.group.Enter()
	if err != nil {
		u.driver.log.Debug("a sandbox is put into its control group after it was started, which is slow", slog.String("sandbox", u.name), slog.Any("error", err))
		return func() error { return nil }
	}
	return leave
}

// ID is the sandbox's name.
func (u *unit) ID() string { return u.name }

// Probe finds out whether the sandbox waits and has its network.
func (u *unit) Probe(ctx context.Context) error {
	if u.box.Ended() {
		return errors.New("its process has ended")
	}
	return u.network.Probe(ctx)
}

// Remove ends the sandbox with all processes in it, and removes what belongs to it,
// as far as ctx allows. It may be repeated: as long as a process lives, its control
// group and its users are nobody else's.
func (u *unit) Remove(ctx context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.removed {
		return nil
	}
	if u.network != nil {
		u.network.Detach()
	}
	var failed []error
	if u.group != nil {
		failed = append(failed, u.group.Kill())
	}
	if u.box != nil {
		if !u.taken {
			_, _ = u.box.Stdout.Close(), u.box.Stderr.Close() // nobody has read them
		}
		failed = append(failed, u.box.Kill())
		if err := u.box.Close(ctx); err != nil {
			return errors.Join(append(failed, err)...) // its group is in use
		}
	}
	if u.group != nil {
		failed = append(failed, u.group.Remove(ctx))
	}
	err := errors.Join(failed...)
	if u.removed = err == nil; u.removed && u.driver.ids != nil {
		u.driver.ids.Give(u.ids)
	}
	return err
}
