package node

import (
	"context"
	"errors"
	"fmt"
)

// stack remembers how to stop what was started, to do it in reverse.
type stack struct {
	steps []step
}

type step struct {
	name string
	stop func(context.Context) error
}

func (s *stack) push(name string, stop func(context.Context) error) {
	s.steps = append(s.steps, step{name, stop})
}

// stop runs every step, also after one failed, and reports all that failed.
func (s *stack) stop(ctx context.Context) error {
	var errs []error
	for i := len(s.steps) - 1; i >= 0; i-- {
		if err := s.steps[i].stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.steps[i].name, err))
		}
	}
	s.steps = nil
	return errors.Join(errs...)
}
