package edge

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/tinefn/tine/model"
)

// Options says what a [Router] does around its handlers. The zero value is
// usable: no limits, no CORS, no request identifiers, no log.
type Options struct {
	Logger *slog.Logger

	// MaxRequestBytes limits every request body; 0 is no limit.
	MaxRequestBytes int64
	// BodyReadTimeout limits the time that the server waits for a request's
	// body, counting only the time that a handler spends in Read; 0 is no limit.
	BodyReadTimeout time.Duration

	// CORSOrigins switches CORS on. A first entry "*" allows all origins, else
	// every entry is an origin with the scheme http or https.
	CORSOrigins []string
	// CORSHeaders are the request headers that browsers may send; empty is
	// Origin, Content-Length and Content-Type.
	CORSHeaders []string

	// RequestIDHeader is the request header that may carry an identifier for
	// the log; empty switches request identifiers off.
	RequestIDHeader string
	// NewRequestID makes an identifier of what that header says, "" if it is not
	// there. Nil keeps one that is presentable, and makes a new one else.
	NewRequestID func(found string) string

	// Middleware is around every request that is no matter of CORS and not too
	// large, whether it has a route or not; the first is outermost. See Through.
	Middleware []func(http.Handler) http.Handler

	Observer Observer // nil: none
}

// Handler serves one request. An error that it returns before it has started
// its response becomes an error response; after that, the connection is cut so
// that the client does not take what it got for the whole.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Route is a registered route. Method "*" stands for every method.
type Route struct {
	Method, Pattern string
}

// methods are what a route registered with method "*" serves.
var methods = []string{
	http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodHead,
	http.MethodOptions, http.MethodDelete, http.MethodConnect, http.MethodTrace,
}

// Router serves HTTP requests by the handlers registered with it. Register all
// of them before the first request; after that it is safe for concurrent use.
type Router struct {
	log             *slog.Logger
	maxRequestBytes int64
	bodyReadTimeout time.Duration
	cors            *cors // nil: off
	requestIDHeader string
	newRequestID    func(found string) string
	inner           Handler // middleware around routes
	busy            busyLog
	observer        Observer          // nil: none
	fnPatterns      map[string]string // by pattern

	tree     *chi.Mux // finds patterns; never serves
	handlers map[Route]Handler
	routes   []Route
}

// NewRouter returns a router without routes. It fails if a CORS origin is not
// an http or https origin.
func NewRouter(opts Options) (*Router, error) {
	c, err := newCORS(opts.CORSOrigins, opts.CORSHeaders)
	if err != nil {
		return nil, err
	}
	rt := &Router{
		log:             loggerOrDiscard(opts.Logger),
		maxRequestBytes: opts.MaxRequestBytes,
		bodyReadTimeout: opts.BodyReadTimeout,
		cors:            c,
		requestIDHeader: opts.RequestIDHeader,
		newRequestID:    opts.NewRequestID,
		observer:        opts.Observer,
		fnPatterns:      map[string]string{},
		tree:            chi.NewRouter(),
		handlers:        make(map[Route]Handler),
	}
	rt.inner = rt.Through(opts.Middleware, rt.route)
	return rt, nil
}

// Handle registers h for a method and a pattern such as "/v2/apps/{app_id}" or
// "/t/{app_name}/*". A parameter matches one non-empty path segment, "*" any
// rest. Method "*" registers h for every method. Like http.ServeMux it panics
// if the pattern is malformed or already taken.
func (rt *Router) Handle(method, pattern string, h Handler) {
	served := []string{method}
	if method == "*" {
		served = methods
	}
	for _, m := range served {
		route := Route{m, pattern}
		if rt.handlers[route] != nil {
			panic(fmt.Sprintf("edge: %s %s is registered twice", m, pattern))
		}
		rt.handlers[route] = h
		rt.tree.Method(m, pattern, http.NotFoundHandler())
	}
	rt.routes = append(rt.routes, Route{method, pattern})
	rt.fnPatterns[pattern] = fnPattern(pattern)
}

// Routes returns what was registered, in that order.
func (rt *Router) Routes() []Route { return slices.Clone(rt.routes) }

// Param returns the decoded value of a path parameter of the matched route. The
// name "*" gives the rest that a trailing "*" matched, without the slash that
// separates it from what is before.
func Param(r *http.Request, name string) string {
	if known := requestOf(r.Context()); known != nil {
		for _, p := range known.params {
			if p.name == name {
				return p.value
			}
		}
	}
	return ""
}

// SetPathValues gives a request the parameters of the matched route, for handlers
// that ask for them by http.Request.PathValue.
func SetPathValues(r *http.Request) {
	if known := requestOf(r.Context()); known != nil {
		for _, p := range known.params {
			r.SetPathValue(p.name, p.value)
		}
	}
}

// RoutePattern returns the pattern that the router matched, or "" if there was
// none. Handlers around a Router can use it after the Router has returned.
func RoutePattern(r *http.Request) string { return r.Pattern }

