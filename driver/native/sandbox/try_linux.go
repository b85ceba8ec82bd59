package sandbox

import (
	"context"
	"errors"
)

// Try finds out whether sandboxes with these ids work on this machine: it makes one
// that waits and a root file system for it, and removes both.
func Try(ctx context.Context, s *Spawner, ids IDs, layers []string) (err error) {
	box, err := s.Spawn(Options{IDs: ids})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, box.Kill(), box.Close(context.WithoutCancel(ctx)), box.Stdout.Close(), box.Stderr.Close())
	}()
	if err := box.Ready(ctx); err != nil {
		return err
	}
	root, err := box.Overlay(layers)
	if err != nil {
		return err
	}
	return root.Close()
}
