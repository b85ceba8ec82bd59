package httpapi_test

import (
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/httpapi"
	"github.com/tinefn/tine/model"
)

func TestErrors(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	app, otherApp := s.createApp("app"), s.createApp("other")
	fn, fn2, otherFn := s.createFn(app, "fn"), s.createFn(app, "fn2"), s.createFn(otherApp, "fn")
	trigger := s.createTrigger(app, fn, "trigger", "/hot")
	trigger2 := s.createTrigger(app, fn, "trigger2", "/cold")

	// $A and so on in targets and bodies stand for the identifiers.
	ids := strings.NewReplacer("$A2", otherApp, "$A", app, "$F3", otherFn, "$F2", fn2, "$F", fn, "$T2", trigger2, "$T", trigger)
	name256, name255 := strings.Repeat("n", 256), strings.Repeat("n", 255)
	fnWith := func(field string) string { return `{"app_id":"$A","name":"new","image":"i",` + field + `}` }
	triggerWith := func(field string) string {
		return `{"app_id":"$A","fn_id":"$F","name":"new","type":"http","source":"/new",` + field + `}`
	}
	manyAnnotations := func(n int) string {
		pairs := make([]string, n)
		for i := range pairs {
			pairs[i] = fmt.Sprintf(`"k%d":1`, i)
		}
		return `{"name":"new","annotations":{` + strings.Join(pairs, ",") + `}}`
	}

	tests := []struct {
		method, target, body string
		status               int
		message              string
	}{
		// Bodies that are not JSON of the right shape, the same everywhere.
		{"POST", "/v2/apps", ``, 400, "Invalid JSON"},
		{"POST", "/v2/apps", ` `, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `{`, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `{"name":"a"`, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `name=a`, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `[]`, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `"a"`, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `{"name":1}`, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `{"config":{"a":1}}`, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `{"config":[]}`, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `{"annotations":"a"}`, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `{"created_at":"yesterday"}`, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `{"updated_at":5}`, 400, "Invalid JSON"},
		{"POST", "/v2/apps", strings.Repeat("[", 20000), 400, "Invalid JSON"},
		{"PUT", "/v2/apps/$A", ``, 400, "Invalid JSON"},
		{"PUT", "/v2/apps/unknown", `{`, 400, "Invalid JSON"},
		{"POST", "/v2/fns", ``, 400, "Invalid JSON"},
		{"POST", "/v2/fns", `{"timeout":"30"}`, 400, "Invalid JSON"},
		{"POST", "/v2/fns", `{"memory":-1}`, 400, "Invalid JSON"},
		{"POST", "/v2/fns", `{"memory":1.5}`, 400, "Invalid JSON"},
		{"POST", "/v2/fns", `{"timeout":2147483648}`, 400, "Invalid JSON"},
		{"PUT", "/v2/fns/$F", `{"idle_timeout":[]}`, 400, "Invalid JSON"},
		{"POST", "/v2/triggers", ``, 400, "Invalid JSON"},
		{"POST", "/v2/triggers", `{"config":1,"source":{}}`, 400, "Invalid JSON"},
		{"PUT", "/v2/triggers/$T", `x`, 400, "Invalid JSON"},

		// Apps.
		{"POST", "/v2/apps", `{}`, 400, "Missing Name"},
		{"POST", "/v2/apps", `null`, 400, "Missing Name"},
		{"POST", "/v2/apps", `{"name":"` + name256 + `"}`, 400, "App name must be 255 characters or less"},
		{"POST", "/v2/apps", `{"name":"` + strings.Repeat("ä", 128) + `"}`, 400, "App name must be 255 characters or less"},
		{"POST", "/v2/apps", `{"name":"a b"}`, 400, "Invalid app name"},
		{"POST", "/v2/apps", `{"name":"a\u0000"}`, 400, "Invalid app name"},
		{"POST", "/v2/apps", `{"name":"a/b"}`, 400, "Invalid app name"},
		{"POST", "/v2/apps", `{"id":"x"}`, 400, "App ID cannot be supplied on create"},
		{"POST", "/v2/apps", `{"name":"new","shape":"generic_x86"}`, 400, "Invalid app shape"},
		{
			"POST", "/v2/apps", `{"name":"new","syslog_url":"http://x"}`, 400,
			`invalid syslog url: \"http://x\" invalid scheme, only [tcp, udp, unix, unixgram, tcp+tls] are supported`,
		},
		{
			"POST", "/v2/apps", `{"name":"new","syslog_url":"x"}`, 400,
			`invalid syslog url: \"x\" invalid scheme, only [tcp, udp, unix, unixgram, tcp+tls] are supported`,
		},
		{"POST", "/v2/apps", `{"name":"app"}`, 409, "App already exists"},
		{"GET", "/v2/apps/unknown", ``, 404, "App not found"},
		{"DELETE", "/v2/apps/unknown", ``, 404, "App not found"},
		{"PUT", "/v2/apps/unknown", `{}`, 404, "App not found"},
		{"PUT", "/v2/apps/$A", `{"id":"$A2"}`, 400, "App ID in path does not match ID in body"},
		{"PUT", "/v2/apps/unknown", `{"id":"$A"}`, 400, "App ID in path does not match ID in body"},
		{"PUT", "/v2/apps/$A", `{"name":"renamed"}`, 409, "Could not update - name is immutable"},
		{"GET", "/v2/apps?cursor=%21%21", ``, 400, "Invalid cursor, use the next_cursor of the previous page unchanged"},

		// Annotations, here on apps.
		{"POST", "/v2/apps", `{"name":"new","annotations":{"":1}}`, 400, model.ErrAnnotationKey.Error()},
		{"POST", "/v2/apps", `{"name":"new","annotations":{"a b":1}}`, 400, model.ErrAnnotationKey.Error()},
		{"POST", "/v2/apps", `{"name":"new","annotations":{"ä":1}}`, 400, model.ErrAnnotationKey.Error()},
		{"POST", "/v2/apps", `{"name":"new","annotations":{"` + name255 + `":1}}`, 400, model.ErrAnnotationKeyTooLong.Error()},
		{"POST", "/v2/apps", `{"name":"new","annotations":{"a":""}}`, 400, model.ErrAnnotationValue.Error()},
		{"POST", "/v2/apps", `{"name":"new","annotations":{"a":null}}`, 400, model.ErrAnnotationValue.Error()},
		{"POST", "/v2/apps", `{"name":"new","annotations":{"a":"` + strings.Repeat("x", 511) + `"}}`, 400, model.ErrAnnotationValueTooLong.Error()},
		{"POST", "/v2/apps", manyAnnotations(101), 400, model.ErrAnnotationTooMany.Error()},
		{"PUT", "/v2/apps/$A", manyAnnotations(101)[len(`{"name":"new",`)-1:], 400, "Invalid JSON"},

		// Functions.
		{"POST", "/v2/fns", `{"id":"x"}`, 400, "ID cannot be provided for Fn creation"},
		{"POST", "/v2/fns", `{}`, 400, "Missing AppID on Fn"},
		{"POST", "/v2/fns", `{"app_id":"$A"}`, 400, "Missing Fn name"},
		{"POST", "/v2/fns", `{"app_id":"$A","name":"` + name256 + `"}`, 400, "Fn name must be 255 characters or less"},
		{"POST", "/v2/fns", `{"app_id":"$A","name":"a b"}`, 400, "name must be a valid string"},
		{"POST", "/v2/fns", `{"app_id":"$A","name":"ä"}`, 400, "name must be a valid string"},
		{"POST", "/v2/fns", `{"app_id":"$A","name":"new"}`, 400, "Missing image on Fn"},
		{"POST", "/v2/fns", `{"app_id":"$A","name":"new","image":"` + strings.Repeat("i", 257) + `"}`, 400, "Fn image must be 256 characters or less"},
		{"POST", "/v2/fns", fnWith(`"timeout":301`), 400, "timeout value is out of range, must be between 0 and 300"},
		{"POST", "/v2/fns", fnWith(`"timeout":-1`), 400, "timeout value is out of range, must be between 0 and 300"},
		{"POST", "/v2/fns", fnWith(`"idle_timeout":3601`), 400, "idle_timeout value is out of range, must be between 0 and 3600"},
		{"POST", "/v2/fns", fnWith(`"memory":8193`), 400, "memory value is out of range. It should be between 0 and 8192"},
		{"POST", "/v2/fns", fnWith(`"memory":18446744073709551615`), 400, "memory value is out of range. It should be between 0 and 8192"},
		{"POST", "/v2/fns", fnWith(`"annotations":{"":1}`), 400, model.ErrAnnotationKey.Error()},
		{"POST", "/v2/fns", `{"app_id":"unknown","name":"new","image":"i"}`, 404, "App not found"},
		{"POST", "/v2/fns", `{"app_id":"$A","name":"fn","image":"i"}`, 409, "Fn with specified name already exists"},
		{"GET", "/v2/fns", ``, 400, "Missing AppID on Fn"},
		{"GET", "/v2/fns?app_id=$A&cursor=%21", ``, 400, "Invalid cursor, use the next_cursor of the previous page unchanged"},
		{"GET", "/v2/fns/unknown", ``, 404, "Fn not found"},
		{"DELETE", "/v2/fns/unknown", ``, 404, "Fn not found"},
		{"PUT", "/v2/fns/unknown", `{}`, 404, "Fn not found"},
		{"PUT", "/v2/fns/$F", `{"id":"$F2","image":"changed"}`, 400, "Fn ID in path does not match that in body"},
		{"PUT", "/v2/fns/unknown", `{"id":"$F"}`, 400, "Fn ID in path does not match that in body"},
		{"PUT", "/v2/fns/$F", `{"memory":8193}`, 400, "memory value is out of range. It should be between 0 and 8192"},

		// Triggers.
		{"POST", "/v2/triggers", `{"id":"x"}`, 400, "ID cannot be provided for Trigger creation"},
		{"POST", "/v2/triggers", `{"created_at":""}`, 400, "Trigger Created At Provided for Create"},
		{"POST", "/v2/triggers", `{"updated_at":"2019-10-13T14:54:45Z"}`, 400, "Trigger ID Provided for Create"},
		{"POST", "/v2/triggers", `{}`, 400, "Missing App ID on Trigger"},
		{"POST", "/v2/triggers", `{"app_id":"$A"}`, 400, "Missing name on Trigger"},
		{"POST", "/v2/triggers", `{"app_id":"$A","name":"` + name256 + `"}`, 400, "Trigger name must be 255 characters or less"},
		{"POST", "/v2/triggers", `{"app_id":"$A","name":"a.b"}`, 400, "Invalid name for Trigger"},
		{"POST", "/v2/triggers", `{"app_id":"$A","name":"new"}`, 400, "Missing Fn ID on Trigger"},
		{"POST", "/v2/triggers", `{"app_id":"$A","name":"new","fn_id":"$F"}`, 400, "Trigger Type Not Supported"},
		{"POST", "/v2/triggers", `{"app_id":"$A","name":"new","fn_id":"$F","type":"HTTP"}`, 400, "Trigger Type Not Supported"},
		{"POST", "/v2/triggers", `{"app_id":"$A","name":"new","fn_id":"$F","type":"http"}`, 400, "Missing Trigger Source"},
		{"POST", "/v2/triggers", `{"app_id":"$A","name":"new","fn_id":"$F","type":"http","source":"x"}`, 400, "Missing Trigger Source Prefix '/'"},
		{"POST", "/v2/triggers", `{"app_id":"$A","name":"new","fn_id":"$F","type":"http","source":"/` + name256 + `"}`, 400, "Trigger source must be 256 characters or less"},
		{"POST", "/v2/triggers", triggerWith(`"annotations":{"":1}`), 400, model.ErrAnnotationKey.Error()},
		{"POST", "/v2/triggers", triggerWith(`"app_id":"unknown"`), 404, "App not found"},
		{"POST", "/v2/triggers", triggerWith(`"fn_id":"unknown"`), 404, "Fn not found"},
		{"POST", "/v2/triggers", triggerWith(`"fn_id":"$F3"`), 400, "Invalid Fn ID - not owned by specified app"},
		{"POST", "/v2/triggers", triggerWith(`"source":"/hot"`), 409, "Trigger with the same type and source exists on this app"},
		{"POST", "/v2/triggers", triggerWith(`"name":"trigger"`), 409, "Trigger already exists"},
		{"POST", "/v2/triggers", triggerWith(`"name":"trigger","source":"/hot"`), 409, "Trigger with the same type and source exists on this app"},
		{"GET", "/v2/triggers", ``, 400, "Missing App ID on Trigger"},
		{"GET", "/v2/triggers?fn_id=$F", ``, 400, "Missing App ID on Trigger"},
		{"GET", "/v2/triggers?app_id=$A&cursor=%21", ``, 400, "Invalid cursor, use the next_cursor of the previous page unchanged"},
		{"GET", "/v2/triggers/unknown", ``, 404, "Trigger not found"},
		{"DELETE", "/v2/triggers/unknown", ``, 404, "Trigger not found"},
		{"PUT", "/v2/triggers/unknown", `{}`, 404, "Trigger not found"},
		{"PUT", "/v2/triggers/$T", `{"id":"$T2","name":"changed"}`, 400, "ID in path does not match ID in body"},
		{"PUT", "/v2/triggers/unknown", `{"id":"$T"}`, 400, "ID in path does not match ID in body"},
		{"PUT", "/v2/triggers/$T", `{"source":"/cold"}`, 409, "Trigger with the same type and source exists on this app"},
		{"PUT", "/v2/triggers/$T", `{"name":"trigger2"}`, 409, "Trigger already exists"},
		{"PUT", "/v2/triggers/$T", `{"fn_id":"unknown"}`, 404, "Fn not found"},
		{"PUT", "/v2/triggers/$T", `{"fn_id":"$F3"}`, 400, "Invalid Fn ID - not owned by specified app"},
		{"PUT", "/v2/triggers/$T", `{"source":"cold"}`, 400, "Missing Trigger Source Prefix '/'"},
		{"GET", "/v2/runner/apps/$A/triggerBySource/http//nowhere", ``, 404, "Trigger not found"},
		{"GET", "/v2/runner/apps/$A/triggerBySource/http/hot", ``, 404, "Trigger not found"},
		{"GET", "/v2/runner/apps/$A/triggerBySource/udp//hot", ``, 404, "Trigger not found"},
		{"GET", "/v2/runner/apps/unknown/triggerBySource/http//hot", ``, 404, "Trigger not found"},

		// Routes.
		{"GET", "/v1/apps", ``, 404, "Path not found: GET /v1/apps"},
		{"HEAD", "/v2/apps", ``, 405, "Method not allowed: HEAD /v2/apps"},
		{"PATCH", "/v2/apps/$A", `{}`, 405, "Method not allowed: PATCH /v2/apps/$A"},
		{"POST", "/", `{}`, 405, "Method not allowed: POST /"},
	}
	for _, tt := range tests {
		target, body, message := ids.Replace(tt.target), ids.Replace(tt.body), ids.Replace(tt.message)
		t.Run(fmt.Sprintf("%s %s %.60s", tt.method, tt.target, tt.body), func(t *testing.T) {
			got := s.call(tt.method, target, body)
			if want := `{"message":"` + message + `"}` + "\n"; got.status != tt.status || got.body != want {
				t.Errorf("got %d %q, want %d %q", got.status, got.body, tt.status, want)
			}
			if contentType := got.header.Get("Content-Type"); contentType != "application/json; charset=utf-8" {
				t.Errorf("Content-Type = %q", contentType)
			}
		})
	}

	// No refused request has changed anything.
	if image := s.must("GET", "/v2/fns/"+fn2, "").text("image"); image != "img" {
		t.Errorf("the image of fn2 is %q", image)
	}
	if name := s.must("GET", "/v2/triggers/"+trigger2, "").text("name"); name != "trigger2" {
		t.Errorf("the name of trigger2 is %q", name)
	}
	if apps := s.must("GET", "/v2/apps", "").items(t); len(apps) != 2 {
		t.Errorf("there are %d apps", len(apps))
	}
}

