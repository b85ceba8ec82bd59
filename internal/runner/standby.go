package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// Standby sees to it that functions have their minimum of instances without
// being called, and that changed and deleted ones do not keep what they had. It
// tells the pool of all functions when it starts, and later of those that it is
// told about.
type Standby struct {
	runner      *Runner
	definitions Definitions
	log         *slog.Logger
	retry       time.Duration // after definitions could not be read

	cancel context.CancelFunc
	wg     sync.WaitGroup
	wake   chan struct{} // has one slot: there is work

	mu   sync.Mutex // guards todo
	todo map[subject]struct{}
}

// subject is an app, a function, or with neither all there are.
type subject struct{ appID, fnID string }

// Definitions is where a standby looks functions up.
type Definitions interface {
	AppByID(ctx context.Context, id string) (*model.App, error)
	FnByID(ctx context.Context, id string) (*model.Fn, error)
	ListApps(ctx context.Context, filter model.AppFilter) (model.Page[*model.App], error)
	ListFns(ctx context.Context, filter model.FnFilter) (model.Page[*model.Fn], error)
}

// NewStandby returns a standby that does nothing before Start.
func NewStandby(r *Runner, definitions Definitions) *Standby {
	return &Standby{
		runner: r, definitions: definitions, log: r.opts.Logger, retry: standbyRetry, wake: make(chan struct{}, 1),
		todo: map[subject]struct{}{},
	}
}

// Start begins to look at all functions. Close ends it.
func (s *Standby) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.note(subject{})
	s.wg.Go(func() { s.run(ctx) })
}

// Close ends the looking. It may be called without Start.
func (s *Standby) Close() {
	if s.cancel != nil {
		s.cancel()
	}
	s.wg.Wait()
}

// AppChanged and FnChanged say that a definition is new or other than it was.
// They return at once.
func (s *Standby) AppChanged(id string) { s.note(subject{appID: id}) }

// FnChanged is like AppChanged.
func (s *Standby) FnChanged(id string) { s.note(subject{fnID: id}) }

// AppRemoved and FnRemoved end the instances of what exists no more. They do so
// at once, and again when the look is over that may be under way: it may have
// seen the definition while it was there.
func (s *Standby) AppRemoved(id string) {
	s.runner.opts.Pool.RetireApp(id)
	s.note(subject{appID: id})
}

// FnRemoved is like AppRemoved.
func (s *Standby) FnRemoved(id string) {
	s.runner.opts.Pool.Retire(id)
	s.note(subject{fnID: id})
}

func (s *Standby) note(what subject) {
	s.mu.Lock()
	s.todo[what] = struct{}{}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default: // it was woken already
	}
}

// standbyRetry is the usual pause after definitions could not be read.
const standbyRetry = 5 * time.Second

func (s *Standby) run(ctx context.Context) {
	for {
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		todo := s.todo
		s.todo = map[subject]struct{}{}
		s.mu.Unlock()
		for what := range todo {
			if err := s.look(ctx, what); err != nil && ctx.Err() == nil {
				s.log.Warn("cannot see to minimum instances", slog.Any("error", err), slog.Duration("retry_in", s.retry))
				s.pause(ctx)
				s.note(what)
			}
		}
	}
}

func (s *Standby) pause(ctx context.Context) {
	select {
	case <-time.After(s.retry):
	case <-ctx.Done():
	}
}

// look is done again later if it fails, also by a panic: definitions may come from an
// embedding program.
func (s *Standby) look(ctx context.Context, what subject) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	switch {
	case what.fnID != "":
		return s.lookAtFn(ctx, what.fnID)
	case what.appID != "":
		return s.lookAtApp(ctx, what.appID)
	}
	return s.lookAtAll(ctx)
}

// lookAtAll goes through all functions for those that keep instances. The
// others have none yet.
func (s *Standby) lookAtAll(ctx context.Context) error {
	filter := model.AppFilter{Page: model.PageRequest{PerPage: model.MaxPerPage}}
	for {
		page, err := s.definitions.ListApps(ctx, filter)
		if err != nil {
			return err
		}
		for _, app := range page.Items {
			err := s.eachFn(ctx, app, func(fn *model.Fn) {
				if model.ScaleOf(app.Annotations, fn.Annotations, s.runner.opts.Scale).MinInstances > 0 {
					s.keep(app, fn)
				}
			})
			if err != nil {
				return err
			}
		}
		if filter.Page.Cursor = page.NextCursor; page.NextCursor == "" {
			return nil
		}
	}
}

func (s *Standby) eachFn(ctx context.Context, app *model.App, do func(*model.Fn)) error {
	filter := model.FnFilter{AppID: app.ID, Page: model.PageRequest{PerPage: model.MaxPerPage}}
	for {
		page, err := s.definitions.ListFns(ctx, filter)
		if err != nil {
			return err
		}
		for _, fn := range page.Items {
			do(fn)
		}
		if filter.Page.Cursor = page.NextCursor; page.NextCursor == "" {
			return nil
		}
	}
}

func (s *Standby) lookAtApp(ctx context.Context, id string) error {
	app, err := s.definitions.AppByID(ctx, id)
	if errors.Is(err, model.ErrAppNotFound) {
		s.runner.opts.Pool.RetireApp(id)
		return nil
	}
	if err != nil {
		return err
	}
	return s.eachFn(ctx, app, func(fn *model.Fn) { s.keep(app, fn) })
}

func (s *Standby) lookAtFn(ctx context.Context, id string) error {
	fn, err := s.definitions.FnByID(ctx, id)
	if err == nil {
		var app *model.App
		if app, err = s.definitions.AppByID(ctx, fn.AppID); err == nil {
			s.keep(app, fn)
			return nil
		}
	}
	if errors.Is(err, model.ErrFnNotFound) || errors.Is(err, model.ErrAppNotFound) {
		s.runner.opts.Pool.Retire(id)
		return nil
	}
	return err
}

// keep tells the pool of a function's present definition. Without the consent of the
// call overrider it keeps no instances, and those of former definitions end.
func (s *Standby) keep(app *model.App, fn *model.Fn) {
	call := &invoke.Call{App: app, Fn: fn}
	rejected := s.override(call)
	if rejected != nil {
		call = &invoke.Call{App: app, Fn: fn}
	}
	spec := s.runner.specOf(call)
	if rejected != nil {
		if spec.Scale.MinInstances > 0 {
			s.log.Warn("minimum instances are not kept, as the call overrider rejects the function",
				slog.String("fn_id", fn.ID), slog.Any("error", rejected))
		}
		without := *spec
		without.Scale.MinInstances = 0
		spec = &without
	}
	if s.runner.refusal(spec) != nil {
		s.runner.opts.Pool.Reject(fn.ID) // what there is, is of a former definition
		return
	}
	s.runner.opts.Pool.Keep(spec)
}

// override makes of a definition what the overrider makes of calls of it. A panic ends
// one call elsewhere, and nothing else; so here.
func (s *Standby) override(call *invoke.Call) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("the call overrider panicked: %v", cause)
		}
	}()
	return s.runner.opts.Override.Apply(nil, call)
}
