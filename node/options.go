package node

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"

	"github.com/tinefn/tine/definition"
	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// Options configures a node beyond its settings. The zero value of each field changes
// nothing, and what a type of node has no use for has no effect on it, so that a
// program can be all types. docs/extending.md says of each when it takes effect, on
// which nodes, and what an error does.
type Options struct {
	// Environ holds the settings, in the form of os.Environ. See
	// docs/configuration.md.
	Environ []string
	// Dir is the working directory, where data is kept by default.
	Dir string
	// Stderr receives the log where the settings say so.
	Stderr io.Writer
	// StopWith are contexts that end the node beside that of Run.
	StopWith []context.Context

	// Override changes calls before they are admitted.
	Override invoke.Overrider
	// CallListeners are told about calls, in this order.
	CallListeners []invoke.CallListener
	// Middleware wraps the invoker of the node, the last one outermost. It sees calls
	// after Override.
	Middleware []func(invoke.Invoker) invoke.Invoker

	// Driver is the container engine; nil: the one that the settings name. The
	// node closes it.
	Driver driver.Driver
	// WrapDriver wraps the driver, the last one outermost: to change what
	// containers are made from, by their extensions for example. A wrapper hands on
	// a copy of the spec that it changes, and is a driver.KeyExtender if containers
	// differ by extensions.
	WrapDriver []func(driver.Driver) driver.Driver

	// Store keeps the definitions; nil: the database that the settings name. The node
	// closes it.
	Store definition.Store
	// WrapStore wraps the store, the last one outermost.
	WrapStore []func(definition.Store) definition.Store
	// Source is where a load balancer finds the definitions of calls; nil: the API
	// node that the settings name.
	Source definition.Source
	// The listeners are told about operations on definitions, in this order, outside
	// of what WrapStore has added.
	AppListeners     []definition.AppListener
	FnListeners      []definition.FnListener
	TriggerListeners []definition.TriggerListener
	// AnnotateFn and AnnotateTrigger change copies of definitions that are about to be
	// shown to a client, which have the annotations that name their endpoints. They are
	// called by many goroutines at the same time, and an error fails the request.
	AnnotateFn      func(r *http.Request, fn *model.Fn) error
	AnnotateTrigger func(r *http.Request, app *model.App, trigger *model.Trigger) error

	// RunnerPool makes what tells a load balancer its runners; nil: what the settings
	// name. A runner that dial returns speaks the protocol of runners, as the settings
	// say; dial does not wait for a connection. The node closes the pool.
	RunnerPool func(dial func(address string) (invoke.Runner, error)) (invoke.RunnerPool, error)
	// Placer makes what places the calls of a load balancer on the runners of a pool,
	// which it does not close; nil: what the settings name.
	Placer func(invoke.RunnerPool) (invoke.Invoker, error)

	// StatusCheck is asked when somebody wants to know how a pure-runner is, before its
	// status image is called; its answer is told, and an error means that the runner is
	// ill. KernelDumps counts what crashes of the kernel left on the machine's disk.
	StatusCheck func(ctx context.Context) (map[string]string, error)
	KernelDumps func() uint64
	// Configure receives what is sent to a pure-runner by ConfigureRunner.
	Configure func(ctx context.Context, config map[string]string) error
	// Logs is what a pure-runner delivers by StreamLogs; nil: readers are told that there
	// is nothing.
	Logs invoke.LogSource

	// RootMiddleware is around all requests to the web port, also those without a
	// route; the first is outermost. It is inside of metrics, CORS and the limit of
	// declared sizes.
	RootMiddleware []func(http.Handler) http.Handler
	// APIMiddleware is around the routes of apps, functions and triggers below /v2, and
	// no others; the first is outermost. It is inside of RootMiddleware.
	APIMiddleware []func(http.Handler) http.Handler
	// Endpoints are further routes below /v2, and Routes anywhere.
	Endpoints, Routes []Endpoint
	// These leave out routes of the node, so that Routes can have others there: POST
	// /invoke, /t, and everything below /debug.
	OmitInvoke, OmitTriggers, OmitProfiler bool
	// WebTLS protects the web port; nil: nothing does. It needs a certificate.
	WebTLS *tls.Config
	// WebServer may change the settings of the web port's server before it serves, but not
	// its handler. Of plain HTTP, ReadTimeout, ConnState and ConnContext have no effect.
	WebServer func(*http.Server)
	// Halt is called by GET /shutdown, a route that there is with it only, and is to end
	// the node, such as by ending the context of Run.
	Halt func()
	// RequestID makes the identifiers of requests in the log; nil: as the settings say.
	RequestID *RequestID
}

// Endpoint is a route of an embedding program.
type Endpoint struct {
	Method string // "*": all
	// Path is one such as "/stats/{app_id}"; a parameter matches one part that is not
	// empty, and a last part "*" any rest. Handlers get them by http.Request.PathValue.
	Path    string
	Handler http.Handler
}

// RequestID says where identifiers of requests come from.
type RequestID struct {
	Header string // of the request that may carry one
	// Generate returns the identifier, given what the header says, "" if it is not
	// there. One that is empty, longer than 128 bytes or not printable ASCII is
	// replaced by a new one. Nil keeps what was found.
	Generate func(found string) string
}
