package docker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tinefn/tine/driver"
)

// strayPauses are the waits between attempts to remove a container of which it
// is not known whether it was made: the engine may still be at it.
var strayPauses = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second}

// strayGrace is the time for such a removal when Close has none left.
const strayGrace = 2 * time.Second

// removeStray removes a container whose creation was not answered: at once if
// the engine answers again, and in the background if it has nothing to remove
// yet. It is called by work that Close waits for.
func (d *Driver) removeStray(name string) {
	ctx := d.creation
	if ctx.Err() != nil { // Close ran out of time, which may be why there is no answer
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), strayGrace)
		defer cancel()
	}
	err := d.removeByName(ctx, name)
	if err == nil {
		return
	}
	if d.background.Err() != nil {
		d.mayLeave.Store(true)
		return
	}
	d.wg.Go(func() { // the caller is counted, so the counter is not zero
		for _, pause := range strayPauses {
			if !sleep(d.background, pause) {
				break
			}
			if err = d.removeByName(ctx, name); err == nil {
				return
			}
		}
		// One last time: either the pauses are over or Close has begun.
		if err = d.removeByName(ctx, name); err == nil {
			return
		}
		d.mayLeave.Store(true)
		if !errors.Is(err, driver.ErrGone) {
			d.log.Warn("a container may be left on the engine",
				slog.String("container_id", name), slog.Any("error", fmt.Errorf("remove after an unanswered creation: %w", err)))
		}
	})
}
