package node_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/definition"
	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
	"github.com/tinefn/tine/node"
)

// fn makes an app and a function in it.
func (e *embedded) fn() (app, fn string) {
	app = e.create("/v2/apps", `{"name":"app","config":{"A":"1"}}`)
	return app, e.create("/v2/fns", `{"name":"fn","app_id":"`+app+`","image":"any"}`)
}

func (e *embedded) want(method, path, body string, status int, answer string) {
	e.t.Helper()
	if got, text := e.send(method, path, body); got != status || !strings.Contains(text, answer) {
		e.t.Errorf("%s %s: %d %s, want %d %s", method, path, got, text, status, answer)
	}
}

func (e *embedded) end() {
	e.t.Helper()
	if err := e.stop(); err != nil {
		e.t.Error(err)
	}
}

var errRefused = &model.Error{Kind: model.ErrAppInvalidName, Status: http.StatusPaymentRequired, Message: "not for you"}

func TestOverriderChangesWhatAContainerGets(t *testing.T) {
	engine := fake.New(fake.Options{})
	e := run(t, node.Options{Driver: engine, Override: func(r *http.Request, call *invoke.Call, extensions map[string]string) (map[string]string, error) {
		if r == nil { // no call yet
			return extensions, nil
		}
		switch r.Header.Get("Want") {
		case "refusal":
			return nil, errRefused
		case "more":
			call.Fn.Memory, call.Fn.Image, call.Fn.Config = 256, "other", model.Config{"F": "2"}
			call.App.Config["A"] = "2"
			call.Container.MilliCPU = 100
		}
		return extensions, nil
	}})
	defer e.end()
	app, fn := e.fn()
	e.create("/v2/triggers", `{"name":"t","app_id":"`+app+`","fn_id":"`+fn+`","type":"http","source":"/t"}`)
	send := func(path, want string) (int, string, http.Header) {
		t.Helper()
		request, err := http.NewRequest("POST", e.url+path, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Want", want)
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body), response.Header
	}
	for _, path := range []string{"/invoke/" + fn, "/t/app/t"} {
		if status, body, header := send(path, "refusal"); status != 402 || body != `{"message":"not for you"}`+"\n" || header.Get("Fn-Call-Id") != "" {
			t.Errorf("%s: %d %q %v", path, status, body, header)
		}
	}
	for _, want := range []string{"more", "", "more", ""} {
		if status, body, _ := send("/invoke/"+fn, want); status != 200 || body != "x" {
			t.Errorf("%q: %d %q", want, status, body)
		}
	}
	var got []string
	for _, c := range engine.Containers() {
		spec := c.Spec()
		got = append(got, spec.Image)
		more := spec.Image == "other"
		if more != (spec.Limits.MemoryBytes == 256<<20) || more != slices.Contains(spec.Env, "F=2") || more != slices.Contains(spec.Env, "A=2") ||
			more != (spec.Limits.MilliCPU == 100) || more != slices.Contains(spec.Env, "FN_MEMORY=256") {
			t.Errorf("container %+v", spec)
		}
	}
	if diff := cmp.Diff([]string{"other", "any"}, got); diff != "" {
		t.Errorf("containers of (-want +got)\n%s", diff)
	}
	e.want("GET", "/v2/apps/"+app, "", 200, `"config":{"A":"1"}`)
}

