package httpapi_test

import (
	"crypto/tls"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/httpapi"
)

const httpEndpoint = "fnproject.io/trigger/httpEndpoint"

func TestTriggerResponses(t *testing.T) {
	s := newServer(t, httpapi.Options{PublicURL: "http://lb.example/base/"}, edge.Options{})
	app := s.createApp("app")
	fn := s.createFn(app, "fn")
	created := s.must("POST", "/v2/triggers", `{"app_id":"`+app+`","fn_id":"`+fn+`","name":"t","type":"http","source":"/a//b c",
		"created_at":"0001-01-01T00:00:00.000Z","updated_at":"0001-01-01T00:00:00.000Z"}`)
	id, at := created.text("id"), created.text("created_at")
	plain := `{"id":"` + id + `","name":"t","app_id":"` + app + `","fn_id":"` + fn + `","type":"http","source":"/a//b c",`
	times := `"created_at":"` + at + `","updated_at":"` + at + `"}`
	want := plain + `"annotations":{"fnproject.io/trigger/httpEndpoint":"http://lb.example/base/t/app/a//b c"},` + times

	for target, body := range map[string]string{
		"/v2/triggers/" + id:         want,
		"/v2/triggers?app_id=" + app: `{"items":[` + want + `]}`,
		"/v2/runner/apps/" + app + "/triggerBySource/http//a//b%20c": plain + times,
	} {
		if got := s.call("GET", target, ""); got.status != 200 || got.body != body {
			t.Errorf("GET %s\ngot  %d %s\nwant %s", target, got.status, got.body, body)
		}
	}
	if diff := cmp.Diff(decodeObject(t, want), created); diff != "" {
		t.Errorf("create (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(created, s.must("PUT", "/v2/triggers/"+id, encode(t, created))); diff != "" {
		t.Errorf("update without change (-want +got)\n%s", diff)
	}
}

func TestTriggerUpdateMerges(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	app, other := s.createApp("app"), s.createApp("other")
	fn, fn2 := s.createFn(app, "fn"), s.createFn(app, "fn2")
	path := "/v2/triggers/" + s.createTrigger(app, fn, "t", "/a")
	before := s.must("GET", path, "")
	for _, nothing := range []string{`{}`, `{"app_id":"` + other + `","type":"other","created_at":"2001-01-01T00:00:00Z"}`} {
		if diff := cmp.Diff(before, s.must("PUT", path, nothing)); diff != "" {
			t.Errorf("%s changes the trigger (-before +after)\n%s", nothing, diff)
		}
	}
	after := s.must("PUT", path, `{"name":"t2","fn_id":"`+fn2+`","source":"/b","annotations":{"a":1}}`)
	if after.text("name") != "t2" || after.text("fn_id") != fn2 || after.text("source") != "/b" || after.text("app_id") != app ||
		after.annotation(httpEndpoint) != "http://example.com/t/app/b" {
		t.Errorf("got %v", after)
	}
	if diff := cmp.Diff(after, s.must("GET", path, "")); diff != "" {
		t.Errorf("update answers something else than read (-update +read)\n%s", diff)
	}
}

func TestEndpointsBeginWithTheBaseURL(t *testing.T) {
	tests := []struct {
		name, publicURL string
		tls             bool
		header          string
		base            string
	}{
		{"host of the request", "", false, "", "http://own.example:8080"},
		{"TLS", "", true, "", "https://own.example:8080"},
		{"forwarded headers do not count", "", false, "https", "http://own.example:8080"},
		{"configured", "https://lb.example", false, "", "https://lb.example"},
		{"configured, trailing slash", "https://lb.example/", true, "", "https://lb.example"},
		{"configured, path", "http://foo.bar.com/somewhere", false, "", "http://foo.bar.com/somewhere"},
		{"longer than an annotation may be", "http://" + strings.Repeat("x", 600), false, "", "http://" + strings.Repeat("x", 600)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, httpapi.Options{PublicURL: tt.publicURL}, edge.Options{})
			app := s.createApp("app")
			fn := s.createFn(app, "fn")
			trigger := s.createTrigger(app, fn, "t", "/")
			get := func(path string) object {
				r := httptest.NewRequest("GET", path, nil)
				r.Host = "own.example:8080"
				if tt.tls {
					r.TLS = &tls.ConnectionState{}
				}
				if tt.header != "" {
					r.Header.Set("X-Forwarded-Proto", tt.header)
					r.Header.Set("X-Forwarded-Host", "forged.example")
				}
				got := s.serve(r)
				if got.status != 200 {
					t.Fatalf("GET %s: %d %s", path, got.status, got.body)
				}
				return decodeObject(t, got.body)
			}
			for _, o := range []object{get("/v2/fns/" + fn), get("/v2/fns?app_id=" + app).items(t)[0]} {
				if got, want := o.annotation(invokeEndpoint), tt.base+"/invoke/"+fn; got != want {
					t.Errorf("invoke endpoint = %q, want %q", got, want)
				}
			}
			for _, o := range []object{get("/v2/triggers/" + trigger), get("/v2/triggers?app_id=" + app).items(t)[0]} {
				if got, want := o.annotation(httpEndpoint), tt.base+"/t/app/"; got != want {
					t.Errorf("trigger endpoint = %q, want %q", got, want)
				}
			}
		})
	}
}
