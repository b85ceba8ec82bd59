package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// startAPI runs a server that keeps definitions and needs no engine.
func startAPI(t *testing.T, settings map[string]string) *server {
	t.Helper()
	all := map[string]string{"FN_NODE_TYPE": "api"}
	maps.Copy(all, settings)
	return start(t, all)
}

// catalogue is one app with one function and one trigger.
type catalogue struct {
	*server
	app, fn, trigger string
}

func startCatalogue(t *testing.T, settings map[string]string) *catalogue {
	t.Helper()
	s := startAPI(t, settings)
	c := &catalogue{server: s}
	c.app = s.create("/v2/apps", object{"name": "app"})
	c.fn = s.create("/v2/fns", object{"name": "fn", "app_id": c.app, "image": "image"})
	c.trigger = s.create("/v2/triggers", object{"name": "trigger", "app_id": c.app, "fn_id": c.fn, "type": "http", "source": "/src"})
	return c
}

// expand fills identifiers into a path or body.
func (c *catalogue) expand(text string) string {
	return strings.NewReplacer("$app", c.app, "$fn", c.fn, "$trigger", c.trigger).Replace(text)
}

// snapshot is everything that is kept.
func (c *catalogue) snapshot() string {
	c.t.Helper()
	var all strings.Builder
	for _, path := range []string{"/v2/apps?per_page=100", "/v2/fns?per_page=100&app_id=$app", "/v2/triggers?per_page=100&app_id=$app"} {
		all.WriteString(c.send("GET", c.expand(path), "", nil).body)
	}
	return all.String()
}

const (
	badKey   = "Invalid annotation key, annotation keys must be non-empty ascii strings excluding whitespace"
	longKey  = "Invalid annotation key length, annotation keys may not be larger than 128 bytes"
	badValue = "Invalid annotation value, annotation values may only be non-empty strings, numbers, objects, or arrays"
	longVal  = "Invalid annotation value length, annotation values may not be larger than 512 bytes when serialized as JSON"
	manyKeys = "Invalid annotation change, new key(s) exceed maximum permitted number of annotations keys (100)"
)