func TestCallListenersOfANode(t *testing.T) {
	var mu sync.Mutex
	var heard []string
	var live int // containers when a call was told
	ended := make(chan struct{}, 10)
	engine := fake.New(fake.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		heard = append(heard, "function")
		mu.Unlock()
		if r.Header.Get("Fail") != "" {
			w.WriteHeader(http.StatusBadGateway)
		}
	})})
	note := func(format string) { mu.Lock(); defer mu.Unlock(); heard = append(heard, format) }
	e := run(t, node.Options{Driver: engine, CallListeners: []invoke.CallListener{{
		BeforeCall: func(_ context.Context, call *invoke.Call) error {
			note("before " + call.Fn.Name)
			live = engine.Live()
			if call.Header.Get("Refuse") != "" {
				return errRefused
			}
			return nil
		},
		AfterCall: func(_ context.Context, call *invoke.Call, outcome invoke.Outcome) error {
			note("after " + call.Fn.Name + " " + outcome.Status)
			ended <- struct{}{}
			return errors.New("which nobody but the log hears")
		},
	}}})
	defer e.end()
	_, fn := e.fn()
	for _, test := range []struct {
		header string
		status int
		heard  []string
	}{
		{"", 200, []string{"before fn", "function", "after fn success"}},
		{"Fail", 502, []string{"before fn", "function", "after fn error"}},
		{"Refuse", 402, []string{"before fn"}},
		{"", 200, []string{"before fn", "function", "after fn success"}},
	} {
		mu.Lock()
		heard = nil
		mu.Unlock()
		request, err := http.NewRequest("POST", e.url+"/invoke/"+fn, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Any", "")
		if test.header != "" {
			request.Header.Set(test.header, "yes")
		}
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != test.status {
			t.Errorf("%q: status %d", test.header, response.StatusCode)
		}
		if test.header != "Refuse" {
			<-ended
		}
		mu.Lock()
		if diff := cmp.Diff(test.heard, heard); diff != "" {
			t.Errorf("%q: heard (-want +got)\n%s", test.header, diff)
		}
		mu.Unlock()
	}
	if live != 1 || engine.Calls(fake.OpCreate) != 1 {
		t.Errorf("%d containers when the call was told, %d made: a refused call costs no instance", live, engine.Calls(fake.OpCreate))
	}
}

func TestListenersOfDefinitions(t *testing.T) {
	var mu sync.Mutex
	var heard []string
	note := func(what string) error { mu.Lock(); defer mu.Unlock(); heard = append(heard, what); return nil }
	e := run(t, node.Options{
		Driver: fake.New(fake.Options{}),
		AppListeners: []definition.AppListener{{
			BeforeCreate: func(_ context.Context, app *model.App) error {
				if app.Name == "forbidden" {
					return errRefused
				}
				app.Config = model.Config{"FROM": "listener"}
				return note("create " + app.Name)
			},
			AfterGet: func(_ context.Context, app *model.App) error { return note("get " + app.Name) },
		}},
		FnListeners: []definition.FnListener{{BeforeDelete: func(context.Context, string) error { return errRefused }}},
		TriggerListeners: []definition.TriggerListener{{AfterCreate: func(_ context.Context, trigger *model.Trigger) error {
			if trigger.Name == "late" {
				return errRefused
			}
			return nil
		}}},
	})
	defer e.end()
	e.want("POST", "/v2/apps", `{"name":"forbidden"}`, 402, "not for you")
	e.want("GET", "/v2/apps", "", 200, `"items":[]`)
	app, fn := e.fn()
	e.want("GET", "/v2/apps/"+app, "", 200, `"FROM":"listener"`)
	e.want("DELETE", "/v2/fns/"+fn, "", 402, "not for you")
	e.want("GET", "/v2/fns/"+fn, "", 200, fn)
	// After it was made, an error is one of the request alone.
	e.want("POST", "/v2/triggers", `{"name":"late","app_id":"`+app+`","fn_id":"`+fn+`","type":"http","source":"/t"}`, 402, "not for you")
	e.want("GET", "/v2/triggers?app_id="+app, "", 200, `"name":"late"`)
	// A call looks the app up, once.
	mu.Lock()
	heard = nil
	mu.Unlock()
	for range 3 {
		e.want("POST", "/invoke/"+fn, "x", 200, "x")
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]string{"get app"}, heard); diff != "" {
		t.Errorf("calls (-want +got)\n%s", diff)
	}
}

// wrappedStore counts what passes it, and may be a store of the program's own.
type wrappedStore struct {
	definition.Store
	inserts *int
	closed  *bool
}

func (s wrappedStore) InsertApp(ctx context.Context, app *model.App) (*model.App, error) {
	*s.inserts++
	return s.Store.InsertApp(ctx, app)
}

func (s wrappedStore) Close() error {
	*s.closed = true
	return s.Store.Close()
}

