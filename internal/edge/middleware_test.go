package edge_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/model"
)

// note adds a name to a list when a request passes, and the status when it returns.
func note(names *[]string, name string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			*names = append(*names, name)
			w.Header().Set("X-"+name, "yes")
			next.ServeHTTP(w, r)
		})
	}
}

// statusNoter is middleware that sees what clients see.
func statusNoter(got *int) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			*got = rec.Code
			for name, values := range rec.Header() {
				w.Header()[name] = values
			}
			w.WriteHeader(rec.Code)
			w.Write(rec.Body.Bytes())
		})
	}
}

func TestMiddlewareIsAroundEveryRequestInOrder(t *testing.T) {
	var names []string
	var status int
	watch := &outcomes{}
	router := newRouter(t, edge.Options{
		Observer:    watch,
		CORSOrigins: []string{"https://page.example.com"}, MaxRequestBytes: 10,
		Middleware: []func(http.Handler) http.Handler{note(&names, "First"), note(&names, "Second"), statusNoter(&status)},
	})
	router.Handle("GET", "/things/{id}", echoRoute("id"))
	router.Handle("GET", "/fails", func(http.ResponseWriter, *http.Request) error { return model.ErrServerBusy })
	router.Handle("GET", "/panics", func(http.ResponseWriter, *http.Request) error { panic("for the test") })
	router.Handle("POST", "/reads", func(_ http.ResponseWriter, r *http.Request) error {
		_, err := io.ReadAll(r.Body)
		return err
	})
	for _, test := range []struct {
		method, path string
		body         string
		status       int
		answer       string
	}{
		{"GET", "/things/7", "", 200, `/things/{id} id="7"`},
		{"GET", "/fails", "", 503, `{"message":"Timed out - server too busy"}` + "\n"},
		{"GET", "/panics", "", 500, `{"message":"internal server error"}` + "\n"},
		{"GET", "/nowhere", "", 404, `{"message":"Path not found: GET /nowhere"}` + "\n"},
		{"POST", "/things/7", "", 405, `{"message":"Method not allowed: POST /things/7"}` + "\n"},
		{"POST", "/reads", "short", 200, ""},
	} {
		names, status = nil, 0
		rec := do(router, test.method, test.path, strings.NewReader(test.body))
		if rec.Code != test.status || rec.Body.String() != test.answer || status != test.status {
			t.Errorf("%s %s: %d %q, inside %d", test.method, test.path, rec.Code, rec.Body, status)
		}
		if diff := cmp.Diff([]string{"First", "Second"}, names); diff != "" {
			t.Errorf("%s %s: %s", test.method, test.path, diff)
		}
		if rec.Header().Get("X-First") != "yes" || rec.Header().Get("X-Second") != "yes" {
			t.Errorf("%s %s: header %v", test.method, test.path, rec.Header())
		}
		if last := watch.last(); last.Status != test.status || (last.Blame == edge.BlameService) != (test.status == 503 || test.status == 500 || test.status == 404 || test.status == 405) {
			t.Errorf("%s %s: observed %+v", test.method, test.path, last)
		}
	}

	// These are answered outside of it.
	names = nil
	preflight := httptest.NewRequest("OPTIONS", "/things/7", nil)
	preflight.Header.Set("Origin", "https://page.example.com")
	preflight.Header.Set("Access-Control-Request-Method", "GET")
	router.ServeHTTP(httptest.NewRecorder(), preflight)
	do(router, "POST", "/reads", strings.NewReader("much too long for it"))
	if len(names) != 0 {
		t.Errorf("middleware saw what no handler sees: %v", names)
	}
}

// outcomes keeps what an observer is told.
type outcomes struct{ all []edge.Outcome }

func (o *outcomes) Began(edge.Route)                            {}
func (o *outcomes) Ended(outcome edge.Outcome, _ time.Duration) { o.all = append(o.all, outcome) }
func (o *outcomes) last() edge.Outcome                          { return o.all[len(o.all)-1] }

func TestMiddlewareMayAnswerItselfAndChangeRequests(t *testing.T) {
	type key struct{}
	router := newRouter(t, edge.Options{Middleware: []func(http.Handler) http.Handler{func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/stop":
				http.Error(w, "stopped", http.StatusTeapot)
			case "/boom":
				panic("for the test")
			case "/lost":
				next.ServeHTTP(w, r.WithContext(context.Background()))
			default:
				r.Body = io.NopCloser(strings.NewReader("another body"))
				next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, "value")))
			}
		})
	}}})
	for _, path := range []string{"/stop", "/boom", "/lost"} {
		router.Handle("GET", path, func(http.ResponseWriter, *http.Request) error { return errors.New("it was reached") })
	}
	router.Handle("POST", "/go/{on}", func(w http.ResponseWriter, r *http.Request) error {
		body, err := io.ReadAll(r.Body)
		io.WriteString(w, string(body)+" "+r.Context().Value(key{}).(string)+" "+edge.Param(r, "on"))
		return err
	})
	for path, want := range map[string]int{"/stop": http.StatusTeapot, "/boom": 500, "/lost": 500} {
		if rec := do(router, "GET", path, nil); rec.Code != want {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
	if rec := do(router, "POST", "/go/x", strings.NewReader("body")); rec.Body.String() != "another body value x" {
		t.Errorf("%d %q", rec.Code, rec.Body)
	}
}

func TestResponseThatFailsHalfWayIsCutThroughMiddleware(t *testing.T) {
	var names []string
	router := newRouter(t, edge.Options{Middleware: []func(http.Handler) http.Handler{note(&names, "First")}})
	router.Handle("GET", "/", func(w http.ResponseWriter, _ *http.Request) error {
		io.WriteString(w, "half")
		return errors.New("for the test")
	})
	defer func() {
		if cause, _ := recover().(error); !errors.Is(cause, http.ErrAbortHandler) {
			t.Errorf("recovered %v", cause)
		}
	}()
	do(router, "GET", "/", nil)
	t.Error("the client takes what it got for the whole")
}

func TestRequestIdentifiersOfAProgram(t *testing.T) {
	var got string
	var found []string
	router := newRouter(t, edge.Options{RequestIDHeader: "X-Id", NewRequestID: func(id string) string {
		found = append(found, id)
		switch id {
		case "odd":
			return "two\nlines"
		case "":
			return ""
		}
		return "own-" + id
	}})
	router.Handle("GET", "/", func(_ http.ResponseWriter, r *http.Request) error {
		got = edge.RequestID(r.Context())
		return nil
	})
	for id, want := range map[string]string{"7": "own-7", "odd": "", "": ""} {
		request := httptest.NewRequest("GET", "/", nil)
		if id != "" {
			request.Header.Set("X-Id", id)
		}
		router.ServeHTTP(httptest.NewRecorder(), request)
		if want != "" && got != want || want == "" && len(got) != model.IDLength {
			t.Errorf("%q: got %q", id, got)
		}
	}
	if len(found) != 3 {
		t.Errorf("asked for %q", found)
	}
}
