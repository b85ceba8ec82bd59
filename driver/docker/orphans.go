package docker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/prefork"
)

// Pauses of the sweep while the engine does not answer: the first, and the
// longest, of which each is twice as long as the one before.
const (
	firstSweepPause = time.Second
	maxSweepPause   = 30 * time.Second
)

// startSweep finds out whose containers are to be removed, and begins with it.
func (d *Driver) startSweep() {
	var err error
	if d.dead, err = deadIdentities(d.opts.StateDir); err != nil {
		d.log.Warn("cannot tell whether earlier runs left containers; make the files in the state directory, FN_STATE_DIR, those of this user",
			slog.Any("error", err))
	}
	if len(d.dead) > 0 || d.opts.LabelTag != "" {
		d.wg.Go(func() { d.sweepAll(strayPauses) })
	}
}

// sweepAll removes what dead processes left, in several rounds: an engine may
// still be making a container that was asked for just before the end. The
// pauses are those between the rounds. What others with the LabelTag made goes
// in one round only, as who starts a moment later has it too.
func (d *Driver) sweepAll(pauses []time.Duration) {
	pause, tagged := firstSweepPause, true
	for {
		err := d.sweep(d.background, tagged)
		tagged = tagged && err != nil
		switch {
		case d.background.Err() != nil:
			return // the next start goes on
		case err == nil && len(d.dead) == 0:
			return
		case errors.Is(err, driver.ErrUnavailable):
			if pause == firstSweepPause {
				d.log.Warn("cannot remove containers of earlier runs yet, trying again", slog.Any("error", err))
			}
			if !sleep(d.background, pause) {
				return
			}
			pause = min(2*pause, maxSweepPause)
		case len(pauses) > 0:
			if !sleep(d.background, pauses[0]) {
				return
			}
			pauses, pause = pauses[1:], firstSweepPause
		case err != nil:
			d.log.Warn("containers of earlier runs are left; remove them by hand, or the next start tries again", slog.Any("error", err))
			return
		default:
			for _, i := range d.dead {
				if err := i.discard(); err != nil {
					d.log.Warn("cannot delete the record of an earlier run", slog.Any("error", err))
				}
			}
			return
		}
	}
}

// Sweep removes all containers, running or not, that processes left which are
// known to be dead since New, by their record in the StateDir. With a LabelTag
// it also removes those that carry it and that other processes made, dead or not.
func (d *Driver) Sweep(ctx context.Context) error { return d.sweep(ctx, true) }

// sweep is Sweep, with or without what the LabelTag is for.
func (d *Driver) sweep(ctx context.Context, tagged bool) error {
	var found []container.Summary
	if len(d.dead) > 0 {
		list, err := d.labelled(ctx, ownerLabel)
		if err != nil {
			return err
		}
		for _, c := range list {
			if slices.ContainsFunc(d.dead, func(i *identity) bool { return i.id == c.Labels[ownerLabel] }) {
				found = append(found, c)
			}
		}
	}
	if tagged && d.opts.LabelTag != "" {
		list, err := d.labelled(ctx, tagLabel+"="+d.opts.LabelTag)
		if err != nil {
			return err
		}
		for _, c := range list {
			if c.Labels[instanceLabel] != d.instance && !slices.ContainsFunc(found, func(f container.Summary) bool { return f.ID == c.ID }) {
				found = append(found, c)
			}
		}
	}
	return prefork.RemoveAll(found, func(c container.Summary) error {
		if c.State == container.StateRunning {
			d.thawLeftover(ctx, c.ID)
		}
		if err := d.removeByName(ctx, c.ID); err != nil && !errors.Is(err, driver.ErrGone) {
			return err
		}
		d.log.Info("removed a container of an earlier run", slog.String("container_id", c.ID))
		return nil
	})
}

// labelled lists the containers with a label, in any state.
func (d *Driver) labelled(ctx context.Context, label string) ([]container.Summary, error) {
	callCtx, cancel := d.deadline(ctx)
	defer cancel()
	filters := client.Filters{}.Add("label", label)
	list, err := d.engine.ContainerList(callCtx, client.ContainerListOptions{All: true, Filters: filters})
	if err != nil {
		return nil, failure(callCtx, fmt.Sprintf("list containers with the label %s", label), err)
	}
	return list.Items, nil
}
