package edge_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/model"
)

func newRouter(t testing.TB, opts edge.Options) *edge.Router {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	router, err := edge.NewRouter(opts)
	if err != nil {
		t.Fatal(err)
	}
	return router
}

// echoRoute answers with the pattern and the parameters of its request.
func echoRoute(names ...string) edge.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		fmt.Fprint(w, edge.RoutePattern(r))
		for _, name := range names {
			fmt.Fprintf(w, " %s=%q", name, edge.Param(r, name))
		}
		return nil
	}
}

func do(h http.Handler, method, target string, body io.Reader) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(method, target, body))
	return rec
}

func TestRouterFindsHandlersByDecodedPath(t *testing.T) {
	router := newRouter(t, edge.Options{})
	router.Handle("GET", "/", echoRoute())
	router.Handle("GET", "/v2/apps", echoRoute())
	router.Handle("POST", "/v2/apps", echoRoute())
	router.Handle("GET", "/v2/apps/{app_id}", echoRoute("app_id"))
	router.Handle("PUT", "/v2/apps/{app_id}", echoRoute("app_id"))
	router.Handle("GET", "/v2/fns/{fn_id}/calls/{call_id}", echoRoute("fn_id", "call_id"))
	router.Handle("POST", "/invoke/{fn_id}", echoRoute("fn_id"))
	router.Handle("*", "/t/{app_name}", echoRoute("app_name"))
	router.Handle("*", "/t/{app_name}/*", echoRoute("app_name", "*"))
	router.Handle("GET", "/v2/runner/apps/{app_id}/triggerBySource/{trigger_type}/*", echoRoute("app_id", "trigger_type", "*"))

	notFound := func(method, path string) string {
		return fmt.Sprintf(`{"message":"Path not found: %s %s"}`+"\n", method, path)
	}
	notAllowed := func(method, path string) string {
		return fmt.Sprintf(`{"message":"Method not allowed: %s %s"}`+"\n", method, path)
	}
	tests := []struct {
		method, target string
		status         int
		want           string // body, or location of a redirect
	}{
		{"GET", "/", 200, "/"},
		{"GET", "/v2/apps", 200, "/v2/apps"},
		{"GET", "/v2/apps?name=x", 200, "/v2/apps"},
		{"GET", "/v2/apps/x", 200, `/v2/apps/{app_id} app_id="x"`},
		{"GET", "/v2/%61pps/x", 200, `/v2/apps/{app_id} app_id="x"`},
		{"GET", "/v2/apps/%00%ff%20", 200, `/v2/apps/{app_id} app_id="\x00\xff "`},
		{"GET", "/v2/apps/a%252Fb", 200, `/v2/apps/{app_id} app_id="a%2Fb"`},
		{"GET", "/v2/apps/a%2Fb", 404, notFound("GET", "/v2/apps/a/b")},
		{"GET", "/v2/apps/..", 200, `/v2/apps/{app_id} app_id=".."`},
		{"GET", "/v2//apps", 404, notFound("GET", "/v2//apps")},
		{"GET", "/V2/apps", 404, notFound("GET", "/V2/apps")},
		{"GET", "/nowhere", 404, notFound("GET", "/nowhere")},
		{"GET", "/v2/fns/a/calls/b", 200, `/v2/fns/{fn_id}/calls/{call_id} fn_id="a" call_id="b"`},
		{"GET", "/v2/fns//calls/b", 404, notFound("GET", "/v2/fns//calls/b")},

		{"HEAD", "/v2/apps", 405, notAllowed("HEAD", "/v2/apps")},
		{"PATCH", "/v2/apps/x", 405, notAllowed("PATCH", "/v2/apps/x")},
		{"PUT", "/invoke/x", 405, notAllowed("PUT", "/invoke/x")},
		{"BREW", "/v2/apps", 405, notAllowed("BREW", "/v2/apps")},
		{"BREW", "/nowhere", 404, notFound("BREW", "/nowhere")},
		{"BREW", "/t/app", 405, notAllowed("BREW", "/t/app")},

		{"GET", "/v2/apps/?a=b&c=%2F", 301, "/v2/apps?a=b&c=%2F"},
		{"POST", "/v2/apps/", 307, "/v2/apps"},
		{"PUT", "/v2/apps/x/", 307, "/v2/apps/x"},
		{"POST", "/invoke/x/?q", 307, "/invoke/x?q"},
		{"GET", "/v2/apps/a%3Fb%0D%0A/", 301, "/v2/apps/a%3Fb%0D%0A"},
		{"GET", `/v2/apps/%5Cevil.example/`, 301, "/v2/apps/%5Cevil.example"},
		{"DELETE", "/v2/apps/", 404, notFound("DELETE", "/v2/apps/")},
		{"HEAD", "/v2/apps/", 404, notFound("HEAD", "/v2/apps/")},
		{"POST", "/invoke/", 404, notFound("POST", "/invoke/")},
		{"GET", "/v2/runner/apps/x/triggerBySource/http", 301, "/v2/runner/apps/x/triggerBySource/http/"},

		{"GET", "/t/", 404, notFound("GET", "/t/")},
		{"GET", "/t//x", 404, notFound("GET", "/t//x")},
		{"GET", "/t/app", 200, `/t/{app_name} app_name="app"`},
		{"TRACE", "/t/app", 200, `/t/{app_name} app_name="app"`},
		{"CONNECT", "/t/app/", 200, `/t/{app_name}/* app_name="app" *=""`},
		{"OPTIONS", "/t/app/a/b/", 200, `/t/{app_name}/* app_name="app" *="a/b/"`},
		{"GET", "/t/app//a//b", 200, `/t/{app_name}/* app_name="app" *="/a//b"`},
		{"GET", "/t/app/%2Fa%20%3F", 200, `/t/{app_name}/* app_name="app" *="/a ?"`},
		{
			"GET", "/v2/runner/apps/X/triggerBySource/http//hot", 200,
			`/v2/runner/apps/{app_id}/triggerBySource/{trigger_type}/* app_id="X" trigger_type="http" *="/hot"`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.target, func(t *testing.T) {
			rec := do(router, tt.method, tt.target, nil)
			got := rec.Body.String()
			if tt.status/100 == 3 {
				got = rec.Header().Get("Location")
			}
			if rec.Code != tt.status || got != tt.want {
				t.Errorf("got %d %q, want %d %q", rec.Code, got, tt.status, tt.want)
			}
			if allow := rec.Header().Values("Allow"); allow != nil {
				t.Errorf("Allow = %q, want none", allow)
			}
		})
	}
}

