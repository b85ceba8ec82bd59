package httpapi_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/httpapi"
)

const specFile = "../../api/openapi.yaml"

// spec is the API description of the repository.
type spec struct{ doc *openapi3.T }

var readSpec = sync.OnceValues(func() (*openapi3.T, error) {
	return openapi3.NewLoader().LoadFromFile(specFile)
})

func loadSpec(t testing.TB) *spec {
	t.Helper()
	doc, err := readSpec()
	if err != nil {
		t.Fatal(err)
	}
	return &spec{doc}
}

// specPath returns the description's form of a route: its last parameter may
// hold slashes, which OpenAPI cannot say, so it has a name there.
func specPath(pattern string) string {
	switch pattern {
	case "/v2/runner/apps/{app_id}/triggerBySource/{trigger_type}/*":
		return "/v2/runner/apps/{app_id}/triggerBySource/{trigger_type}/{trigger_source}"
	default:
		return pattern
	}
}

// checkResponse fails the test if a response of a described operation is not as
// described. Responses of the edge, such as 404 for an unknown path, only need
// to be errors.
func (s *spec) checkResponse(t testing.TB, r *http.Request, got answer) {
	t.Helper()
	if err := s.validate(r, edge.RoutePattern(r), got); err != nil {
		t.Errorf("%s %s answers what the description does not say: %v\n%d %s", r.Method, r.URL, err, got.status, got.body)
	}
}

func (s *spec) validate(r *http.Request, pattern string, got answer) error {
	operation := &openapi3.Operation{Responses: openapi3.NewResponses(
		openapi3.WithName("default", s.doc.Components.Responses["Error"].Value))}
	path := specPath(pattern)
	if item := s.doc.Paths.Value(path); item != nil && item.GetOperation(r.Method) != nil {
		operation = item.GetOperation(r.Method)
	} else if got.status < 400 || got.status == http.StatusForbidden {
		return nil // redirects and CORS
	}
	return openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: r,
			Route:   &routers.Route{Spec: s.doc, Path: path, Method: r.Method, Operation: operation},
		},
		Status:  got.status,
		Header:  got.header,
		Body:    io.NopCloser(strings.NewReader(got.body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	})
}

func TestDescriptionIsValidOpenAPI(t *testing.T) {
	if err := loadSpec(t).doc.Validate(t.Context(), openapi3.EnableExamplesValidation()); err != nil {
		t.Error(err)
	}
}