func TestStoreIsWrappedOrReplaced(t *testing.T) {
	var inserts int
	var closed bool
	var inner definition.Store
	e := run(t, node.Options{
		Driver: fake.New(fake.Options{}),
		WrapStore: []func(definition.Store) definition.Store{func(s definition.Store) definition.Store {
			inner = s
			return wrappedStore{s, &inserts, &closed}
		}},
		AppListeners: []definition.AppListener{{BeforeCreate: func(_ context.Context, app *model.App) error {
			if inserts != 0 {
				t.Error("the listener is inside of the wrapper")
			}
			return nil
		}}},
	})
	e.fn()
	if inserts != 1 {
		t.Errorf("%d inserts", inserts)
	}
	e.end()
	if !closed {
		t.Error("the store is open when the node has ended")
	}
	if err := inner.Ping(t.Context()); err == nil {
		t.Error("what was wrapped is open")
	}

	// Another node gets a store of the program.
	var own definition.Store
	file := "FN_DB_URL=sqlite3://" + filepath.Join(t.TempDir(), "own.db")
	lender := run(t, node.Options{
		Driver: fake.New(fake.Options{}), Environ: []string{file},
		WrapStore: []func(definition.Store) definition.Store{func(s definition.Store) definition.Store { own = s; return s }},
	})
	borrower := run(t, node.Options{Driver: fake.New(fake.Options{}), Store: keptOpen{own}})
	app, fn := borrower.fn()
	lender.want("GET", "/v2/apps/"+app, "", 200, app)
	borrower.want("POST", "/invoke/"+fn, "x", 200, "x")
	borrower.end()
	lender.end()
}

// keptOpen belongs to somebody else.
type keptOpen struct{ definition.Store }

func (keptOpen) Close() error { return nil }

func TestAnnotatorsChangeWhatClientsSee(t *testing.T) {
	e := run(t, node.Options{
		Driver: fake.New(fake.Options{}),
		AnnotateFn: func(r *http.Request, fn *model.Fn) error {
			if fn.Name == "broken" {
				return errRefused
			}
			var err error
			fn.Config["SHOWN"] = "yes"
			fn.Annotations, err = fn.Annotations.With(model.AnnotationInvokeEndpoint, "https://calls.example.com/"+fn.ID+r.URL.RawQuery)
			return err
		},
		AnnotateTrigger: func(_ *http.Request, app *model.App, trigger *model.Trigger) error {
			var err error
			trigger.Annotations, err = trigger.Annotations.With("example/app", app.Name)
			return err
		},
	})
	defer e.end()
	app, fn := e.fn()
	e.want("GET", "/v2/fns/"+fn+"?q", "", 200, `"fnproject.io/fn/invokeEndpoint":"https://calls.example.com/`+fn+`q"`)
	e.want("GET", "/v2/fns?app_id="+app, "", 200, "https://calls.example.com/"+fn)
	e.want("POST", "/v2/fns", `{"name":"broken","app_id":"`+app+`","image":"any"}`, 402, "not for you")
	trigger := e.create("/v2/triggers", `{"name":"t","app_id":"`+app+`","fn_id":"`+fn+`","type":"http","source":"/t"}`)
	e.want("GET", "/v2/triggers/"+trigger, "", 200, `"example/app":"app"`)
	e.want("GET", "/v2/triggers/"+trigger, "", 200, `"fnproject.io/trigger/httpEndpoint":"`+e.url+`/t/app/t"`)
	// What is shown is not what is kept.
	e.want("POST", "/invoke/"+fn, "x", 200, "x")
	if status, body := e.send("GET", "/v2/runner/apps/"+app+"/triggerBySource/http//t", ""); status != 200 || strings.Contains(body, "example/app") {
		t.Errorf("%d %s", status, body)
	}
}

// passing is middleware that notes which paths pass.
func passing(mu *sync.Mutex, paths map[string]string, name string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			paths[r.URL.Path] += name
			mu.Unlock()
			next.ServeHTTP(w, r)
		})
	}
}

