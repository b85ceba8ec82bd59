package definition

import (
	"context"

	"github.com/tinefn/tine/model"
)

// The functions of listeners are called around the operations of a store, before
// anything is checked, with the context of the request, by many goroutines at the same
// time. Nil ones are not called. Listeners are called in their order, and the first
// error keeps the later ones from being called and is what the client gets, by its
// kind of package model. After an error of a Before function the operation does not
// happen. An error of an After function makes the request fail although the change
// has been made. Before functions may change what they get by pointer.

// AppListener is told about operations on apps: those of the API, and look-ups of
// calls that are not answered from what is remembered.
type AppListener struct {
	BeforeCreate func(ctx context.Context, app *model.App) error
	AfterCreate  func(ctx context.Context, app *model.App) error
	BeforeUpdate func(ctx context.Context, patch *model.App) error // its ID says which app
	AfterUpdate  func(ctx context.Context, app *model.App) error
	BeforeDelete func(ctx context.Context, id string) error
	AfterDelete  func(ctx context.Context, id string) error
	BeforeGet    func(ctx context.Context, id string) error
	AfterGet     func(ctx context.Context, app *model.App) error
	BeforeList   func(ctx context.Context, filter *model.AppFilter) error
	AfterList    func(ctx context.Context, apps []*model.App) error
}

// FnListener is told about changes of functions.
type FnListener struct {
	BeforeCreate func(ctx context.Context, fn *model.Fn) error
	AfterCreate  func(ctx context.Context, fn *model.Fn) error
	BeforeUpdate func(ctx context.Context, patch *model.Fn) error // its ID says which function
	AfterUpdate  func(ctx context.Context, fn *model.Fn) error
	BeforeDelete func(ctx context.Context, id string) error
	AfterDelete  func(ctx context.Context, id string) error
}

// TriggerListener is told about changes of triggers.
type TriggerListener struct {
	BeforeCreate func(ctx context.Context, trigger *model.Trigger) error
	AfterCreate  func(ctx context.Context, trigger *model.Trigger) error
	BeforeUpdate func(ctx context.Context, patch *model.Trigger) error // its ID says which trigger
	AfterUpdate  func(ctx context.Context, trigger *model.Trigger) error
	BeforeDelete func(ctx context.Context, id string) error
	AfterDelete  func(ctx context.Context, id string) error
}