func TestEveryErrorOfTheAPIHasItsMessageAndChangesNothing(t *testing.T) {
	c := startCatalogue(t, nil)
	long, tooLong := strings.Repeat("n", 255), strings.Repeat("n", 256)
	megabyte := strings.Repeat("n", 1<<20)
	var hundred []string
	for i := range 101 {
		hundred = append(hundred, fmt.Sprintf(`"k%d":1`, i))
	}
	other := c.create("/v2/apps", object{"name": "other"})
	fnBody := func(change string) string {
		return c.expand(`{"name":"new","app_id":"$app","image":"i",` + change + `}`)
	}
	triggerBody := func(change string) string {
		return c.expand(`{"name":"new","app_id":"$app","fn_id":"$fn","type":"http","source":"/new",` + change + `}`)
	}
	tests := []struct {
		method, path, body string
		status             int
		message            string
	}{
		// JSON
		{"POST", "/v2/apps", ``, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `{`, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `[]`, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `"text"`, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `{"name":1}`, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `{"name":"x","config":{"k":1}}`, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `{"name":"x","config":"k"}`, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `{"name":"x","created_at":"yesterday"}`, 400, "Invalid JSON"},
		{"POST", "/v2/fns", fnBody(`"timeout":"30"`), 400, "Invalid JSON"},
		{"POST", "/v2/fns", fnBody(`"memory":-1`), 400, "Invalid JSON"},
		{"POST", "/v2/fns", fnBody(`"timeout":1.5`), 400, "Invalid JSON"},
		{"POST", "/v2/fns", fnBody(`"timeout":99999999999`), 400, "Invalid JSON"},
		{"PUT", "/v2/apps/$app", ``, 400, "Invalid JSON"},
		{"PUT", "/v2/fns/$fn", `{"image":`, 400, "Invalid JSON"},
		{"PUT", "/v2/triggers/$trigger", `nonsense`, 400, "Invalid JSON"},
		// apps
		{"POST", "/v2/apps", `{}`, 400, "Missing Name"},
		{"POST", "/v2/apps", `null`, 400, "Missing Name"},
		{"POST", "/v2/apps", `{"name":"` + tooLong + `"}`, 400, "App name must be 255 characters or less"},
		{"POST", "/v2/apps", `{"name":"` + megabyte + `"}`, 400, "App name must be 255 characters or less"},
		{"POST", "/v2/apps", `{"name":"a b"}`, 400, "Invalid app name"},
		{"POST", "/v2/apps", `{"name":"a\u0000b"}`, 400, "Invalid app name"},
		{"POST", "/v2/apps", `{"name":"a\nb"}`, 400, "Invalid app name"},
		{"POST", "/v2/apps", `{"name":"'; DROP TABLE apps; --"}`, 400, "Invalid app name"},
		{"POST", "/v2/apps", `{"name":"x","id":"y"}`, 400, "App ID cannot be supplied on create"},
		{"POST", "/v2/apps", `{"name":"x","shape":"generic_x86"}`, 400, "Invalid app shape"},
		{"POST", "/v2/apps", `{"name":"x","syslog_url":"http://h"}`, 400, `invalid syslog url: "http://h" invalid scheme, only [tcp, udp, unix, unixgram, tcp+tls] are supported`},
		{"POST", "/v2/apps", `{"name":"x","syslog_url":"host:514"}`, 400, `invalid syslog url: "host:514" invalid scheme, only [tcp, udp, unix, unixgram, tcp+tls] are supported`},
		{"POST", "/v2/apps", `{"name":"app"}`, 409, "App already exists"},
		{"GET", "/v2/apps/nothing", ``, 404, "App not found"},
		{"PUT", "/v2/apps/nothing", `{}`, 404, "App not found"},
		{"DELETE", "/v2/apps/nothing", ``, 404, "App not found"},
		{"GET", "/v2/apps/%27%20OR%201=1", ``, 404, "App not found"},
		{"PUT", "/v2/apps/$app", `{"id":"other"}`, 400, "App ID in path does not match ID in body"},
		{"PUT", "/v2/apps/nothing", `{"id":"other"}`, 400, "App ID in path does not match ID in body"},
		{"PUT", "/v2/apps/$app", `{"name":"renamed"}`, 409, "Could not update - name is immutable"},
		{"PUT", "/v2/apps/$app", `{"syslog_url":"ftp://h"}`, 400, `invalid syslog url: "ftp://h" invalid scheme, only [tcp, udp, unix, unixgram, tcp+tls] are supported`},
		// annotations
		{"POST", "/v2/apps", `{"name":"x","annotations":{"":1}}`, 400, badKey},
		{"POST", "/v2/apps", `{"name":"x","annotations":{"a b":1}}`, 400, badKey},
		{"POST", "/v2/apps", `{"name":"x","annotations":{"ä":1}}`, 400, badKey},
		{"POST", "/v2/apps", `{"name":"x","annotations":{"` + strings.Repeat("k", 129) + `":1}}`, 400, longKey},
		{"POST", "/v2/apps", `{"name":"x","annotations":{"k":""}}`, 400, badValue},
		{"POST", "/v2/apps", `{"name":"x","annotations":{"k":null}}`, 400, badValue},
		{"POST", "/v2/apps", `{"name":"x","annotations":{"k":"` + strings.Repeat("v", 511) + `"}}`, 400, longVal},
		{"POST", "/v2/apps", `{"name":"x","annotations":{` + strings.Join(hundred, ",") + `}}`, 400, manyKeys},
		{"PUT", "/v2/apps/$app", `{"annotations":{` + strings.Join(hundred, ",") + `}}`, 400, manyKeys},
		{"PUT", "/v2/fns/$fn", `{"annotations":{"a b":1}}`, 400, badKey},
		{"PUT", "/v2/triggers/$trigger", `{"annotations":{"k":"` + strings.Repeat("v", 511) + `"}}`, 400, longVal},
		// functions
		{"POST", "/v2/fns", fnBody(`"id":"x"`), 400, "ID cannot be provided for Fn creation"},
		{"POST", "/v2/fns", `{}`, 400, "Missing AppID on Fn"},
		{"GET", "/v2/fns", ``, 400, "Missing AppID on Fn"},
		{"POST", "/v2/fns", fnBody(`"name":""`), 400, "Missing Fn name"},
		{"POST", "/v2/fns", fnBody(`"name":"` + tooLong + `"`), 400, "Fn name must be 255 characters or less"},
		{"POST", "/v2/fns", fnBody(`"name":"a/b"`), 400, "name must be a valid string"},
		{"POST", "/v2/fns", fnBody(`"name":"ä"`), 400, "name must be a valid string"},
		{"POST", "/v2/fns", fnBody(`"name":"a\u0000"`), 400, "name must be a valid string"},
		{"POST", "/v2/fns", fnBody(`"image":""`), 400, "Missing image on Fn"},
		{"POST", "/v2/fns", fnBody(`"image":"` + strings.Repeat("i", 257) + `"`), 400, "Fn image must be 256 characters or less"},
		{"POST", "/v2/fns", fnBody(`"image":"a\u0000b"`), 400, "Invalid Fn image, it contains a control character"},
		{"POST", "/v2/fns", fnBody(`"config":{"K":"a\u0000b"}`), 400, `Invalid config, key "K" or its value contains a NUL character`},
		{"POST", "/v2/fns", fnBody(`"timeout":301`), 400, "timeout value is out of range, must be between 0 and 300"},
		{"POST", "/v2/fns", fnBody(`"timeout":-1`), 400, "timeout value is out of range, must be between 0 and 300"},
		{"POST", "/v2/fns", fnBody(`"idle_timeout":3601`), 400, "idle_timeout value is out of range, must be between 0 and 3600"},
		{"POST", "/v2/fns", fnBody(`"memory":8193`), 400, "memory value is out of range. It should be between 0 and 8192"},
		{"POST", "/v2/fns", fnBody(`"app_id":"nothing"`), 404, "App not found"},
		{"POST", "/v2/fns", fnBody(`"name":"fn"`), 409, "Fn with specified name already exists"},
		{"GET", "/v2/fns/nothing", ``, 404, "Fn not found"},
		{"PUT", "/v2/fns/nothing", `{}`, 404, "Fn not found"},
		{"DELETE", "/v2/fns/nothing", ``, 404, "Fn not found"},
		{"PUT", "/v2/fns/$fn", `{"id":"other"}`, 400, "Fn ID in path does not match that in body"},
		{"PUT", "/v2/fns/$fn", `{"memory":9000}`, 400, "memory value is out of range. It should be between 0 and 8192"},
		{"PUT", "/v2/fns/$fn", `{"timeout":301}`, 400, "timeout value is out of range, must be between 0 and 300"},
		// triggers
		{"POST", "/v2/triggers", triggerBody(`"id":"x"`), 400, "ID cannot be provided for Trigger creation"},
		{"POST", "/v2/triggers", triggerBody(`"created_at":"2020-01-01T00:00:00Z"`), 400, "Trigger Created At Provided for Create"},
		{"POST", "/v2/triggers", triggerBody(`"updated_at":"2020-01-01T00:00:00Z"`), 400, "Trigger ID Provided for Create"},
		{"POST", "/v2/triggers", `{}`, 400, "Missing App ID on Trigger"},
		{"GET", "/v2/triggers", ``, 400, "Missing App ID on Trigger"},
		{"POST", "/v2/triggers", triggerBody(`"name":""`), 400, "Missing name on Trigger"},
		{"POST", "/v2/triggers", triggerBody(`"name":"` + tooLong + `"`), 400, "Trigger name must be 255 characters or less"},
		{"POST", "/v2/triggers", triggerBody(`"name":"a.b"`), 400, "Invalid name for Trigger"},
		{"POST", "/v2/triggers", triggerBody(`"fn_id":""`), 400, "Missing Fn ID on Trigger"},
		{"POST", "/v2/triggers", triggerBody(`"type":"cron"`), 400, "Trigger Type Not Supported"},
		{"POST", "/v2/triggers", triggerBody(`"source":""`), 400, "Missing Trigger Source"},
		{"POST", "/v2/triggers", triggerBody(`"source":"new"`), 400, "Missing Trigger Source Prefix '/'"},
		{"POST", "/v2/triggers", triggerBody(`"source":"/` + strings.Repeat("s", 256) + `"`), 400, "Trigger source must be 256 characters or less"},
		{"POST", "/v2/triggers", triggerBody(`"source":"/a\u0000"`), 400, "Invalid Trigger Source, it contains a control character"},
		{"POST", "/v2/triggers", triggerBody(`"annotations":{"a b":1}`), 400, badKey},
		{"POST", "/v2/triggers", triggerBody(`"app_id":"nothing"`), 404, "App not found"},
		{"POST", "/v2/triggers", triggerBody(`"fn_id":"nothing"`), 404, "Fn not found"},
		{"POST", "/v2/triggers", triggerBody(`"app_id":"` + other + `"`), 400, "Invalid Fn ID - not owned by specified app"},
		{"POST", "/v2/triggers", triggerBody(`"source":"/src"`), 409, "Trigger with the same type and source exists on this app"},
		{"POST", "/v2/triggers", triggerBody(`"name":"trigger"`), 409, "Trigger already exists"},
		{"POST", "/v2/triggers", triggerBody(`"name":"trigger","source":"/src"`), 409, "Trigger with the same type and source exists on this app"},
		{"GET", "/v2/triggers/nothing", ``, 404, "Trigger not found"},
		{"PUT", "/v2/triggers/nothing", `{}`, 404, "Trigger not found"},
		{"DELETE", "/v2/triggers/nothing", ``, 404, "Trigger not found"},
		{"PUT", "/v2/triggers/$trigger", `{"id":"other"}`, 400, "ID in path does not match ID in body"},
		{"PUT", "/v2/triggers/$trigger", `{"fn_id":"nothing"}`, 404, "Fn not found"},
		{"PUT", "/v2/triggers/$trigger", `{"source":"src"}`, 400, "Missing Trigger Source Prefix '/'"},
		{"GET", "/v2/runner/apps/$app/triggerBySource/http/src", ``, 404, "Trigger not found"},
		// lists, paths, methods
		{"GET", "/v2/apps?cursor=!", ``, 400, "Invalid cursor, use the next_cursor of the previous page unchanged"},
		{"GET", "/v2/fns?app_id=$app&cursor=%00", ``, 400, "Invalid cursor, use the next_cursor of the previous page unchanged"},
		{"GET", "/v2/triggers?app_id=$app&cursor=a", ``, 400, "Invalid cursor, use the next_cursor of the previous page unchanged"},
		{"GET", "/v1/apps", ``, 404, "Path not found: GET /v1/apps"},
		{"POST", "/v2/nothing", ``, 404, "Path not found: POST /v2/nothing"},
		{"GET", "/v2/apps/a%2Fb", ``, 404, "Path not found: GET /v2/apps/a/b"},
		{"PATCH", "/v2/apps/$app", ``, 405, "Method not allowed: PATCH /v2/apps/$app"},
		{"DELETE", "/v2/apps", ``, 405, "Method not allowed: DELETE /v2/apps"},
		{"POST", "/version", ``, 405, "Method not allowed: POST /version"},
	}
	before := c.snapshot()
	for _, test := range tests {
		name := test.method + " " + test.path + " " + test.body
		t.Run(name[:min(len(name), 90)], func(t *testing.T) {
			got := c.send(test.method, c.expand(test.path), c.expand(test.body), nil)
			got.wantError(t, test.status, c.expand(test.message))
		})
	}
	if diff := cmp.Diff(before, c.snapshot()); diff != "" {
		t.Errorf("something was changed (-before +after)\n%s", diff)
	}
	if got := c.send("POST", "/v2/apps", `{"name":"`+long+`"}`, nil); got.status != 200 {
		t.Errorf("a name of 255 bytes: %d %s", got.status, got.body)
	}
	if got := c.send("HEAD", "/v2/apps", "", nil); got.status != 405 {
		t.Errorf("HEAD: %d", got.status)
	}
}

