package edge

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tinefn/tine/model"
)

// Observer is told about requests, for metrics. Its methods are called from many
// goroutines and must return at once.
type Observer interface {
	Began(Route)
	Ended(Outcome, time.Duration)
}

// Outcome is what became of a request. Its Route is in Fn's notation, as in
// /v2/apps/:app_id, and takes a bounded number of values; the version of the
// function kit is what a function said.
type Outcome struct {
	Route      Route
	Status     int
	Blame      string // BlameUser or BlameService
	FDKVersion string
}

// Whose fault an outcome is. Success is the user's.
const (
	BlameUser    = "user"
	BlameService = "service"
)

// invalid stands for paths that no route has, and methods that are none.
const invalid = "invalid"

// NoteFDKVersion remembers what the answering function said of its kit.
func NoteFDKVersion(r *http.Request, version string) {
	if known := requestOf(r.Context()); known != nil {
		known.fdkVersion = version
	}
}

// fnPattern is a pattern in Fn's notation.
func fnPattern(pattern string) string {
	pattern = strings.NewReplacer("{", ":", "}", "").Replace(pattern)
	if rest, ok := strings.CutSuffix(pattern, "/*"); ok {
		return rest + "/*trigger_source"
	}
	return pattern
}

// observedRoute is the route of a request as observers get it.
func (rt *Router) observedRoute(method, pattern string) Route {
	route := Route{Method: method, Pattern: rt.fnPatterns[pattern]}
	if route.Pattern == "" {
		route.Pattern = invalid
	}
	if !slices.Contains(methods, method) {
		route.Method = invalid
	}
	return route
}

// ended tells the observer of a response, which may have been cut.
func (rt *Router) ended(route Route, known *requestContext, resp *response, err error, began time.Time) {
	outcome := Outcome{Route: route, Status: resp.status, Blame: BlameUser, FDKVersion: known.fdkVersion}
	if outcome.Status == 0 {
		outcome.Status = http.StatusOK
	}
	if err != nil && !model.Describe(err).User {
		outcome.Blame = BlameService
	}
	rt.observer.Ended(outcome, time.Since(began))
}
