package httpapi_test

import (
	"net/http/httptest"
	"testing"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/httpapi"
)

func TestFixedAnswers(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	tests := []struct {
		method, target string
		status         int
		body           string
	}{
		{"GET", "/", 200, `{"goto":"https://github.com/fnproject/fn","hello":"world!"}`},
		{"GET", "/version", 200, `{"version":"0.3.753"}`},
		{"GET", "/version/", 301, ``},
		{"GET", "/v2/fns/x/calls", 410, ``},
		{"GET", "/v2/fns/x/calls/y", 410, ``},
		{"GET", "/v2/fns/x/calls/y/log", 410, ``},
	}
	for _, tt := range tests {
		if got := s.call(tt.method, tt.target, ""); got.status != tt.status || got.body != tt.body {
			t.Errorf("%s %s: %d %q, want %d %q", tt.method, tt.target, got.status, got.body, tt.status, tt.body)
		}
	}
}

func TestVersionCanBeSet(t *testing.T) {
	router, err := edge.NewRouter(edge.Options{})
	if err != nil {
		t.Fatal(err)
	}
	httpapi.RegisterVersion(router, "1.2.3")
	rec := httptest.NewRecorder()
	router.ServeHTTP(rec, httptest.NewRequest("GET", "/version", nil))
	if rec.Body.String() != `{"version":"1.2.3"}` {
		t.Errorf("body = %s", rec.Body)
	}
}

func TestTrailingSlashesRedirect(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	tests := []struct {
		method, target string
		status         int
		location       string
	}{
		{"GET", "/v2/apps/?name=a%20b", 301, "/v2/apps?name=a%20b"},
		{"POST", "/v2/fns/", 307, "/v2/fns"},
		{"PUT", "/v2/triggers/x/", 307, "/v2/triggers/x"},
		{"DELETE", "/v2/apps/x/", 307, "/v2/apps/x"},
	}
	for _, tt := range tests {
		got := s.call(tt.method, tt.target, "")
		if got.status != tt.status || got.header.Get("Location") != tt.location {
			t.Errorf("%s %s: %d to %q", tt.method, tt.target, got.status, got.header.Get("Location"))
		}
	}
}

func TestRegisterChecksItsOptions(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	for name, opts := range map[string]httpapi.Options{
		"no store":       {},
		"negative limit": {Store: s.store, MaxDefinitionBytes: -1},
	} {
		router, err := edge.NewRouter(edge.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := httpapi.Register(router, opts); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
