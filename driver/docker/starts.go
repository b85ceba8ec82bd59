package docker

import (
	"context"
	"time"

	"github.com/tinefn/tine/driver/prefork"
)

// starts bounds the starts of containers that are under way: engines get slower
// per start, and have been seen to hang, when they are asked for many at once.
// What is not for a container that somebody waits for waits for a lull.
type starts struct {
	slots chan struct{}
	lull  *prefork.Lull
}

// How long a lull must have lasted, and how long other work is put off at most.
const (
	quietFor = 200 * time.Millisecond
	patience = 10 * time.Second
)

func newStarts(limit int) *starts {
	return &starts{slots: make(chan struct{}, limit), lull: prefork.NewLull(quietFor, patience)}
}

// enter waits for a turn to start a container. The caller calls leave when that
// is over.
func (s *starts) enter(ctx context.Context) (leave func(), err error) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	case <-ctx.Done():
		return nil, ended(ctx)
	}
}
