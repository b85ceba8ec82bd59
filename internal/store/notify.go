package store

import (
	"context"

	"github.com/tinefn/tine/model"
)

// Change names what a write has changed.
type Change struct {
	AppID   string // an app, and thereby all of its functions
	FnID    string // or a function
	Removed bool   // it is not there any more
}

// Notify returns a store that calls changed after every write that succeeded,
// before it returns to who wrote. A change of triggers names nothing.
func Notify(s Store, changed func(Change)) Store { return &notifying{s, changed} }

type notifying struct {
	Store
	changed func(Change)
}

func (n *notifying) UpdateApp(ctx context.Context, patch *model.App) (*model.App, error) {
	app, err := n.Store.UpdateApp(ctx, patch)
	if err == nil {
		n.changed(Change{AppID: app.ID})
	}
	return app, err
}

func (n *notifying) RemoveApp(ctx context.Context, id string) error {
	err := n.Store.RemoveApp(ctx, id)
	if err == nil {
		n.changed(Change{AppID: id, Removed: true})
	}
	return err
}

func (n *notifying) InsertFn(ctx context.Context, given *model.Fn) (*model.Fn, error) {
	fn, err := n.Store.InsertFn(ctx, given)
	if err == nil {
		n.changed(Change{FnID: fn.ID})
	}
	return fn, err
}

func (n *notifying) UpdateFn(ctx context.Context, patch *model.Fn) (*model.Fn, error) {
	fn, err := n.Store.UpdateFn(ctx, patch)
	if err == nil {
		n.changed(Change{FnID: fn.ID})
	}
	return fn, err
}

func (n *notifying) RemoveFn(ctx context.Context, id string) error {
	err := n.Store.RemoveFn(ctx, id)
	if err == nil {
		n.changed(Change{FnID: id, Removed: true})
	}
	return err
}

func (n *notifying) InsertTrigger(ctx context.Context, given *model.Trigger) (*model.Trigger, error) {
	trigger, err := n.Store.InsertTrigger(ctx, given)
	if err == nil {
		n.changed(Change{})
	}
	return trigger, err
}

func (n *notifying) UpdateTrigger(ctx context.Context, patch *model.Trigger) (*model.Trigger, error) {
	trigger, err := n.Store.UpdateTrigger(ctx, patch)
	if err == nil {
		n.changed(Change{})
	}
	return trigger, err
}

func (n *notifying) RemoveTrigger(ctx context.Context, id string) error {
	err := n.Store.RemoveTrigger(ctx, id)
	if err == nil {
		n.changed(Change{})
	}
	return err
}