func TestDescriptionAndRoutesAreTheSame(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	var routed, described []string
	for _, route := range s.router.Routes() {
		routed = append(routed, route.Method+" "+specPath(route.Pattern))
	}
	for path, item := range s.spec.doc.Paths.Map() {
		if !strings.HasPrefix(path, "/v2/") && path != "/" && path != "/version" {
			continue
		}
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	slices.Sort(routed)
	slices.Sort(described)
	if diff := cmp.Diff(described, routed); diff != "" {
		t.Errorf("(-described +routed)\n%s", diff)
	}
}

func TestDescriptionCoversTheOtherRoutesOfTheListener(t *testing.T) {
	doc := loadSpec(t).doc
	want := map[string][]string{
		"/metrics":               {"GET"},
		"/invoke/{fn_id}":        {"POST"},
		"/t/{app_name}":          {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"},
		"/t/{app_name}/{source}": {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"},
	}
	for path, methods := range want {
		item := doc.Paths.Value(path)
		if item == nil {
			t.Errorf("%s is not described", path)
			continue
		}
		var got []string
		for method := range item.Operations() {
			got = append(got, method)
		}
		slices.Sort(got)
		if diff := cmp.Diff(methods, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", path, diff)
		}
	}
}

// TestDescriptionNoticesDeviations proves that the check of responses can fail.
func TestDescriptionNoticesDeviations(t *testing.T) {
	s := loadSpec(t)
	jsonHeader := http.Header{"Content-Type": {"application/json; charset=utf-8"}}
	for name, got := range map[string]answer{
		"unknown key":    {404, jsonHeader, `{"message":"x","fields":"y"}`},
		"content type":   {404, http.Header{"Content-Type": {"text/plain"}}, `{"message":"x"}`},
		"empty message":  {404, jsonHeader, `{"message":""}`},
		"missing key":    {200, jsonHeader, `{"id":"01DQ2QXJ3RNG8G00GZJ0000001"}`},
		"bad identifier": {200, jsonHeader, `{"id":"x","name":"a","created_at":"2019-10-13T14:54:45.459Z","updated_at":"2019-10-13T14:54:45.459Z"}`},
		"bad timestamp":  {200, jsonHeader, `{"id":"01DQ2QXJ3RNG8G00GZJ0000001","name":"a","created_at":"2019-10-13T14:54:45Z","updated_at":"2019-10-13T14:54:45.459Z"}`},
	} {
		r := httptest.NewRequest("GET", "/v2/apps/x", nil)
		if err := s.validate(r, "/v2/apps/{app_id}", got); err == nil {
			t.Errorf("%s went unnoticed", name)
		}
	}
}

func TestEveryOperationAnswersAsDescribed(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	app := s.must("POST", "/v2/apps", `{"name":"app","config":{"a":"b"},"annotations":{"a":{"b":[1,true]}},"syslog_url":"udp://x:1","shape":"GENERIC_ARM"}`).text("id")
	fn := s.must("POST", "/v2/fns", encode(t, object{
		"app_id": app, "name": "fn", "image": "img", "config": object{"a": ""}, "annotations": object{"a": 1},
	})).text("id")
	trigger := s.createTrigger(app, fn, "trigger", "/hot")
	for i := range 3 {
		s.createApp("spare" + string(rune('0'+i)))
	}

	// Successes and failures of every operation, in an order in which they happen.
	tests := []struct {
		method, target, body string
		status               int
	}{
		{"GET", "/", "", 200},
		{"GET", "/version", "", 200},
		{"GET", "/v2/apps?per_page=2", "", 200},
		{"GET", "/v2/apps?cursor=!", "", 400},
		{"POST", "/v2/apps", `{"name":"other"}`, 200},
		{"POST", "/v2/apps", `{"name":"other"}`, 409},
		{"GET", "/v2/apps/" + app, "", 200},
		{"GET", "/v2/apps/x", "", 404},
		{"PUT", "/v2/apps/" + app, `{"config":{"c":"d"}}`, 200},
		{"PUT", "/v2/apps/x", `{}`, 404},
		{"GET", "/v2/fns?app_id=" + app, "", 200},
		{"GET", "/v2/fns", "", 400},
		{"POST", "/v2/fns", `{"app_id":"` + app + `","name":"fn2","image":"img"}`, 200},
		{"POST", "/v2/fns", `{"app_id":"x","name":"fn2","image":"img"}`, 404},
		{"GET", "/v2/fns/" + fn, "", 200},
		{"GET", "/v2/fns/x", "", 404},
		{"PUT", "/v2/fns/" + fn, `{"memory":256}`, 200},
		{"PUT", "/v2/fns/" + fn, `{"memory":-1}`, 400},
		{"GET", "/v2/fns/" + fn + "/calls", "", 410},
		{"GET", "/v2/fns/" + fn + "/calls/x", "", 410},
		{"GET", "/v2/fns/" + fn + "/calls/x/log", "", 410},
		{"GET", "/v2/triggers?app_id=" + app, "", 200},
		{"GET", "/v2/triggers", "", 400},
		{"POST", "/v2/triggers", `{"app_id":"` + app + `","fn_id":"` + fn + `","name":"t2","type":"http","source":"/b"}`, 200},
		{"POST", "/v2/triggers", `{"app_id":"` + app + `","fn_id":"` + fn + `","name":"t2","type":"http","source":"/b"}`, 409},
		{"GET", "/v2/triggers/" + trigger, "", 200},
		{"GET", "/v2/triggers/x", "", 404},
		{"PUT", "/v2/triggers/" + trigger, `{"source":"/cold"}`, 200},
		{"PUT", "/v2/triggers/" + trigger, `{"source":"/b"}`, 409},
		{"GET", "/v2/runner/apps/" + app + "/triggerBySource/http//cold", "", 200},
		{"GET", "/v2/runner/apps/" + app + "/triggerBySource/http//hot", "", 404},
		{"DELETE", "/v2/triggers/" + trigger, "", 204},
		{"DELETE", "/v2/triggers/" + trigger, "", 404},
		{"DELETE", "/v2/fns/" + fn, "", 204},
		{"DELETE", "/v2/fns/" + fn, "", 404},
		{"DELETE", "/v2/apps/" + app, "", 204},
		{"DELETE", "/v2/apps/" + app, "", 404},
	}
	succeeded, failed := map[string]bool{}, map[string]bool{}
	for _, tt := range tests {
		r := httptest.NewRequest(tt.method, tt.target, strings.NewReader(tt.body))
		got := s.serve(r)
		if got.status != tt.status {
			t.Errorf("%s %s: %d %s, want %d", tt.method, tt.target, got.status, got.body, tt.status)
		}
		operation := tt.method + " " + edge.RoutePattern(r)
		if got.status < 400 {
			succeeded[operation] = true
		} else {
			failed[operation] = true
		}
	}
	for _, route := range s.router.Routes() {
		operation := route.Method + " " + route.Pattern
		gone := strings.Contains(route.Pattern, "/calls") // never succeeds
		fixed := !strings.HasPrefix(route.Pattern, "/v2") // never fails
		if !succeeded[operation] && !gone || !failed[operation] && !fixed {
			t.Errorf("%s was not tried with success and with failure", operation)
		}
	}
}
