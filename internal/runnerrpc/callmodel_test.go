package runnerrpc

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

func TestCallSurvivesTheWay(t *testing.T) {
	at := model.Timestamp{Time: time.Date(2024, 1, 2, 3, 4, 5, 678e6, time.UTC)}
	app, fn := *testApp, *testFn
	app.UpdatedAt, fn.UpdatedAt = at, model.Timestamp{Time: at.Add(time.Hour)}
	call := newCall("hello")
	call.App, call.Fn, call.Trigger, call.Detached = &app, &fn, &model.Trigger{ID: "t"}, true
	call.Container = invoke.Container{TmpMiB: 5, MilliCPU: 1500, NoNetwork: true}
	text, err := new(encodedDefinitions).encode(call)
	if err != nil {
		t.Fatal(err)
	}
	var d definitions
	got, err := d.decodeCall(text)
	if err != nil {
		t.Fatal(err)
	}
	// What app and function are merged from is not told.
	want := &invoke.Call{
		ID: call.ID, App: &model.App{ID: "app-id", Name: "app", SyslogURL: testApp.SyslogURL, UpdatedAt: app.UpdatedAt},
		Fn: &model.Fn{
			ID: "fn-id", Name: "fn", AppID: "app-id", Image: "example/image:1", Memory: 128, Timeout: 30, IdleTimeout: 40, UpdatedAt: fn.UpdatedAt,
			Config:      model.Config{"A": "app", "BOTH": "fn", "F": "fn", "FN_MEMORY": "128", "FN_TYPE": "sync", "FN_FN_ID": "fn-id", "FN_APP_ID": "app-id"},
			Annotations: model.Annotations{"k": json.RawMessage(`"v"`)},
		},
		Trigger: &model.Trigger{ID: "t", AppID: "app-id", FnID: "fn-id"}, Container: call.Container, Detached: true,
		Header: http.Header{"Content-Type": {"text/plain"}, "Content-Length": {"5"}}, Body: http.NoBody, ContentLength: 5,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if call.Header.Get("Content-Length") != "" {
		t.Error("the call's own header has changed")
	}
}

func TestEqualDefinitionsAreOneObject(t *testing.T) {
	var d definitions
	decode := func(text string) *invoke.Call {
		call, err := d.decodeCall(text)
		if err != nil {
			t.Fatal(err)
		}
		return call
	}
	first := decode(fnModel)
	second := decode(strings.Replace(fnModel, "call-1", "call-2", 1))
	if first.App != second.App || first.Fn != second.Fn {
		t.Error("equal definitions are two")
	}
	for _, change := range [][2]string{
		{`"memory":128`, `"memory":129`},
		{`"timeout":30`, `"timeout":31`},
		{`"idle_timeout":40`, `"idle_timeout":41`},
		{`"image":"example/image:1"`, `"image":"example/image:2"`},
		{`"A":"1"`, `"A":"2"`},
		{`"A":"1"`, `"B":"1"`},
		{`"k":"v"`, `"k":1`},
		{`"app_name":"app"`, `"app_name":"other"`},
		{`"app_id":"app-id"`, `"app_id":"other"`},
		{`"fn_id":"fn-id"`, `"fn_id":"other"`},
		{`tcp://logs:514`, `tcp://logs:515`},
		{`"id":"call-1"`, `"id":"call-1","tine":{"fn_name":"other"}`},
		{`"id":"call-1"`, `"id":"call-1","tine":{"fn_updated_at":"2024-01-02T03:04:05.000Z"}`},
	} {
		text := strings.Replace(fnModel, change[0], change[1], 1)
		if text == fnModel {
			t.Fatalf("%s is not there", change[0])
		}
		if decode(text).Fn == first.Fn {
			t.Errorf("%s makes no difference", change[1])
		}
	}
}

func TestRunnersForgetDefinitionsInTime(t *testing.T) {
	var d definitions
	for i := range maxDefinitions + 10 {
		d.of(&definitionPart{FnID: "f", Memory: uint64(i)})
	}
	if n := len(d.made); n > maxDefinitions {
		t.Errorf("%d are remembered", n)
	}
}

func TestProcessorTimeHasTwoForms(t *testing.T) {
	for text, want := range map[string]milliCPU{`""`: 0, `"100m"`: 100, `"0.1"`: 100, `"0.0004"`: 0, `"2"`: 2000, `"1024000m"`: 1_024_000, `"1024"`: 1_024_000} {
		var got milliCPU
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{`"-1"`, `"-1m"`, `"1024001m"`, `"1e9"`, `"NaN"`, `"x"`, `"m"`, `"0.5m"`, `1`, `"Inf"`} {
		if err := json.Unmarshal([]byte(text), new(milliCPU)); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
	if text, err := json.Marshal(milliCPU(250)); err != nil || string(text) != `"250m"` {
		t.Errorf("got %s, %v", text, err)
	}
}

func TestCallsThatMakeNoSenseAreRefused(t *testing.T) {
	for name, change := range map[string][2]string{
		"no id":           {`"id":"call-1"`, `"id":""`},
		"id with a break": {`"id":"call-1"`, `"id":"a\nb"`},
		"long id":         {`"id":"call-1"`, `"id":"` + strings.Repeat("x", 2000) + `"`},
		"no image":        {`"image":"example/image:1"`, `"image":""`},
		"negative time":   {`"timeout":30`, `"timeout":-1`},
		"text as number":  {`"memory":128`, `"memory":"128"`},
		"negative memory": {`"memory":128`, `"memory":-1`},
	} {
		var d definitions
		text := strings.Replace(fnModel, change[0], change[1], 1)
		if call, err := d.decodeCall(text); err == nil || text == fnModel {
			t.Errorf("%s: got %+v", name, call)
		}
	}
}

func TestHeadersOfOneConnectionStayBehind(t *testing.T) {
	var d definitions
	call, err := d.decodeCall(strings.Replace(fnModel, `"X-Two"`, `"connection":["X-Named"],"x-named":["1"],"Upgrade":["h2c"],"fn-deadline":["x"],"X-Two"`, 1))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(http.Header{"Content-Type": {"text/plain"}, "X-Two": {"1", "2"}, "Fn-Deadline": {"x"}}, call.Header); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// FuzzFastDecode compares the short way of reading a call with the long one.
func FuzzFastDecode(f *testing.F) {
	f.Add(fnModel)
	f.Add(`{"id":"x","image":"y","headers":{"A":["1","2"],"B":[]},"tine":{"fn_name":"f"},"unknown":[{"a":"}"}]}`)
	f.Add(` { "id" : "x" , "image" : "y" , "headers" : { "a" : [ "1" , "2" ] } , "stats" : null, "config":{} } `)
	f.Add(`{"id":"x","image":"y","ID":"z"}`)
	f.Add(`{"id":"x","headers":{"A":["1"]},"image":"y","config":{"a":"b","image":"c"},"tine":{"fn_name":"\\"f"}}`)
	f.Add(`{"id":"x","memory":1,"image":"y","type":"detached"}`)
	f.Fuzz(func(t *testing.T, text string) {
		if !json.Valid([]byte(text)) {
			return // what is wrong in members that nobody uses is not seen
		}
		var d definitions
		fast := d.decodeFast(text)
		if fast == nil {
			return
		}
		again := d.decodeFast(text)
		if again == nil || again.Fn != fast.Fn || again.App != fast.App {
			t.Fatal("the definition is not known")
		}
		if diff := cmp.Diff(fast, again); diff != "" {
			t.Errorf("%q (-first +again)\n%s", text, diff)
		}
		var m callModel
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			return // likewise
		}
		slow, err := m.callPart.call(m.definition())
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if diff := cmp.Diff(slow, fast, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q (-slow +fast)\n%s", text, diff)
		}
	})
}

// FuzzDecodeCall reads what a load balancer may send. What is accepted must come back
// the same when it is sent on.
func FuzzDecodeCall(f *testing.F) {
	f.Add(fnModel)
	f.Add(`{"id":"x","image":"y","cpus":"0.5","tmpfs_size":1,"stats":[{"timestamp":"x","metrics":{}}],"tine":{"no_network":true},"headers":{"A":null}}`)
	f.Add(`{"id":"x","image":"y","unknown":{"a":[1,2,{"b":null}]},"annotations":{"k":{"a" : 1}},"config":{"a":null}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var d definitions
		call, err := d.decodeCall(text)
		if err != nil {
			return
		}
		sent, err := new(encodedDefinitions).encode(call)
		if err != nil {
			t.Fatal(err)
		}
		again, err := d.decodeCall(sent)
		if err != nil {
			t.Fatalf("%s: %v", sent, err)
		}
		if again.ID != call.ID || again.Fn.Image != call.Fn.Image || again.Container != call.Container || again.Detached != call.Detached ||
			again.Fn.Memory != call.Fn.Memory || again.ContentLength != call.ContentLength {
			t.Errorf("got %+v, want %+v", again, call)
		}
	})
}
