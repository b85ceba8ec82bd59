package store

import (
	"context"

	"github.com/tinefn/tine/definition"
	"github.com/tinefn/tine/model"
)

// Listeners are told about operations of a store, in their order.
type Listeners struct {
	Apps     []definition.AppListener
	Fns      []definition.FnListener
	Triggers []definition.TriggerListener
}

// Listen returns a store that tells the listeners of its operations, and does not
// do what they object to. What they may change is a copy of what the caller gave.
func Listen(s Store, l Listeners) Store {
	if len(l.Apps) == 0 && len(l.Fns) == 0 && len(l.Triggers) == 0 {
		return s
	}
	return &listening{s, l}
}

type listening struct {
	Store
	told Listeners
}

// hook calls one function of each listener until one of them objects.
func hook[L, T any](ctx context.Context, listeners []L, pick func(*L) func(context.Context, T) error, what T) error {
	for i := range listeners {
		if call := pick(&listeners[i]); call != nil {
			if err := call(ctx, what); err != nil {
				return err
			}
		}
	}
	return nil
}

// Shorter names for what each operation picks of a listener.
type (
	ofApp     = func(context.Context, *model.App) error
	ofFn      = func(context.Context, *model.Fn) error
	ofTrigger = func(context.Context, *model.Trigger) error
	ofID      = func(context.Context, string) error
)

func (s *listening) InsertApp(ctx context.Context, given *model.App) (*model.App, error) {
	app := given.Clone()
	if err := hook(ctx, s.told.Apps, func(l *definition.AppListener) ofApp { return l.BeforeCreate }, app); err != nil {
		return nil, err
	}
	app, err := s.Store.InsertApp(ctx, app)
	if err != nil {
		return nil, err
	}
	return app, hook(ctx, s.told.Apps, func(l *definition.AppListener) ofApp { return l.AfterCreate }, app)
}

func (s *listening) UpdateApp(ctx context.Context, given *model.App) (*model.App, error) {
	patch := given.Clone()
	if err := hook(ctx, s.told.Apps, func(l *definition.AppListener) ofApp { return l.BeforeUpdate }, patch); err != nil {
		return nil, err
	}
	app, err := s.Store.UpdateApp(ctx, patch)
	if err != nil {
		return nil, err
	}
	return app, hook(ctx, s.told.Apps, func(l *definition.AppListener) ofApp { return l.AfterUpdate }, app)
}

func (s *listening) RemoveApp(ctx context.Context, id string) error {
	if err := hook(ctx, s.told.Apps, func(l *definition.AppListener) ofID { return l.BeforeDelete }, id); err != nil {
		return err
	}
	if err := s.Store.RemoveApp(ctx, id); err != nil {
		return err
	}
	return hook(ctx, s.told.Apps, func(l *definition.AppListener) ofID { return l.AfterDelete }, id)
}

func (s *listening) AppByID(ctx context.Context, id string) (*model.App, error) {
	if err := hook(ctx, s.told.Apps, func(l *definition.AppListener) ofID { return l.BeforeGet }, id); err != nil {
		return nil, err
	}
	app, err := s.Store.AppByID(ctx, id)
	if err != nil {
		return nil, err
	}
	return app, hook(ctx, s.told.Apps, func(l *definition.AppListener) ofApp { return l.AfterGet }, app)
}

func (s *listening) ListApps(ctx context.Context, filter model.AppFilter) (model.Page[*model.App], error) {
	var none model.Page[*model.App]
	before := func(l *definition.AppListener) func(context.Context, *model.AppFilter) error { return l.BeforeList }
	if err := hook(ctx, s.told.Apps, before, &filter); err != nil {
		return none, err
	}
	page, err := s.Store.ListApps(ctx, filter)
	if err != nil {
		return none, err
	}
	after := func(l *definition.AppListener) func(context.Context, []*model.App) error { return l.AfterList }
	return page, hook(ctx, s.told.Apps, after, page.Items)
}

func (s *listening) InsertFn(ctx context.Context, given *model.Fn) (*model.Fn, error) {
	fn := given.Clone()
	if err := hook(ctx, s.told.Fns, func(l *definition.FnListener) ofFn { return l.BeforeCreate }, fn); err != nil {
		return nil, err
	}
	fn, err := s.Store.InsertFn(ctx, fn)
	if err != nil {
		return nil, err
	}
	return fn, hook(ctx, s.told.Fns, func(l *definition.FnListener) ofFn { return l.AfterCreate }, fn)
}

func (s *listening) UpdateFn(ctx context.Context, given *model.Fn) (*model.Fn, error) {
	patch := given.Clone()
	if err := hook(ctx, s.told.Fns, func(l *definition.FnListener) ofFn { return l.BeforeUpdate }, patch); err != nil {
		return nil, err
	}
	fn, err := s.Store.UpdateFn(ctx, patch)
	if err != nil {
		return nil, err
	}
	return fn, hook(ctx, s.told.Fns, func(l *definition.FnListener) ofFn { return l.AfterUpdate }, fn)
}

func (s *listening) RemoveFn(ctx context.Context, id string) error {
	if err := hook(ctx, s.told.Fns, func(l *definition.FnListener) ofID { return l.BeforeDelete }, id); err != nil {
		return err
	}
	if err := s.Store.RemoveFn(ctx, id); err != nil {
		return err
	}
	return hook(ctx, s.told.Fns, func(l *definition.FnListener) ofID { return l.AfterDelete }, id)
}

func (s *listening) InsertTrigger(ctx context.Context, given *model.Trigger) (*model.Trigger, error) {
	trigger := given.Clone()
	if err := hook(ctx, s.told.Triggers, func(l *definition.TriggerListener) ofTrigger { return l.BeforeCreate }, trigger); err != nil {
		return nil, err
	}
	trigger, err := s.Store.InsertTrigger(ctx, trigger)
	if err != nil {
		return nil, err
	}
	return trigger, hook(ctx, s.told.Triggers, func(l *definition.TriggerListener) ofTrigger { return l.AfterCreate }, trigger)
}

func (s *listening) UpdateTrigger(ctx context.Context, given *model.Trigger) (*model.Trigger, error) {
	patch := given.Clone()
	if err := hook(ctx, s.told.Triggers, func(l *definition.TriggerListener) ofTrigger { return l.BeforeUpdate }, patch); err != nil {
		return nil, err
	}
	trigger, err := s.Store.UpdateTrigger(ctx, patch)
	if err != nil {
		return nil, err
	}
	return trigger, hook(ctx, s.told.Triggers, func(l *definition.TriggerListener) ofTrigger { return l.AfterUpdate }, trigger)
}

func (s *listening) RemoveTrigger(ctx context.Context, id string) error {
	if err := hook(ctx, s.told.Triggers, func(l *definition.TriggerListener) ofID { return l.BeforeDelete }, id); err != nil {
		return err
	}
	if err := s.Store.RemoveTrigger(ctx, id); err != nil {
		return err
	}
	return hook(ctx, s.told.Triggers, func(l *definition.TriggerListener) ofID { return l.AfterDelete }, id)
}
