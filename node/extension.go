package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/store"
	"github.com/tinefn/tine/invoke"
)

// This file connects what an embedding program adds by its options.

// Invoker executes calls as those of clients are, with listeners and middleware but
// without the overrider. It is for routes of an embedding program, and nil on a node
// that takes no calls by HTTP.
func (n *Node) Invoker() invoke.Invoker { return n.invoker }

// WriteError answers a request by the kind of package model in err's chain, as the
// node's own routes do. Call it before anything of the response was written.
func WriteError(w http.ResponseWriter, r *http.Request, err error) { edge.WriteError(w, r, nil, err) }

// moment is when listeners hear of a call.
type moment bool

const (
	whenHeld moment = false // an instance is held for it
	atOnce   moment = true  // before it is placed
)

// extend puts listeners and middleware around what executes the node's calls.
func (n *Node) extend(inner invoke.Invoker, when moment) invoke.Invoker {
	n.invoker = invoke.Listen(n.opts.CallListeners, invoke.ListenOptions{AtOnce: bool(when), Logger: n.log})(inner)
	for _, wrap := range n.opts.Middleware {
		n.invoker = wrap(n.invoker)
	}
	return n.invoker
}

// overridden lets the overrider change calls that no HTTP request brings.
func (n *Node) overridden(inner invoke.Invoker) invoke.Invoker {
	if n.opts.Override == nil {
		return inner
	}
	return invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
		if err := n.opts.Override.Apply(nil, call); err != nil {
			return nil, err
		}
		return inner.Invoke(ctx, call)
	})
}

// heard is a store that tells the listeners.
func (n *Node) heard(definitions store.Store) store.Store {
	return store.Listen(definitions, store.Listeners{
		Apps: n.opts.AppListeners, Fns: n.opts.FnListeners, Triggers: n.opts.TriggerListeners,
	})
}

// instanceKey asks all drivers, of which each may wrap the one before, what
// extensions mean to them. It is nil if they mean nothing to any.
func instanceKey(layers []driver.Driver) func(map[string]string) string {
	extenders := map[int]driver.KeyExtender{}
	for i, layer := range layers {
		if extender, ok := layer.(driver.KeyExtender); ok {
			extenders[i] = extender
		}
	}
	if len(extenders) == 0 {
		return nil
	}
	return func(extensions map[string]string) string {
		var key strings.Builder
		for i := range layers {
			if extender := extenders[i]; extender != nil {
				if part := extender.InstanceKey(extensions); part != "" {
					fmt.Fprintf(&key, "%d:%d:%s", i, len(part), part)
				}
			}
		}
		return key.String()
	}
}

// requestID is where identifiers of requests come from.
func (n *Node) requestID() RequestID {
	if n.opts.RequestID != nil {
		return *n.opts.RequestID
	}
	return RequestID{Header: n.config.HTTP.RequestIDHeader}
}

// serveExtras adds the program's routes to the node's.
func (n *Node) serveExtras(router *edge.Router) error {
	var errs []error
	for _, endpoint := range n.opts.Endpoints {
		endpoint.Path = "/v2" + endpoint.Path
		errs = append(errs, addEndpoint(router, endpoint))
	}
	for _, endpoint := range n.opts.Routes {
		errs = append(errs, addEndpoint(router, endpoint))
	}
	return errors.Join(errs...)
}

// addEndpoint adds one route. The router panics if it cannot.
func addEndpoint(router *edge.Router, e Endpoint) (err error) {
	if e.Handler == nil {
		return fmt.Errorf("endpoint %s %s has no handler", e.Method, e.Path)
	}
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("endpoint %s %s: %v", e.Method, e.Path, cause)
		}
	}()
	router.Handle(e.Method, e.Path, func(w http.ResponseWriter, r *http.Request) error {
		edge.SetPathValues(r)
		e.Handler.ServeHTTP(w, r)
		return nil
	})
	return nil
}

// withOthers is a context that ends with others too.
func withOthers(ctx context.Context, others []context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stops := []func() bool{}
	for _, other := range others {
		stops = append(stops, context.AfterFunc(other, func() { cancel(context.Cause(other)) }))
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel(nil)
	}
}