func TestRouterNeverRedirectsToAnotherHost(t *testing.T) {
	router := newRouter(t, edge.Options{})
	router.Handle("GET", "/{a}", echoRoute("a"))
	router.Handle("GET", "/{a}/{b}", echoRoute("a", "b"))
	router.Handle("GET", "/x/*", echoRoute("*"))
	for _, path := range []string{"//evil.example/", "//evil.example/%2e%2e/", "/%2Fevil.example/", "/%5Cevil.example/", "///evil.example//"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RequestURI = path
		parsed, err := r.URL.Parse("http://own.example" + path)
		if err != nil {
			t.Fatal(err)
		}
		r.URL.Path, r.URL.RawPath = parsed.Path, parsed.RawPath
		rec := httptest.NewRecorder()
		router.ServeHTTP(rec, r)
		location := rec.Header().Get("Location")
		if location == "" {
			continue
		}
		base, err := r.URL.Parse("http://own.example/")
		if err != nil {
			t.Fatal(err)
		}
		target, err := base.Parse(location)
		if err != nil || target.Host != "own.example" || strings.Contains(location, `\`) {
			t.Errorf("%s redirects to %q (%v)", path, location, err)
		}
	}
}

func TestRouterIgnoresPathsWithoutLeadingSlash(t *testing.T) {
	router := newRouter(t, edge.Options{})
	router.Handle("*", "/", echoRoute())
	for _, path := range []string{"", "*", "v2/apps"} {
		r := httptest.NewRequest("OPTIONS", "/", nil)
		r.URL.Path = path
		rec := httptest.NewRecorder()
		router.ServeHTTP(rec, r)
		if rec.Code != 404 {
			t.Errorf("path %q got %d, want 404", path, rec.Code)
		}
	}
}

func TestRoutePatternIsKnownAroundTheRouter(t *testing.T) {
	router := newRouter(t, edge.Options{RequestIDHeader: "X-Id"})
	router.Handle("GET", "/v2/apps/{app_id}", echoRoute())
	for target, want := range map[string]string{"/v2/apps/x": "/v2/apps/{app_id}", "/nowhere": ""} {
		r := httptest.NewRequest("GET", target, nil)
		r.Pattern = "/outer/"
		router.ServeHTTP(httptest.NewRecorder(), r)
		if got := edge.RoutePattern(r); got != want {
			t.Errorf("pattern of %s = %q, want %q", target, got, want)
		}
	}
}

func TestRoutesAreListedAsRegistered(t *testing.T) {
	router := newRouter(t, edge.Options{})
	router.Handle("*", "/t/{app_name}", echoRoute())
	router.Handle("GET", "/", echoRoute())
	want := []edge.Route{{Method: "*", Pattern: "/t/{app_name}"}, {Method: "GET", Pattern: "/"}}
	if diff := cmp.Diff(want, router.Routes()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestRegisteringARouteTwicePanics(t *testing.T) {
	router := newRouter(t, edge.Options{})
	router.Handle("*", "/a", echoRoute())
	defer func() {
		if recover() == nil {
			t.Error("the second registration was accepted")
		}
	}()
	router.Handle("GET", "/a", echoRoute())
}

func TestErrorAfterTheResponseHasStartedCutsTheConnection(t *testing.T) {
	router := newRouter(t, edge.Options{})
	router.Handle("GET", "/error", func(w http.ResponseWriter, _ *http.Request) error {
		io.WriteString(w, "half")
		return model.ErrInternal
	})
	router.Handle("GET", "/panic", func(w http.ResponseWriter, _ *http.Request) error {
		io.WriteString(w, "half")
		panic("boom")
	})
	router.Handle("GET", "/flush", func(w http.ResponseWriter, _ *http.Request) error {
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		return model.ErrServerBusy
	})
	router.Handle("GET", "/abort", func(http.ResponseWriter, *http.Request) error {
		panic(http.ErrAbortHandler)
	})
	server := httptest.NewServer(router)
	t.Cleanup(server.Close)
	for _, path := range []string{"/error", "/panic", "/flush", "/abort"} {
		resp, err := server.Client().Get(server.URL + path)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if err == nil {
			t.Errorf("%s: the client got a whole response", path)
		}
	}
}

func TestPanicBecomesInternalErrorAndIsLoggedWithStack(t *testing.T) {
	var log strings.Builder
	router := newRouter(t, edge.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	router.Handle("GET", "/panic", func(http.ResponseWriter, *http.Request) error { panic("secret") })
	rec := do(router, "GET", "/panic", nil)
	if rec.Code != 500 || rec.Body.String() != `{"message":"internal server error"}`+"\n" {
		t.Errorf("got %d %q", rec.Code, rec.Body)
	}
	for _, want := range []string{"level=ERROR", "secret", "router_test.go"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q: %s", want, log.String())
		}
	}
}

func TestInformationalResponsesDoNotStartTheResponse(t *testing.T) {
	router := newRouter(t, edge.Options{})
	router.Handle("GET", "/", func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusEarlyHints)
		return errors.New("failed")
	})
	server := httptest.NewServer(router)
	t.Cleanup(server.Close)
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 500 {
		t.Errorf("got %d, want 500", resp.StatusCode)
	}
}
