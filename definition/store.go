// Package definition is the seam between Tine and whoever keeps its definitions of
// apps, functions and triggers: [Store] for a whole database, [Source] for what calls
// need of it, and listeners that are told about operations.
//
// A program that embeds a node hands its own to package node.
package definition

import (
	"context"

	"github.com/tinefn/tine/model"
)

// Source is where the definitions of calls come from. Failures a client can cause
// are kinds of package model: ErrAppNotFound, ErrFnNotFound, ErrTriggerNotFound. What
// it returns is shared and not changed any more. It must be safe for concurrent use.
type Source interface {
	AppByID(ctx context.Context, id string) (*model.App, error)
	// AppIDByName returns the ID of the app with exactly this name.
	AppIDByName(ctx context.Context, name string) (string, error)
	FnByID(ctx context.Context, id string) (*model.Fn, error)
	TriggerBySource(ctx context.Context, appID, triggerType, source string) (*model.Trigger, error)
}

// Store keeps apps, functions and triggers. It must be safe for concurrent
// use. Rules that hold for every method:
//
//   - A write is durable when it returns, and atomic: after an error nothing
//     has changed.
//   - Inserts validate what they are given, generate the identifier, set both
//     timestamps to now and return a new object; the argument stays as it was.
//   - Updates read, merge, validate and write in one transaction and return
//     the whole new object. The patch's ID says which object.
//   - Failures a client can cause are kinds of package model; anything else is
//     an internal error.
type Store interface {
	Apps
	Fns
	Triggers

	// Ping reports whether the database answers.
	Ping(ctx context.Context) error
	// Close waits for running operations and releases the database.
	Close() error
}

// Apps keeps apps. Names are unique.
type Apps interface {
	AppByID(ctx context.Context, id string) (*model.App, error)
	// AppIDByName returns the ID of the app with exactly this name.
	AppIDByName(ctx context.Context, name string) (string, error)
	ListApps(ctx context.Context, filter model.AppFilter) (model.Page[*model.App], error)
	InsertApp(ctx context.Context, app *model.App) (*model.App, error)
	UpdateApp(ctx context.Context, patch *model.App) (*model.App, error)
	// RemoveApp removes the app with its functions and triggers.
	RemoveApp(ctx context.Context, id string) error
}

// Fns keeps functions. Names are unique within an app.
type Fns interface {
	FnByID(ctx context.Context, id string) (*model.Fn, error)
	ListFns(ctx context.Context, filter model.FnFilter) (model.Page[*model.Fn], error)
	// InsertFn copies the shape of the app.
	InsertFn(ctx context.Context, fn *model.Fn) (*model.Fn, error)
	UpdateFn(ctx context.Context, patch *model.Fn) (*model.Fn, error)
	// RemoveFn removes the function with its triggers.
	RemoveFn(ctx context.Context, id string) error
}

// Triggers keeps triggers. A type and source is unique within an app, a name
// within a function; if both collide, the source is reported.
type Triggers interface {
	TriggerByID(ctx context.Context, id string) (*model.Trigger, error)
	TriggerBySource(ctx context.Context, appID, triggerType, source string) (*model.Trigger, error)
	ListTriggers(ctx context.Context, filter model.TriggerFilter) (model.Page[*model.Trigger], error)
	InsertTrigger(ctx context.Context, trigger *model.Trigger) (*model.Trigger, error)
	UpdateTrigger(ctx context.Context, patch *model.Trigger) (*model.Trigger, error)
	RemoveTrigger(ctx context.Context, id string) error
}
