package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/client"
	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/httpapi"
	"github.com/tinefn/tine/internal/store/sqlstore"
	"github.com/tinefn/tine/model"
)

// api serves the real API of a fresh database below a prefix.
func api(t *testing.T, prefix string) *client.Client {
	t.Helper()
	definitions, err := sqlstore.Open(t.Context(), "sqlite3://"+filepath.Join(t.TempDir(), "fn.db"), sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { definitions.Close() })
	router, err := edge.NewRouter(edge.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := httpapi.Register(router, httpapi.Options{Store: definitions}); err != nil {
		t.Fatal(err)
	}
	served := httptest.NewServer(http.StripPrefix(prefix, router))
	t.Cleanup(served.Close)
	c, err := client.New(served.URL+prefix, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// must returns a value that there has to be.
func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func TestDefinitionsGoThereAndBack(t *testing.T) {
	for _, prefix := range []string{"", "/behind/proxy"} {
		t.Run("below "+prefix, func(t *testing.T) {
			c := api(t, prefix)
			ctx := t.Context()
			app := must[*model.App](t)(c.CreateApp(ctx, &model.App{Name: "shop", Config: model.Config{"A": "1"}}))
			app = must[*model.App](t)(c.UpdateApp(ctx, &model.App{ID: app.ID, Config: model.Config{"B": "2"}}))
			if diff := cmp.Diff(model.Config{"A": "1", "B": "2"}, app.Config); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(app, must[*model.App](t)(c.App(ctx, app.ID))); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(app, must[*model.App](t)(c.AppByName(ctx, "shop"))); diff != "" {
				t.Error(diff)
			}
			fn := must[*model.Fn](t)(c.CreateFn(ctx, &model.Fn{Name: "pay", AppID: app.ID, Image: "img"}))
			fn = must[*model.Fn](t)(c.UpdateFn(ctx, &model.Fn{ID: fn.ID, Memory: 256}))
			if fn.Memory != 256 || fn.Timeout != model.DefaultFnTimeoutSeconds || fn.Image != "img" {
				t.Errorf("got %+v", fn)
			}
			if got := must[*model.Fn](t)(c.Fn(ctx, fn.ID)); got.Memory != 256 || got.AppID != app.ID {
				t.Errorf("got %+v", got)
			}
			if got := must[*model.Fn](t)(c.FnByName(ctx, app.ID, "pay")); got.ID != fn.ID {
				t.Errorf("got %+v", got)
			}
			source := "/a b/ü%2F?x//"
			made := must[*model.Trigger](t)(c.CreateTrigger(ctx, &model.Trigger{Name: "t", AppID: app.ID, FnID: fn.ID, Type: "http", Source: source}))
			if got := must[*model.Trigger](t)(c.TriggerBySource(ctx, app.ID, "http", source)); got.ID != made.ID {
				t.Errorf("got %+v", got)
			}
			must[*model.Trigger](t)(c.UpdateTrigger(ctx, &model.Trigger{ID: made.ID, Source: "/"}))
			if got := must[*model.Trigger](t)(c.TriggerBySource(ctx, app.ID, "http", "/")); got.ID != made.ID {
				t.Errorf("got %+v", got)
			}
			if got := must[*model.Trigger](t)(c.Trigger(ctx, made.ID)); got.Source != "/" {
				t.Errorf("got %+v", got)
			}
			if err := errors.Join(c.DeleteTrigger(ctx, made.ID), c.DeleteFn(ctx, fn.ID), c.DeleteApp(ctx, app.ID)); err != nil {
				t.Error(err)
			}
			if _, err := c.App(ctx, app.ID); !errors.Is(err, model.ErrAppNotFound) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAllPagesAreReadAsTheyAreNeeded(t *testing.T) {
	c := api(t, "")
	ctx := t.Context()
	var want []string
	for i := range 7 {
		name := fmt.Sprintf("app%d", i)
		must[*model.App](t)(c.CreateApp(ctx, &model.App{Name: name}))
		want = append(want, name)
	}
	app := must[*model.App](t)(c.AppByName(ctx, "app3"))
	fn := must[*model.Fn](t)(c.CreateFn(ctx, &model.Fn{Name: "fn", AppID: app.ID, Image: "img"}))
	must[*model.Trigger](t)(c.CreateTrigger(ctx, &model.Trigger{Name: "one", AppID: app.ID, FnID: fn.ID, Type: "http", Source: "/1"}))
	must[*model.Trigger](t)(c.CreateTrigger(ctx, &model.Trigger{Name: "two", AppID: app.ID, FnID: fn.ID, Type: "http", Source: "/2"}))

	var got []string
	for app, err := range c.Apps(ctx, model.AppFilter{Page: model.PageRequest{PerPage: 2}}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, app.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for app, err := range c.Apps(ctx, model.AppFilter{}) {
		if err != nil || app.Name != "app0" {
			t.Errorf("got %+v, %v", app, err)
		}
		break // the rest is not asked for
	}
	fns, triggers := 0, 0
	for range c.Fns(ctx, model.FnFilter{AppID: app.ID}) {
		fns++
	}
	for range c.Triggers(ctx, model.TriggerFilter{AppID: app.ID, FnID: fn.ID, Page: model.PageRequest{PerPage: 1}}) {
		triggers++
	}
	if fns != 1 || triggers != 2 {
		t.Errorf("%d functions, %d triggers", fns, triggers)
	}
	for _, err := range c.Fns(ctx, model.FnFilter{}) {
		if !errors.Is(err, model.ErrFnMissingAppID) {
			t.Errorf("got %v", err)
		}
	}
}

func TestFailuresHaveTheAPIsStatusAndText(t *testing.T) {
	c := api(t, "")
	ctx := t.Context()
	must[*model.App](t)(c.CreateApp(ctx, &model.App{Name: "app"}))
	for name, test := range map[string]struct {
		err    func() error
		kind   error
		status int
		text   string
	}{
		"app":     {func() error { _, err := c.App(ctx, "x"); return err }, model.ErrAppNotFound, 404, "App not found"},
		"fn":      {func() error { _, err := c.Fn(ctx, "x %2F?y"); return err }, model.ErrFnNotFound, 404, "Fn not found"},
		"trigger": {func() error { _, err := c.TriggerBySource(ctx, "x", "http", "/y"); return err }, model.ErrTriggerNotFound, 404, "Trigger not found"},
		"twice":   {func() error { _, err := c.CreateApp(ctx, &model.App{Name: "app"}); return err }, model.ErrAppAlreadyExists, 409, "App already exists"},
		"syslog": {func() error {
			url := "gopher://x"
			_, err := c.CreateApp(ctx, &model.App{Name: "other", SyslogURL: &url})
			return err
		}, model.ErrRemote, 400, `invalid syslog url: "gopher://x" invalid scheme, only [tcp, udp, unix, unixgram, tcp+tls] are supported`},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.err()
			said, ok := errors.AsType[*client.Error](err)
			if !ok || said.Status != test.status || said.Message != test.text || !errors.Is(err, test.kind) {
				t.Errorf("got %#v", err)
			}
			if d := model.Describe(err); d.Status != test.status || d.Text != test.text {
				t.Errorf("described as %+v", d)
			}
		})
	}
	if _, err := c.AppByName(ctx, "x"); !errors.Is(err, model.ErrAppNotFound) {
		t.Errorf("by name: %v", err)
	}
}

func TestWhatIsNotAskedFor(t *testing.T) {
	c := must[*client.Client](t)(client.New("http://127.0.0.1:1", client.Options{}))
	ctx := t.Context()
	for name, err := range map[string]error{
		"app": second(c.App(ctx, "")), "app by name": second(c.AppByName(ctx, "")), "fn": second(c.Fn(ctx, "")), "trigger": second(c.Trigger(ctx, "")),
		"fn by name": second(c.FnByName(ctx, "a", "")), "source": second(c.TriggerBySource(ctx, "a", "http", "")), "type": second(c.TriggerBySource(ctx, "a", "", "/")),
		"app of a source": second(c.TriggerBySource(ctx, "", "http", "/")), "update": second(c.UpdateApp(ctx, &model.App{})), "delete": c.DeleteFn(ctx, ""),
	} {
		if d := model.Describe(err); d.Status != 400 {
			t.Errorf("%s: got %v", name, err) // an empty ID would ask for the list
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestAnswersOfOthersAreToldApart(t *testing.T) {
	answers := map[string]func(w http.ResponseWriter){
		"page of a proxy": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(404)
			fmt.Fprint(w, `<h1>App not found</h1>`)
		},
		"no JSON":  func(w http.ResponseWriter) { fmt.Fprint(w, "hello") },
		"too long": func(w http.ResponseWriter) { fmt.Fprintf(w, `{"id":%q}`, strings.Repeat("x", 2000)) },
		"busy": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(503)
			fmt.Fprintln(w, `{"message":"Timed out - server too busy"}`)
		},
		"labelled as text": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.WriteHeader(400)
			fmt.Fprintln(w, `{"message":"Invalid JSON"}`)
		},
	}
	served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answers[r.Header.Get("Which")](w) }))
	defer served.Close()
	failed := func(which string) error {
		c := must[*client.Client](t)(client.New(served.URL, client.Options{Header: http.Header{"Which": {which}}, MaxResponseBytes: 1000}))
		defer c.Close()
		_, err := c.App(t.Context(), "a")
		return err
	}
	if err := failed("page of a proxy"); errors.Is(err, model.ErrAppNotFound) || !strings.Contains(err.Error(), "not in the form of an Fn API") {
		t.Errorf("page of a proxy: %v", err)
	}
	if err := failed("no JSON"); err == nil || !strings.Contains(err.Error(), "/v2/apps/a") {
		t.Errorf("no JSON: %v", err)
	}
	if err := failed("too long"); err == nil || !strings.Contains(err.Error(), "longer than 1000 bytes") {
		t.Errorf("too long: %v", err)
	}
	if err := failed("busy"); !errors.Is(err, model.ErrServerBusy) || model.RetryAfter(err) != 7*time.Second {
		t.Errorf("busy: %v", err)
	}
	if err := failed("labelled as text"); !errors.Is(err, model.ErrInvalidJSON) {
		t.Errorf("labelled as text: %v", err)
	}
}

func TestTraceOfTheCallGoesAlong(t *testing.T) {
	var got http.Header
	served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		fmt.Fprint(w, "{}")
	}))
	defer served.Close()
	c := must[*client.Client](t)(client.New(served.URL, client.Options{Header: http.Header{"Authorization": {"Bearer x"}}}))
	defer c.Close()
	incoming := http.Header{}
	for name, value := range map[string]string{"X-B3-TraceId": "463ac35c9f6413ad48485a3953bb6124", "X-B3-SpanId": "a2fb4a1d1a96d312", "X-B3-Sampled": "1", "X-Other": "no", "b3": "0"} {
		incoming.Set(name, value)
	}
	must[*model.App](t)(c.App(client.WithTrace(t.Context(), incoming), "a"))
	for name, want := range map[string]string{"X-B3-TraceId": "463ac35c9f6413ad48485a3953bb6124", "X-B3-SpanId": "a2fb4a1d1a96d312", "X-B3-Sampled": "1", "B3": "0", "X-Other": "", "Authorization": "Bearer x"} {
		if got.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Get(name), want)
		}
	}
	if ctx := t.Context(); client.WithTrace(ctx, http.Header{"X-Other": {"no"}}) != ctx {
		t.Error("a context was made for nothing")
	}
}