func TestAnnotationsMayNotExceedTheirNumberThroughAnUpdate(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	annotations := object{}
	for i := range 100 {
		annotations[fmt.Sprint("k", i)] = i
	}
	app := s.must("POST", "/v2/apps", encode(t, object{"name": "a", "annotations": annotations})).text("id")
	got := s.call("PUT", "/v2/apps/"+app, `{"annotations":{"one":1}}`)
	if got.status != 400 || !strings.Contains(got.body, "Invalid annotation change") {
		t.Errorf("got %d %s", got.status, got.body)
	}
	s.must("PUT", "/v2/apps/"+app, `{"annotations":{"one":1,"k0":""}}`)
}

// slowBody fails the way a body does that did not arrive in time.
type slowBody struct{ io.Reader }

func (slowBody) Read([]byte) (int, error) { return 0, fmt.Errorf("read: %w", model.ErrRequestTimeout) }

func TestBodiesThatDoNotArriveAreNotInvalidJSON(t *testing.T) {
	s := newServer(t, httpapi.Options{MaxDefinitionBytes: 100}, edge.Options{})
	exact := `{"name":"fits","config":{"a":"` // filled to 100 bytes
	exact += strings.Repeat("x", 100-len(exact)-3) + `"}}`
	long := `{"name":"long","config":{"a":"` + strings.Repeat("x", 100) + `"}}`
	tests := []struct {
		name   string
		body   io.Reader
		status int
		want   string
	}{
		{"fits", strings.NewReader(exact), 200, ""},
		{"too large", strings.NewReader(long), 413, "Request content too large"},
		{"too large, undeclared", io.MultiReader(strings.NewReader(long)), 413, "Request content too large"},
		{"only what follows is too large", strings.NewReader(`{"name":"short"} ` + long), 200, ""},
		{"slow", slowBody{}, 408, "Timed out reading the request body"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := s.serve(httptest.NewRequest("POST", "/v2/apps", tt.body))
			if got.status != tt.status || tt.want != "" && got.body != `{"message":"`+tt.want+`"}`+"\n" {
				t.Errorf("got %d %s", got.status, got.body)
			}
		})
	}
}

func TestTheEdgeLimitAppliesToDefinitions(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{MaxRequestBytes: 20})
	long := `{"name":"a name that is too long"}`
	r := httptest.NewRequest("POST", "/v2/apps", strings.NewReader(long))
	if got := s.serve(r); got.status != 413 || got.body != `{"message":"Content-Length too large for this server, 34 \u003e max 20"}`+"\n" {
		t.Errorf("declared: got %d %s", got.status, got.body)
	}
	r = httptest.NewRequest("POST", "/v2/apps", io.MultiReader(strings.NewReader(long)))
	if got := s.serve(r); got.status != 413 || got.body != `{"message":"Request content too large"}`+"\n" {
		t.Errorf("undeclared: got %d %s", got.status, got.body)
	}
}
