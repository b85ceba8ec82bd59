// Package httpapi serves the definitions of apps, functions and triggers under
// /v2, one file per resource, and the few fixed answers that every node gives.
//
// It reads requests and writes responses; rules about definitions are in
// package model, and the store applies them.
package httpapi

import (
	"errors"
	"net/http"
	"strings"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/store"
	"github.com/tinefn/tine/model"
)

// DefaultMaxDefinitionBytes is far above any sensible definition: most of it is
// configuration, which has no limit of its own.
const DefaultMaxDefinitionBytes = 4 << 20

// Options is what the API needs.
type Options struct {
	Store store.Store

	// PublicURL is the base of the endpoints in responses, such as
	// "https://fn.example.com/edge". Empty takes what the client has used.
	PublicURL string

	// MaxDefinitionBytes limits the JSON body of a request; 0 means
	// [DefaultMaxDefinitionBytes].
	MaxDefinitionBytes int64

	// Middleware is around the routes of apps, functions and triggers, and no others;
	// the first is outermost. See edge.Router.Through.
	Middleware []func(http.Handler) http.Handler

	// AnnotateFn and AnnotateTrigger change copies that are about to be shown to a
	// client, after the endpoints were added to their annotations; nil: nothing more is
	// changed. An error fails the request.
	AnnotateFn      func(r *http.Request, fn *model.Fn) error
	AnnotateTrigger func(r *http.Request, app *model.App, trigger *model.Trigger) error
}

type api struct {
	store    store.Store
	base     string // without its trailing slash; empty: from the request
	maxBytes int64

	annotateFn      func(*http.Request, *model.Fn) error
	annotateTrigger func(*http.Request, *model.App, *model.Trigger) error
}

// Register adds all routes under /v2 to r.
func Register(r *edge.Router, opts Options) error {
	if opts.Store == nil {
		return errors.New("http api: no store")
	}
	if opts.MaxDefinitionBytes < 0 {
		return errors.New("http api: the limit of a definition's size is negative")
	}
	a := &api{
		store:    opts.Store,
		base:     strings.TrimSuffix(opts.PublicURL, "/"),
		maxBytes: opts.MaxDefinitionBytes,

		annotateFn: opts.AnnotateFn, annotateTrigger: opts.AnnotateTrigger,
	}
	if a.maxBytes == 0 {
		a.maxBytes = DefaultMaxDefinitionBytes
	}

	handle := func(method, pattern string, h edge.Handler) { r.Handle(method, pattern, r.Through(opts.Middleware, h)) }
	handle("GET", "/v2/apps", a.listApps)
	handle("POST", "/v2/apps", a.createApp)
	handle("GET", "/v2/apps/{app_id}", a.getApp)
	handle("PUT", "/v2/apps/{app_id}", a.updateApp)
	handle("DELETE", "/v2/apps/{app_id}", a.deleteApp)

	handle("GET", "/v2/fns", a.listFns)
	handle("POST", "/v2/fns", a.createFn)
	handle("GET", "/v2/fns/{fn_id}", a.getFn)
	handle("PUT", "/v2/fns/{fn_id}", a.updateFn)
	handle("DELETE", "/v2/fns/{fn_id}", a.deleteFn)

	handle("GET", "/v2/triggers", a.listTriggers)
	handle("POST", "/v2/triggers", a.createTrigger)
	handle("GET", "/v2/triggers/{trigger_id}", a.getTrigger)
	handle("PUT", "/v2/triggers/{trigger_id}", a.updateTrigger)
	handle("DELETE", "/v2/triggers/{trigger_id}", a.deleteTrigger)

	r.Handle("GET", "/v2/runner/apps/{app_id}/triggerBySource/{trigger_type}/*", a.triggerBySource)

	r.Handle("GET", "/v2/fns/{fn_id}/calls", callsGone)
	r.Handle("GET", "/v2/fns/{fn_id}/calls/{call_id}", callsGone)
	r.Handle("GET", "/v2/fns/{fn_id}/calls/{call_id}/log", callsGone)
	return nil
}
