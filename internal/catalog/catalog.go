// Package catalog finds the definitions that a call needs. It remembers them
// for a short time and asks its source once for many callers.
package catalog

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/tinefn/tine/definition"
	"github.com/tinefn/tine/model"
)

// DefaultTTL is how long a definition is used without asking again: what Fn
// promises for changes to reach invocations.
const DefaultTTL = 5 * time.Second

// Source is where definitions come from: a store, or another node.
type Source = definition.Source

// Target is what a call is about. Its parts are shared and must not be changed.
type Target struct {
	App     *model.App
	Fn      *model.Fn
	Trigger *model.Trigger // nil for a direct invocation
}

// Catalog looks targets up. It is safe for concurrent use.
type Catalog struct {
	health   *health
	apps     *cache[string, *model.App]
	appIDs   *cache[string, string]
	fns      *cache[string, *model.Fn]
	triggers *cache[triggerKey, *model.Trigger]
}

type triggerKey struct{ appID, triggerType, source string }

// New returns a catalog that remembers what source says for ttl.
func New(source Source, ttl time.Duration) *Catalog {
	return NewStale(source, ttl, Stale{Logger: slog.New(slog.DiscardHandler)})
}

// NewStale returns a catalog that remembers what source says for ttl, and longer
// while it says nothing.
func NewStale(source Source, ttl time.Duration, stale Stale) *Catalog {
	h := &health{source: stale.Source, log: stale.Logger, useFor: stale.For}
	p := policy{ttl: ttl, stale: stale.For, patience: stale.Patience, entries: cmp.Or(stale.Entries, DefaultEntries), health: h}
	return &Catalog{
		health: h,
		apps:   newCache(p, source.AppByID),
		appIDs: newCache(p, source.AppIDByName),
		fns:    newCache(p, source.FnByID),
		triggers: newCache(p, func(ctx context.Context, key triggerKey) (*model.Trigger, error) {
			return source.TriggerBySource(ctx, key.appID, key.triggerType, key.source)
		}),
	}
}

// Forget makes changed definitions take effect with the next look-up instead of
// when what is remembered expires.
func (c *Catalog) Forget() {
	c.apps.forget()
	c.appIDs.forget()
	c.fns.forget()
	c.triggers.forget()
}

// ByFnID returns the target of a direct invocation. Errors: ErrFnNotFound,
// ErrAppNotFound, and the source's.
func (c *Catalog) ByFnID(ctx context.Context, fnID string) (Target, error) {
	fn, err := c.fns.get(ctx, fnID)
	if err != nil {
		return Target{}, err
	}
	app, err := c.apps.get(ctx, fn.AppID)
	if err != nil {
		return Target{}, err
	}
	return Target{App: app, Fn: fn}, nil
}

// ByHTTPSource returns the target of an HTTP trigger. Errors: ErrAppNotFound,
// ErrTriggerNotFound, ErrFnNotFound, and the source's.
func (c *Catalog) ByHTTPSource(ctx context.Context, appName, source string) (Target, error) {
	appID, err := c.appIDs.get(ctx, appName)
	if err != nil {
		return Target{}, err
	}
	app, err := c.apps.get(ctx, appID)
	if err != nil {
		return Target{}, err
	}
	trigger, err := c.triggers.get(ctx, triggerKey{appID, model.TriggerTypeHTTP, source})
	if err != nil {
		return Target{}, err
	}
	fn, err := c.fns.get(ctx, trigger.FnID)
	if err != nil {
		return Target{}, err
	}
	return Target{App: app, Fn: fn, Trigger: trigger}, nil
}
