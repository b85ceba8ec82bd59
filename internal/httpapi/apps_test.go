package httpapi_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/httpapi"
)

func TestAppHasOnlyTheKeysThatAreSet(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	small := s.must("POST", "/v2/apps", `{"name":"small","config":{},"annotations":{},"syslog_url":"","shape":""}`)
	large := s.must("POST", "/v2/apps", `{"name":"large","config":{"a":"","b":null},"annotations":{"x":false},"syslog_url":" tcp://h:1 ","shape":"GENERIC_X86"}`)
	smallKeys := []string{"created_at", "id", "name", "updated_at"}
	largeKeys := []string{"annotations", "config", "created_at", "id", "name", "shape", "syslog_url", "updated_at"}
	for _, tt := range []struct {
		app  object
		keys []string
	}{{small, smallKeys}, {large, largeKeys}} {
		read := s.must("GET", "/v2/apps/"+tt.app.text("id"), "")
		for _, app := range []object{tt.app, read} {
			if diff := cmp.Diff(tt.keys, app.keys()); diff != "" {
				t.Errorf("%s (-want +got)\n%s", app.text("name"), diff)
			}
		}
		if diff := cmp.Diff(tt.app, read); diff != "" {
			t.Errorf("read differs from create (-create +read)\n%s", diff)
		}
		if tt.app["created_at"] != tt.app["updated_at"] {
			t.Errorf("created_at %v, updated_at %v", tt.app["created_at"], tt.app["updated_at"])
		}
	}
	if diff := cmp.Diff(map[string]any{"a": "", "b": ""}, large["config"]); diff != "" {
		t.Errorf("config (-want +got)\n%s", diff)
	}
}

func TestAppUpdateMerges(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	created := s.must("POST", "/v2/apps", `{"name":"app","config":{"keep":"1","change":"2","drop":"3","null":"4"},
		"annotations":{"keep":{"b":1,"a":2},"change":1,"drop":2,"null":3},"syslog_url":"udp://h:1","shape":"GENERIC_ARM"}`)
	path := "/v2/apps/" + created.text("id")

	for _, nothing := range []string{
		`{}`, `{"id":"","name":"","config":null,"annotations":null,"syslog_url":null,"shape":"","created_at":null}`,
		`{"shape":"GENERIC_X86","syslog_url":"udp://h:1","config":{"keep":"1"},"annotations":{"keep": {"b" : 1,"a":2}}}`,
		`{"name":"app","unknown":{"a":[]}}`, s.call("GET", path, "").body,
	} {
		if diff := cmp.Diff(created, s.must("PUT", path, nothing)); diff != "" {
			t.Errorf("%s changes the app (-before +after)\n%s", nothing, diff)
		}
	}

	updated := s.must("PUT", path, `{"config":{"change":"x","drop":"","null":null,"new":"y"},
		"annotations":{"change":[1, 2],"drop":"","null":null,"new":"z"},"syslog_url":"","created_at":"2001-01-01T00:00:00Z"}`)
	want := object{}
	for key, value := range created {
		want[key] = value
	}
	want["config"] = map[string]any{"keep": "1", "change": "x", "new": "y"}
	delete(want, "syslog_url")
	want["updated_at"] = updated["updated_at"]
	want["annotations"] = updated["annotations"]
	if diff := cmp.Diff(want, updated); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	raw := s.call("GET", path, "").body
	for _, text := range []string{`"keep":{"b":1,"a":2}`, `"change":[1,2]`, `"new":"z"`} {
		if !strings.Contains(raw, text) {
			t.Errorf("annotations lack %s: %s", text, raw)
		}
	}
	if annotations := updated["annotations"].(map[string]any); len(annotations) != 3 {
		t.Errorf("annotations = %v", annotations)
	}
}

func TestJSONRulesOfRequests(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	for name, body := range map[string]string{
		"other_case":    `{"NAME":"other_case","Syslog_URL":"udp://h","CONFIG":{"a":"b"}}`,
		"unknown":       `{"name":"unknown","lifecycle_state":"ACTIVE","tags":{"a":[1]}}`,
		"trailing":      `{"name":"trailing"}{"name":"second"} garbage`,
		"leading":       "\n\t {\"name\":\"leading\"}",
		"zero_times":    `{"name":"zero_times","created_at":"0001-01-01T00:00:00.000Z","updated_at":"0001-01-01T00:00:00.000Z"}`,
		"any_times":     `{"name":"any_times","created_at":"2019-10-13T14:54:45.123456789+02:00","updated_at":""}`,
		"empty_id":      `{"name":"empty_id","id":""}`,
		"Größe-1_二":     `{"name":"Größe-1_二"}`,
		"nested_spaces": `{ "name" : "nested_spaces" , "annotations" : { "a" : { "k" : [ 1 , 2 ] } } }`,
	} {
		for _, contentType := range []string{"", "text/plain", "application/x-www-form-urlencoded"} {
			r := httptest.NewRequest("POST", "/v2/apps", strings.NewReader(body))
			r.Header.Set("Content-Type", contentType)
			r.Header.Set("If-Match", "x")
			got := s.serve(r)
			if got.status != 200 {
				t.Errorf("%s: %d %s", name, got.status, got.body)
				continue
			}
			app := decodeObject(t, got.body)
			if app.text("name") != name || strings.HasPrefix(app.text("created_at"), "0001") || strings.HasPrefix(app.text("created_at"), "2019") {
				t.Errorf("%s: %s", name, got.body)
			}
			if deletion := s.call("DELETE", "/v2/apps/"+app.text("id"), ""); deletion.status != 204 || deletion.body != "" {
				t.Errorf("delete: %d %q", deletion.status, deletion.body)
			}
		}
	}
}

func TestResponsesAreCompactEscapedJSON(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	got := s.call("POST", "/v2/apps", `{"name":"a","config":{"k":"<&>"},"annotations":{"x":{"y": "<"}}}`)
	if !strings.Contains(got.body, `"config":{"k":"\u003c\u0026\u003e"},"annotations":{"x":{"y":"\u003c"}}`) || strings.ContainsAny(got.body, "\n <>") {
		t.Errorf("body = %q", got.body)
	}
	if contentType := got.header.Get("Content-Type"); contentType != "application/json; charset=utf-8" {
		t.Errorf("Content-Type = %q", contentType)
	}
}

func TestDeletingAnAppDeletesWhatIsInIt(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	app := s.createApp("app")
	fn := s.createFn(app, "fn")
	trigger := s.createTrigger(app, fn, "t", "/")
	if got := s.call("DELETE", "/v2/apps/"+app, ""); got.status != 204 {
		t.Fatalf("got %d", got.status)
	}
	for _, path := range []string{"/v2/fns/" + fn, "/v2/triggers/" + trigger} {
		if got := s.call("GET", path, ""); got.status != 404 {
			t.Errorf("GET %s: %d", path, got.status)
		}
	}
}