var (
	idForm   = regexp.MustCompile(`^[0-7][0-9A-HJKMNP-TV-Z]{25}$`)
	timeForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)
)

// wantJSON checks a successful answer: status, headers, form, and fields,
// where "" as a wanted value stands for what the checks of form have seen.
func (got answer) wantJSON(t *testing.T, want object) object {
	t.Helper()
	if got.status != 200 || got.header.Get("Content-Type") != "application/json; charset=utf-8" || strings.HasSuffix(got.body, "\n") {
		t.Errorf("got %d %q %q", got.status, got.header.Get("Content-Type"), got.body)
	}
	var fields object
	if err := json.Unmarshal([]byte(got.body), &fields); err != nil {
		t.Fatalf("%q: %v", got.body, err)
	}
	id, _ := fields["id"].(string)
	created, _ := fields["created_at"].(string)
	updated, _ := fields["updated_at"].(string)
	if !idForm.MatchString(id) || !timeForm.MatchString(created) || !timeForm.MatchString(updated) {
		t.Errorf("id %q, created %q, updated %q", id, created, updated)
	}
	want["id"], want["created_at"], want["updated_at"] = id, created, updated
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	return fields
}

func TestResourcesHaveTheirFieldsAndMergeTheirUpdates(t *testing.T) {
	s := startAPI(t, map[string]string{"FN_PUBLIC_LB_URL": "http://foo.bar.com/somewhere/"})
	base := "http://foo.bar.com/somewhere"

	app := s.send("POST", "/v2/apps", `{"NAME":"Äpp-1_2","config":{"A":"1","B":"","C":null},"annotations":{"k":{"b":1, "a":[1, 2]},"t":true,"e":{}},
		"syslog_url":"udp://host:514","shape":"GENERIC_ARM","created_at":"0001-01-01T00:00:00.000Z","unknown":1} trailing`, nil).
		wantJSON(t, object{
			"name": "Äpp-1_2", "config": object{"A": "1", "B": "", "C": ""}, "syslog_url": "udp://host:514", "shape": "GENERIC_ARM",
			"annotations": object{"k": object{"b": 1.0, "a": []any{1.0, 2.0}}, "t": true, "e": object{}},
		})
	if app["created_at"] != app["updated_at"] {
		t.Error("created and updated differ after creation")
	}
	appPath := "/v2/apps/" + app["id"].(string)
	updated := s.send("PUT", appPath, `{"config":{"A":"2","B":"","C":null,"D":"<&>"},"annotations":{"k":"","t":null,"n":1},"syslog_url":"","shape":"GENERIC_X86"}`, nil).
		wantJSON(t, object{"name": "Äpp-1_2", "config": object{"A": "2", "D": "<&>"}, "shape": "GENERIC_ARM", "annotations": object{"e": object{}, "n": 1.0}})
	if updated["updated_at"] == app["updated_at"] || updated["created_at"] != app["created_at"] {
		t.Error("timestamps after an update")
	}
	raw := s.send("GET", appPath, "", nil)
	if !strings.Contains(raw.body, `"D":"\u003c\u0026\u003e"`) {
		t.Errorf("HTML is not escaped: %s", raw.body)
	}
	for _, same := range []string{raw.body, `{}`, `{"name":"Äpp-1_2","config":null,"syslog_url":null}`} {
		if diff := cmp.Diff(raw.body, s.send("PUT", appPath, same, nil).body); diff != "" {
			t.Errorf("an update without change (-before +after)\n%s", diff)
		}
	}

	fnWant := func(id any, change object) object {
		want := object{
			"name": "f.n", "app_id": app["id"], "image": "i", "memory": 128.0, "timeout": 30.0, "idle_timeout": 30.0, "config": object{},
			"shape": "GENERIC_ARM", "annotations": object{"fnproject.io/fn/invokeEndpoint": fmt.Sprintf("%s/invoke/%s", base, id)},
		}
		maps.Copy(want, change)
		return want
	}
	body := s.send("POST", "/v2/fns", fmt.Sprintf(`{"name":"f.n","app_id":%q,"image":"i","shape":"GENERIC_X86","format":"http"}`, app["id"]), nil)
	fnID := fieldOf(t, body, "id")
	body.wantJSON(t, fnWant(fnID, nil))
	fnPath := "/v2/fns/" + fnID
	s.send("GET", fnPath, "", nil).wantJSON(t, fnWant(fnID, nil))
	s.send("PUT", fnPath, `{"name":"other","app_id":"x","image":"j","memory":256,"timeout":300,"idle_timeout":3600,"config":{"K":"v"}}`, nil).
		wantJSON(t, fnWant(fnID, object{"image": "j", "memory": 256.0, "timeout": 300.0, "idle_timeout": 3600.0, "config": object{"K": "v"}}))
	s.send("PUT", fnPath, `{"memory":0,"image":"","config":{"K":""},"annotations":{"fnproject.io/fn/invokeEndpoint":"http://stale"}}`, nil).
		wantJSON(t, fnWant(fnID, object{"image": "j", "memory": 256.0, "timeout": 300.0, "idle_timeout": 3600.0}))

	triggerWant := func(change object) object {
		want := object{
			"name": "tr", "app_id": app["id"], "fn_id": fnID, "type": "http", "source": "/s",
			"annotations": object{"fnproject.io/trigger/httpEndpoint": base + "/t/Äpp-1_2/s"},
		}
		maps.Copy(want, change)
		return want
	}
	trigger := s.send("POST", "/v2/triggers", fmt.Sprintf(`{"name":"tr","app_id":%q,"fn_id":%q,"type":"http","source":"/s","updated_at":"0001-01-01T00:00:00.000Z"}`, app["id"], fnID), nil).
		wantJSON(t, triggerWant(nil))
	triggerPath := "/v2/triggers/" + trigger["id"].(string)
	s.send("PUT", triggerPath, `{"name":"tr2","source":"/s2","type":"cron","app_id":"x"}`, nil).
		wantJSON(t, triggerWant(object{"name": "tr2", "source": "/s2", "annotations": object{"fnproject.io/trigger/httpEndpoint": base + "/t/Äpp-1_2/s2"}}))
	s.send("GET", fmt.Sprintf("/v2/runner/apps/%s/triggerBySource/http//s2", app["id"]), "", nil).
		wantJSON(t, object{"name": "tr2", "app_id": app["id"], "fn_id": fnID, "type": "http", "source": "/s2"})

	for _, path := range []string{appPath} { // and with it, all that belongs to it
		if got := s.send("DELETE", path, "", nil); got.status != 204 || got.body != "" {
			t.Errorf("%d %q", got.status, got.body)
		}
	}
	s.send("GET", fnPath, "", nil).wantError(t, 404, "Fn not found")
	s.send("GET", triggerPath, "", nil).wantError(t, 404, "Trigger not found")
}

