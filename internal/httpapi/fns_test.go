package httpapi_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/httpapi"
)

const invokeEndpoint = "fnproject.io/fn/invokeEndpoint"

func TestFnGetsDefaultsAndTheShapeOfItsApp(t *testing.T) {
	s := newServer(t, httpapi.Options{PublicURL: "https://fn.example"}, edge.Options{})
	app := s.must("POST", "/v2/apps", `{"name":"app","shape":"GENERIC_ARM"}`).text("id")
	created := s.must("POST", "/v2/fns", `{"app_id":"`+app+`","name":"fn","image":"img","shape":"GENERIC_X86",
		"created_at":"0001-01-01T00:00:00.000Z","updated_at":"2001-01-01T00:00:00Z","memory":0,"timeout":0,"idle_timeout":null}`)
	id := created.text("id")
	want := `{"id":"` + id + `","name":"fn","app_id":"` + app + `","image":"img","memory":128,"timeout":30,"idle_timeout":30,` +
		`"config":{},"annotations":{"fnproject.io/fn/invokeEndpoint":"https://fn.example/invoke/` + id + `"},"shape":"GENERIC_ARM",` +
		`"created_at":"` + created.text("created_at") + `","updated_at":"` + created.text("created_at") + `"}`
	if got := s.call("GET", "/v2/fns/"+id, "").body; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := s.call("GET", "/v2/fns?app_id="+app, "").body; got != `{"items":[`+want+`]}` {
		t.Errorf("list: %s", got)
	}
	if diff := cmp.Diff(decodeObject(t, want), created); diff != "" {
		t.Errorf("create (-want +got)\n%s", diff)
	}
}

func TestFnWithoutShapeLacksTheKey(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	app := s.createApp("app")
	fn := s.must("GET", "/v2/fns/"+s.createFn(app, "fn"), "")
	want := []string{"annotations", "app_id", "config", "created_at", "id", "idle_timeout", "image", "memory", "name", "timeout", "updated_at"}
	if diff := cmp.Diff(want, fn.keys()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestFnUpdateMerges(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	app, other := s.createApp("app"), s.createApp("other")
	created := s.must("POST", "/v2/fns", encode(t, object{
		"app_id": app, "name": "fn", "image": "img", "memory": 256, "timeout": 300, "idle_timeout": 3600,
		"config": object{"keep": "1", "drop": "2"}, "annotations": object{"keep": 1, "drop": 2},
	}))
	path := "/v2/fns/" + created.text("id")
	for _, nothing := range []string{
		`{}`, `{"image":"","memory":0,"timeout":0,"idle_timeout":0,"config":{},"annotations":{}}`,
		`{"name":"renamed","app_id":"` + other + `","shape":"GENERIC_ARM"}`, encode(t, created),
	} {
		if diff := cmp.Diff(created, s.must("PUT", path, nothing)); diff != "" {
			t.Errorf("%s changes the function (-before +after)\n%s", nothing, diff)
		}
	}
	updated := s.must("PUT", path, `{"image":"img2","memory":8192,"timeout":1,"idle_timeout":2,
		"config":{"drop":"","new":"3"},"annotations":{"drop":null,"new":{}}}`)
	want := `"image":"img2","memory":8192,"timeout":1,"idle_timeout":2,"config":{"keep":"1","new":"3"},"annotations":{` +
		`"fnproject.io/fn/invokeEndpoint":"http://example.com/invoke/` + created.text("id") + `","keep":1,"new":{}}`
	got := s.call("GET", path, "").body
	if !strings.Contains(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if diff := cmp.Diff(decodeObject(t, got), updated); diff != "" {
		t.Errorf("update answers something else than read (-read +update)\n%s", diff)
	}
	if last := s.must("PUT", path, `{"config":{"keep":"","new":""}}`); len(last["config"].(map[string]any)) != 0 {
		t.Errorf("config = %v", last["config"])
	}
}

func TestFnAcceptsTheWholeRangeOfNames(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	app := s.createApp("app")
	for _, name := range []string{"AZaz09-_.~$&+=:@", strings.Repeat("n", 255), "..", "a"} {
		if got := s.must("GET", "/v2/fns/"+s.createFn(app, name), "").text("name"); got != name {
			t.Errorf("got %q, want %q", got, name)
		}
	}
}

func TestReservedAnnotationsAreNotStored(t *testing.T) {
	s := newServer(t, httpapi.Options{PublicURL: "http://new.example"}, edge.Options{})
	app := s.createApp("app")
	fn := s.must("POST", "/v2/fns", `{"app_id":"`+app+`","name":"fn","image":"img","annotations":{"fnproject.io/fn/invokeEndpoint":"http://stale.example","own":1}}`)
	stored, err := s.store.FnByID(t.Context(), fn.text("id"))
	if err != nil {
		t.Fatal(err)
	}
	if len(stored.Annotations) != 1 {
		t.Errorf("stored: %v", stored.Annotations)
	}
	updated := s.must("PUT", "/v2/fns/"+fn.text("id"), `{"annotations":{"fnproject.io/fn/invokeEndpoint":""}}`)
	if got, want := updated.annotation(invokeEndpoint), "http://new.example/invoke/"+fn.text("id"); got != want {
		t.Errorf("endpoint = %q, want %q", got, want)
	}
}