// ServeHTTP serves one request.
func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	known := &requestContext{Context: r.Context(), id: rt.requestID(r)}
	r.Pattern = rt.match(r.Method, r.URL.Path, known)
	// A copy keeps changes to body and context from handlers around the router.
	req := r.WithContext(known)
	resp := &response{ResponseWriter: w}
	if rt.observer != nil {
		route, began := rt.observedRoute(r.Method, r.Pattern), time.Now()
		rt.observer.Began(route)
		defer func() { rt.ended(route, known, resp, known.failure, began) }()
	}
	known.body = rt.limitBody(resp, req)
	if known.body != nil {
		defer known.body.finish()
	}
	rt.answer(resp, req, known, rt.admit)
}

// answer lets h answer a request, and does so itself if h fails.
func (rt *Router) answer(resp *response, r *http.Request, known *requestContext, h Handler) {
	err := run(h, resp, r)
	if err == nil {
		return
	}
	if known.body != nil && known.body.expired() {
		err = blameBodyTimeout(err)
	}
	known.failure = err
	if resp.started {
		rt.logCut(resp, r, err)
		panic(http.ErrAbortHandler)
	}
	WriteError(resp, r, rt.busy.logger(rt.log, err), err)
}

// Through returns h behind middleware of which the first is outermost. What h fails
// with is answered inside, so that middleware sees the response as clients do. A
// request that middleware hands on has a context that comes from the one it got.
func (rt *Router) Through(middleware []func(http.Handler) http.Handler, h Handler) Handler {
	if len(middleware) == 0 {
		return h
	}
	var chain http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		known := requestOf(r.Context())
		if known == nil {
			panic("middleware has replaced the context of the request by one that does not come from it")
		}
		rt.answer(&response{ResponseWriter: w}, r, known, h)
	})
	for _, wrap := range slices.Backward(middleware) {
		chain = wrap(chain)
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		chain.ServeHTTP(w, r)
		return nil
	}
}

// run calls a handler and turns a panic into an error.
func run(h Handler, w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		if abort, ok := cause.(error); ok && errors.Is(abort, http.ErrAbortHandler) {
			panic(http.ErrAbortHandler)
		}
		err = &PanicError{Cause: cause, Stack: debug.Stack()}
	}()
	return h(w, r)
}

// admit answers what no handler gets to see.
func (rt *Router) admit(w http.ResponseWriter, r *http.Request) error {
	if rt.cors != nil && rt.cors.answer(w, r) {
		return nil
	}
	if err := rt.checkContentLength(r); err != nil {
		return err
	}
	return rt.inner(w, r)
}

// route calls the handler of the request's route.
func (rt *Router) route(w http.ResponseWriter, r *http.Request) error {
	if r.Pattern == "" {
		return rt.noRoute(w, r)
	}
	return rt.handlers[Route{r.Method, r.Pattern}](w, r)
}

// chiContexts are what the tree notes its findings in.
var chiContexts = sync.Pool{New: func() any { return chi.NewRouteContext() }}

// match finds the route of a decoded path and notes its parameters in known,
// unless that is nil. The tree would let a parameter match nothing between two
// slashes; this does not.
func (rt *Router) match(method, path string, known *requestContext) (pattern string) {
	if !strings.HasPrefix(path, "/") {
		return ""
	}
	found := chiContexts.Get().(*chi.Context)
	defer chiContexts.Put(found)
	found.Reset()
	pattern = rt.tree.Find(found, method, path)
	if pattern == "" {
		return ""
	}
	for i, name := range found.URLParams.Keys {
		if found.URLParams.Values[i] == "" && name != "*" {
			return ""
		}
	}
	if known != nil {
		for i, name := range found.URLParams.Keys {
			known.params = append(known.params, param{name, found.URLParams.Values[i]})
		}
	}
	return pattern
}

// noRoute answers a request whose method and path match no route.
func (rt *Router) noRoute(w http.ResponseWriter, r *http.Request) error {
	path := r.URL.Path
	if target, ok := rt.slashTwin(r.Method, path); ok {
		// Escaping the decoded path again keeps everything that a browser could
		// take for another host, a query or a header out of the location.
		location := url.URL{Path: target, RawQuery: r.URL.RawQuery}
		w.Header().Set("Location", location.String())
		status := http.StatusTemporaryRedirect
		if r.Method == http.MethodGet {
			status = http.StatusMovedPermanently
		}
		w.WriteHeader(status)
		return nil
	}
	for _, m := range methods {
		if rt.match(m, path, nil) != "" {
			return model.Errorf(model.ErrMethodNotAllowed, "Method not allowed: %s %s", r.Method, path)
		}
	}
	return model.Errorf(model.ErrPathNotFound, "Path not found: %s %s", r.Method, path)
}

// slashTwin returns the path with its trailing slash removed or one added, if
// that has a route. Two leading slashes name a host when they are in a
// location, so such a path has no twin.
func (rt *Router) slashTwin(method, path string) (string, bool) {
	if path == "/" || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") {
		return "", false
	}
	twin, removed := strings.CutSuffix(path, "/")
	if !removed {
		twin += "/"
	}
	return twin, rt.match(method, twin, nil) != ""
}

// logCut reports a response that ends early through no fault of the client.
func (rt *Router) logCut(resp *response, r *http.Request, err error) {
	level := slog.LevelError
	if resp.broken || r.Context().Err() != nil || !model.Describe(err).IsServerFault() {
		level = slog.LevelDebug
	}
	logFailure(rt.log, r, level, "response cut short", err)
}

func loggerOrDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