func TestPageThatNamesItselfEndsTheList(t *testing.T) {
	served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"next_cursor":"again","items":[{"id":"a"}]}`)
	}))
	defer served.Close()
	c := must[*client.Client](t)(client.New(served.URL, client.Options{}))
	defer c.Close()
	items, failures := 0, 0
	for _, err := range c.Apps(t.Context(), model.AppFilter{}) {
		if err != nil {
			failures++
		} else {
			items++
		}
	}
	if items != 2 || failures != 1 {
		t.Errorf("%d items, %d failures", items, failures)
	}
}

func TestBases(t *testing.T) {
	for base, want := range map[string]string{
		"http://api:8080": "http://api:8080", "https://api/": "https://api", "http://api/v2/": "http://api", "http://api/edge/v2": "http://api/edge", " http://api/edge// ": "http://api/edge",
	} {
		c, err := client.New(base, client.Options{})
		if err != nil || c.Base() != want {
			t.Errorf("%q: got %v, %v", base, c, err)
		}
	}
	for _, base := range []string{"", "api:8080", "ftp://api", "http://", "http://user:secret@api", "http://a b"} {
		if _, err := client.New(base, client.Options{}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v", base, err)
		}
	}
	if _, err := client.New("http://api", client.Options{Timeout: -1}); err == nil {
		t.Error("a negative timeout is accepted")
	}
}

func TestRequestsEndWithTheirContext(t *testing.T) {
	blocked := make(chan struct{})
	served := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-blocked }))
	defer served.Close()
	defer close(blocked)
	c := must[*client.Client](t)(client.New(served.URL, client.Options{Timeout: 50 * time.Millisecond}))
	defer c.Close()
	if _, err := c.App(t.Context(), "a"); err == nil || model.Describe(err).Kind != model.ErrInternal {
		t.Errorf("after the timeout: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.App(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancelling: %v", err)
	}
}