func fieldOf(t *testing.T, got answer, name string) string {
	t.Helper()
	var fields object
	if err := json.Unmarshal([]byte(got.body), &fields); err != nil {
		t.Fatalf("%q: %v", got.body, err)
	}
	value, _ := fields[name].(string)
	return value
}

func TestLists(t *testing.T) {
	s := startAPI(t, nil)
	const apps = 130
	var want []string
	for i := range apps {
		name := fmt.Sprintf("app%03d", (i*37)%apps) // not in order
		s.create("/v2/apps", object{"name": name})
		want = append(want, name)
	}
	slices.Sort(want)

	page := func(query string) (names []string, cursor string) {
		t.Helper()
		got := s.send("GET", "/v2/apps"+query, "", nil)
		var list struct {
			NextCursor string `json:"next_cursor"`
			Items      []struct{ Name string }
		}
		if err := json.Unmarshal([]byte(got.body), &list); err != nil || got.status != 200 || list.Items == nil {
			t.Fatalf("%d %q", got.status, got.body)
		}
		for _, item := range list.Items {
			names = append(names, item.Name)
		}
		return names, list.NextCursor
	}
	for query, size := range map[string]int{"": 30, "?per_page=0": 30, "?per_page=-1": 30, "?per_page=many": 30, "?per_page=7": 7, "?per_page=100": 100, "?per_page=101": 100} {
		names, cursor := page(query)
		if diff := cmp.Diff(want[:size], names); diff != "" || cursor != base64.RawURLEncoding.EncodeToString([]byte(want[size-1])) {
			t.Errorf("%s: cursor %q (-want +got)\n%s", query, cursor, diff)
		}
	}
	for _, perPage := range []int{1, 13, 64, 65, 100} {
		var all []string
		pages := 0
		for cursor := ""; ; pages++ {
			names, next := page(fmt.Sprintf("?per_page=%d&cursor=%s", perPage, cursor))
			all = append(all, names...)
			if cursor = next; cursor == "" {
				break
			}
		}
		if diff := cmp.Diff(want, all); diff != "" || pages != (apps-1)/perPage {
			t.Errorf("pages of %d: %d and one (-want +got)\n%s", perPage, pages, diff)
		}
	}
	for query, found := range map[string]int{"?name=app001": 1, "?name=app00": 0, "?name=APP001": 0, "?name=%27%20OR%201=1": 0, "?name=app001&sort_by=x&display_name=y": 1} {
		if names, _ := page(query); len(names) != found {
			t.Errorf("%s: %v", query, names)
		}
	}
	for _, path := range []string{"/v2/fns?app_id=nothing", "/v2/triggers?app_id=nothing&fn_id=x&name=y"} {
		if got := s.send("GET", path, "", nil); got.body != `{"items":[]}` {
			t.Errorf("%s: %q", path, got.body)
		}
	}
}