func TestMiddlewareAndRoutesOfAProgram(t *testing.T) {
	var mu sync.Mutex
	passed := map[string]string{}
	answer := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, text+r.PathValue("id")+r.PathValue("*"))
		})
	}
	var n *node.Node
	opts := node.Options{
		Driver:         fake.New(fake.Options{}),
		RootMiddleware: []func(http.Handler) http.Handler{passing(&mu, passed, "r"), passing(&mu, passed, "R")},
		APIMiddleware:  []func(http.Handler) http.Handler{passing(&mu, passed, "a"), passing(&mu, passed, "A")},
		Endpoints:      []node.Endpoint{{"GET", "/stats/{id}", answer("stats of ")}, {"*", "/files/*", answer("file ")}},
		Routes: []node.Endpoint{{"POST", "/invoke/{id}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.PathValue("id") == "fail" {
				node.WriteError(w, r, errRefused)
				return
			}
			response, err := n.Invoker().Invoke(r.Context(), &invoke.Call{
				ID: model.NewID(), App: &model.App{ID: "a", Name: "app"}, Header: http.Header{}, Body: r.Body, ContentLength: r.ContentLength,
				Fn: &model.Fn{ID: "f", AppID: "a", Name: "fn", Image: "any", Memory: 64, Timeout: 5, IdleTimeout: 30},
			})
			if err != nil {
				node.WriteError(w, r, err)
				return
			}
			defer response.Body.Close()
			io.WriteString(w, "own way: ")
			io.Copy(w, response.Body)
		})}},
		OmitInvoke: true, OmitTriggers: true, OmitProfiler: true,
	}
	e := run(t, opts)
	n = e.node
	defer e.end()
	e.want("GET", "/v2/stats/7", "", 200, "stats of 7")
	e.want("DELETE", "/v2/files/a/b", "", 200, "file a/b")
	e.want("POST", "/invoke/any", "hello", 200, "own way: hello")
	e.want("POST", "/invoke/fail", "", 402, "not for you")
	e.want("GET", "/t/app/x", "", 404, "Path not found")
	e.want("GET", "/debug/vars", "", 404, "Path not found")
	e.want("GET", "/v2/apps", "", 200, "items")
	e.want("GET", "/v2/runner/apps/a/triggerBySource/http//x", "", 404, "Trigger not found")
	e.want("GET", "/v2/triggers", "", 400, "Missing App ID")
	mu.Lock()
	defer mu.Unlock()
	want := map[string]string{
		"/v2/stats/7": "rR", "/v2/files/a/b": "rR", "/invoke/any": "rR", "/invoke/fail": "rR", "/t/app/x": "rR", "/debug/vars": "rR",
		"/v2/apps": "rRaA", "/v2/triggers": "rRaA", "/v2/runner/apps/a/triggerBySource/http//x": "rR",
	}
	if diff := cmp.Diff(want, passed); diff != "" {
		t.Errorf("middleware (-want +got)\n%s", diff)
	}
}

func TestRoutesThatCannotBeAreErrors(t *testing.T) {
	ok := http.NotFoundHandler()
	for name, endpoint := range map[string]node.Endpoint{
		"registered twice": {"GET", "/v2/apps", ok},
		"no handler":       {"GET", "/x", nil},
		"GET x":            {"GET", "x", ok},
		"NONE /x":          {"NONE", "/x", ok},
	} {
		_, err := node.New(t.Context(), node.Options{
			Environ: []string{"FN_DB_URL=sqlite3://" + filepath.Join(t.TempDir(), "fn.db"), "FN_PORT=0", "FN_IOFS_PATH=" + t.TempDir()},
			Stderr:  io.Discard, Driver: fake.New(fake.Options{}), Routes: []node.Endpoint{endpoint},
		})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestNodeEndsWithOtherContexts(t *testing.T) {
	other, cancel := context.WithCancel(t.Context())
	e := run(t, node.Options{Driver: fake.New(fake.Options{}), StopWith: []context.Context{context.Background(), other}})
	e.want("GET", "/", "", 200, "world")
	cancel()
	select {
	case err := <-e.ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
	}
}

func TestNodeOfAPIAloneTakesNoCalls(t *testing.T) {
	e := run(t, node.Options{
		Environ: []string{"FN_NODE_TYPE=api"}, Override: func(*http.Request, *invoke.Call, map[string]string) (map[string]string, error) {
			return nil, errRefused
		},
		CallListeners: make([]invoke.CallListener, 1), WrapDriver: []func(driver.Driver) driver.Driver{nil},
	})
	defer e.end()
	e.want("GET", "/v2/apps", "", 200, "items")
	if e.node.Invoker() != nil {
		t.Error("it has an invoker")
	}
}
