//go:build linux

package native

import (
	"context"
	"log/slog"
	"time"
)

// The pauses between attempts to remove what a sandbox left that could not be made.
const (
	firstDiscardPause = 100 * time.Millisecond
	lastDiscardPause  = 10 * time.Second
)

// discard removes what there is of a sandbox that could not be made. What cannot be
// removed at once, as that takes what there was too little of to make it, such as an
// open file, is removed later.
func (d *Driver) discard(ctx context.Context, u *unit) {
	err := u.Remove(context.WithoutCancel(ctx))
	if err == nil {
		return
	}
	d.log.Warn("cannot remove a sandbox that could not be made, and will try again", slog.String("sandbox", u.name), slog.Any("error", err))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return // Close removes all groups, with the processes in them
	}
	d.wg.Go(func() {
		for pause := firstDiscardPause; err != nil; pause = min(2*pause, lastDiscardPause) {
			select {
			case <-time.After(pause):
			case <-d.background.Done():
				return
			}
			err = u.Remove(context.WithoutCancel(ctx))
		}
	})
}