func TestTriggersOfOneNameAreAllListed(t *testing.T) {
	c := startCatalogue(t, nil)
	for i := range 20 {
		fn := c.create("/v2/fns", object{"name": fmt.Sprintf("fn%d", i), "app_id": c.app, "image": "i"})
		c.create("/v2/triggers", object{"name": "same", "app_id": c.app, "fn_id": fn, "type": "http", "source": fmt.Sprintf("/%d", i)})
	}
	seen := map[string]int{}
	for cursor := ""; ; {
		got := c.send("GET", fmt.Sprintf("/v2/triggers?app_id=%s&per_page=3&cursor=%s", c.app, cursor), "", nil)
		var list struct {
			NextCursor string `json:"next_cursor"`
			Items      []struct{ ID, Source string }
		}
		if err := json.Unmarshal([]byte(got.body), &list); err != nil {
			t.Fatal(err)
		}
		for _, item := range list.Items {
			seen[item.ID]++
		}
		if cursor = list.NextCursor; cursor == "" {
			break
		}
	}
	if len(seen) != 21 {
		t.Errorf("%d triggers", len(seen))
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("%s: %d times", id, times)
		}
	}
}

func TestConcurrentWriters(t *testing.T) {
	c := startCatalogue(t, nil)
	var won, lost, other atomic.Int32
	var wg sync.WaitGroup
	for writer := range 16 {
		wg.Go(func() {
			for i := range 20 {
				body := fmt.Sprintf(`{"name":"fn-%d-%d","app_id":"%s","image":"i"}`, writer, i, c.app)
				got, err := c.do(c.request("POST", "/v2/fns", body, nil))
				if err != nil || got.status != 200 {
					t.Errorf("%v, %d %s", err, got.status, got.body)
				}
				got, err = c.do(c.request("POST", "/v2/apps", fmt.Sprintf(`{"name":"race%d"}`, i), nil))
				switch {
				case err == nil && got.status == 200:
					won.Add(1)
				case err == nil && got.status == 409:
					lost.Add(1)
				default:
					other.Add(1)
					t.Errorf("%v, %d %s", err, got.status, got.body)
				}
			}
		})
	}
	wg.Wait()
	if won.Load() != 20 || lost.Load() != 15*20 || other.Load() != 0 {
		t.Errorf("%d created, %d refused, %d else", won.Load(), lost.Load(), other.Load())
	}
}

