// Package httpapi serves the definitions of apps, functions and triggers under
// /v2, one file per resource, and the few fixed answers that every node gives.
//
// It reads requests and writes responses; rules about definitions are in
// package model, and the store applies them.
package httpapi

import (
	"errors"
	"strings"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/store"
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
}

type api struct {
	store    store.Store
	base     string // without its trailing slash; empty: from the request
	maxBytes int64
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
	}
	if a.maxBytes == 0 {
		a.maxBytes = DefaultMaxDefinitionBytes
	}

	r.Handle("GET", "/v2/apps", a.listApps)
	r.Handle("POST", "/v2/apps", a.createApp)
	r.Handle("GET", "/v2/apps/{app_id}", a.getApp)
	r.Handle("PUT", "/v2/apps/{app_id}", a.updateApp)
	r.Handle("DELETE", "/v2/apps/{app_id}", a.deleteApp)

	r.Handle("GET", "/v2/fns", a.listFns)
	r.Handle("POST", "/v2/fns", a.createFn)
	r.Handle("GET", "/v2/fns/{fn_id}", a.getFn)
	r.Handle("PUT", "/v2/fns/{fn_id}", a.updateFn)
	r.Handle("DELETE", "/v2/fns/{fn_id}", a.deleteFn)

	r.Handle("GET", "/v2/triggers", a.listTriggers)
	r.Handle("POST", "/v2/triggers", a.createTrigger)
	r.Handle("GET", "/v2/triggers/{trigger_id}", a.getTrigger)
	r.Handle("PUT", "/v2/triggers/{trigger_id}", a.updateTrigger)
	r.Handle("DELETE", "/v2/triggers/{trigger_id}", a.deleteTrigger)

	r.Handle("GET", "/v2/runner/apps/{app_id}/triggerBySource/{trigger_type}/*", a.triggerBySource)

	r.Handle("GET", "/v2/fns/{fn_id}/calls", callsGone)
	r.Handle("GET", "/v2/fns/{fn_id}/calls/{call_id}", callsGone)
	r.Handle("GET", "/v2/fns/{fn_id}/calls/{call_id}/log", callsGone)
	return nil
}