func TestSmallEndpointsRedirectsAndCORS(t *testing.T) {
	c := startCatalogue(t, map[string]string{"FN_API_CORS_ORIGINS": "https://Page.example.com", "FN_MAX_DEFINITION_SIZE": "2000"})
	for path, want := range map[string]string{
		"/":        `{"goto":"https://github.com/fnproject/fn","hello":"world!"}`,
		"/version": `{"version":"0.3.753"}`,
	} {
		if got := c.send("GET", path, "", nil); got.status != 200 || got.body != want {
			t.Errorf("%s: %d %q", path, got.status, got.body)
		}
	}
	for _, path := range []string{"/v2/fns/$fn/calls", "/v2/fns/x/calls/y", "/v2/fns/x/calls/y/log"} {
		if got := c.send("GET", c.expand(path), "", nil); got.status != 410 || got.body != "" {
			t.Errorf("%s: %d %q", path, got.status, got.body)
		}
	}
	for method, status := range map[string]int{"GET": 301, "POST": 307} {
		got := c.send(method, "/v2/apps/?a=b%20c", "{}", nil)
		if got.status != status || got.header.Get("Location") != "/v2/apps?a=b%20c" {
			t.Errorf("%s: %d to %q", method, got.status, got.header.Get("Location"))
		}
	}
	c.send("POST", "/v2/apps", `{"name":"`+strings.Repeat("x", 3000)+`"}`, nil).wantError(t, 413, "Request content too large")

	origin := map[string]string{"Origin": "https://page.example.com"}
	if got := c.send("GET", "/v2/apps", "", origin); got.status != 200 || got.header.Get("Access-Control-Allow-Origin") != origin["Origin"] || got.header.Get("Vary") != "Origin" {
		t.Errorf("%d %v", got.status, got.header)
	}
	got := c.send("OPTIONS", "/any/path", "", origin)
	if diff := cmp.Diff(http.Header{
		"Access-Control-Allow-Methods": {"GET,POST,PUT,HEAD,DELETE"}, "Access-Control-Allow-Headers": {"Origin,Content-Length,Content-Type"},
		"Access-Control-Max-Age": {"43200"}, "Access-Control-Allow-Origin": {origin["Origin"]},
		"Vary": {"Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"},
	}, only(got.header, "Access-Control-", "Vary")); diff != "" || got.status != 200 {
		t.Errorf("preflight: %d (-want +got)\n%s", got.status, diff)
	}
	if got := c.send("POST", "/v2/apps", `{"name":"evil"}`, map[string]string{"Origin": "https://evil.example.com"}); got.status != 403 || got.body != "" {
		t.Errorf("other origin: %d %q", got.status, got.body)
	}
	if got := c.send("GET", "/v2/apps?name=evil", "", nil); got.body != `{"items":[]}` {
		t.Errorf("it was created: %s", got.body)
	}
}

// only returns the headers with one of the prefixes.
func only(header http.Header, prefixes ...string) http.Header {
	kept := http.Header{}
	for name, values := range header {
		if slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			kept[name] = values
		}
	}
	return kept
}
