package httpapi_test

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/httpapi"
)

// hostileTexts are put wherever a client can put a text.
var hostileTexts = []string{
	strings.Repeat("n", 10_000),
	"a\x00b", "\x00", "\x01\x1b[31m", "a\r\nSet-Cookie: x=y", "\u2028", "\xff\xfe", "\xed\xa0\x80",
	`'; DROP TABLE apps; --`, `" OR 1=1 --`, "%' OR '1'='1", `\`, "{{.}}", "${jndi:ldap://x}",
	"../../etc/passwd", "..%2f..%2f", "<script>alert(1)</script>", "\U0001F4A9", "null", "-1", " ",
}

func TestHostileTextsNeverBreakTheServer(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	app := s.createApp("app")
	fn := s.createFn(app, "fn")
	trigger := s.createTrigger(app, fn, "t", "/hot")
	before := s.call("GET", "/v2/apps", "").body

	check := func(where string, got answer) {
		t.Helper()
		if got.status >= 500 {
			t.Errorf("%s: %d %.200s", where, got.status, got.body)
		}
	}
	for _, text := range hostileTexts {
		short := text[:min(len(text), 30)]
		for _, field := range []string{"id", "name", "app_id", "fn_id", "image", "type", "source", "shape", "syslog_url", "created_at", "memory", "config", "annotations"} {
			whole := object{"name": "new", "app_id": app, "fn_id": fn, "image": "img", "type": "http", "source": "/new"}
			whole[field] = text
			patch := encode(t, object{field: text})
			for _, path := range []string{"/v2/apps", "/v2/fns", "/v2/triggers"} {
				got := s.call("POST", path, encode(t, whole))
				check("POST "+path+" "+field+" "+short, got)
				if got.status == 200 {
					// What was accepted can be read, listed and deleted.
					id := decodeObject(t, got.body).text("id")
					if read := s.call("GET", path+"/"+id, ""); read.status != 200 || read.body != got.body {
						t.Errorf("%s %s %q: created %s, read %s", path, field, short, got.body, read.body)
					}
					check("GET "+path, s.call("GET", path+"?app_id="+app, ""))
					if deletion := s.call("DELETE", path+"/"+id, ""); deletion.status != 204 {
						t.Errorf("DELETE %s: %d", path, deletion.status)
					}
				}
			}
			check("PUT app "+field+" "+short, s.call("PUT", "/v2/apps/"+app, patch))
			check("PUT fn "+field+" "+short, s.call("PUT", "/v2/fns/"+fn, patch))
			check("PUT trigger "+field+" "+short, s.call("PUT", "/v2/triggers/"+trigger, patch))
		}
		for _, target := range []string{"config", "annotations"} {
			for _, pair := range []object{{text: "v"}, {"k": text}} {
				check("POST "+target+" "+short, s.call("POST", "/v2/apps", encode(t, object{"name": "_", target: pair})))
			}
		}

		query := url.QueryEscape(text)
		for _, target := range []string{
			"/v2/apps?name=" + query, "/v2/apps?cursor=" + query, "/v2/apps?per_page=" + query, "/v2/fns?app_id=" + query,
			"/v2/fns?app_id=" + app + "&name=" + query, "/v2/triggers?app_id=" + app + "&fn_id=" + query, "/v2/triggers?app_id=" + query,
		} {
			check("GET "+target[:min(len(target), 60)], s.call("GET", target, ""))
		}
		path := url.PathEscape(text)
		for _, target := range []string{
			"/v2/apps/" + path, "/v2/fns/" + path, "/v2/triggers/" + path, "/v2/fns/" + path + "/calls/" + path,
			"/v2/runner/apps/" + path + "/triggerBySource/" + path + "/" + path,
		} {
			for _, method := range []string{"GET", "PUT", "DELETE"} {
				check(method+" "+target[:min(len(target), 60)], s.call(method, target, `{}`))
			}
		}
	}
	for _, path := range []string{"/v2/fns/" + fn, "/v2/triggers/" + trigger} {
		if got := s.call("GET", path, ""); got.status != 200 {
			t.Errorf("GET %s: %d %s", path, got.status, got.body)
		}
	}
	if after := decodeObject(t, s.call("GET", "/v2/apps?name=app", "").body).items(t); len(after) != 1 || after[0].text("id") != app {
		t.Errorf("apps before: %s\nafter: %v", before, after)
	}
}

func TestTextsOfAMegabyteAreRefused(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	app := s.createApp("app")
	fn := s.createFn(app, "fn")
	text := strings.Repeat("n", 1<<20)
	for _, tt := range []struct {
		method, target string
		body           any
		status         int
	}{
		{"POST", "/v2/apps", object{"name": text}, 400},
		{"POST", "/v2/apps", object{"name": "new", "annotations": object{text: 1}}, 400},
		{"POST", "/v2/apps", object{"name": "new", "annotations": object{"k": text}}, 400},
		{"POST", "/v2/fns", object{"app_id": app, "name": text, "image": "img"}, 400},
		{"POST", "/v2/fns", object{"app_id": app, "name": "new", "image": text}, 400},
		{"POST", "/v2/fns", object{"app_id": text, "name": "new", "image": "img"}, 404},
		{"POST", "/v2/triggers", object{"app_id": app, "fn_id": fn, "name": text, "type": "http", "source": "/"}, 400},
		{"POST", "/v2/triggers", object{"app_id": app, "fn_id": fn, "name": "new", "type": "http", "source": "/" + text}, 400},
		{"PUT", "/v2/fns/" + fn, object{"image": text}, 400},
		{"GET", "/v2/apps/" + text, nil, 404},
		{"GET", "/v2/fns?app_id=" + text, nil, 200},
	} {
		if got := s.call(tt.method, tt.target, encode(t, tt.body)); got.status != tt.status {
			t.Errorf("%s %.30s %.60v: %d %.100s, want %d", tt.method, tt.target, tt.body, got.status, got.body, tt.status)
		}
	}
	// Configuration has no limit but that of the whole body.
	if got := s.must("POST", "/v2/apps", encode(t, object{"name": "new", "config": object{"k": text}})); got["config"].(map[string]any)["k"] != text {
		t.Error("the configuration came back changed")
	}
}

func TestInvalidUTF8IsStoredAsReplacementCharacters(t *testing.T) {
	s := newServer(t, httpapi.Options{}, edge.Options{})
	got := s.call("POST", "/v2/apps", "{\"name\":\"a\",\"config\":{\"k\":\"\xff\"},\"annotations\":{\"k\":\"\xff\"}}")
	if got.status != 200 || !strings.Contains(got.body, `"config":{"k":"`+"\uFFFD"+`"},"annotations":{"k":"`+"\uFFFD"+`"}`) {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func FuzzCreate(f *testing.F) {
	for _, body := range []string{
		``, `null`, `{}`, `[]`, `{"name":"a"}`, `{"name":"a","config":{"k":null},"annotations":{"k":[1,{"a":null}]}}`,
		`{"name":"f","app_id":"$A","image":"i","memory":1,"timeout":1,"idle_timeout":1}`, `{"NAME":"x","name":"y"}`,
		`{"name":"t","app_id":"$A","fn_id":"$F","type":"http","source":"/x","created_at":"0001-01-01T00:00:00.000Z"}`,
		`{"name":"a","created_at":""}`, `{"name":"a","syslog_url":"udp://[::1"}`, `{"name":"a","shape":"GENERIC_X86"}`,
		"{\"name\":\"a\",\"config\":{\"\\u0000\":\"\xff\"}}", `{"name":"a","annotations":{"k":1e999}}`, `{"name":"\ud800"}`,
	} {
		f.Add(body)
	}
	s := newServer(f, httpapi.Options{}, edge.Options{})
	app := s.createApp("fuzzed")
	fn := s.createFn(app, "fuzzed")
	ids := strings.NewReplacer("$A", app, "$F", fn)
	f.Fuzz(func(t *testing.T, body string) {
		body = ids.Replace(body)
		for _, path := range []string{"/v2/apps", "/v2/fns", "/v2/triggers"} {
			r := httptest.NewRequest("POST", path, strings.NewReader(body))
			rec := httptest.NewRecorder()
			s.router.ServeHTTP(rec, r)
			got := answer{rec.Code, rec.Header(), rec.Body.String()}
			s.spec.checkResponse(t, r, got)
			switch {
			case got.status >= 500:
				t.Errorf("POST %s %q: %d %s", path, body, got.status, got.body)
			case got.status == 200:
				id := decodeObject(t, got.body).text("id")
				deletion := httptest.NewRecorder()
				s.router.ServeHTTP(deletion, httptest.NewRequest("DELETE", path+"/"+id, nil))
				if deletion.Code != 204 {
					t.Errorf("DELETE %s/%s: %d", path, id, deletion.Code)
				}
			}
		}
	})
}
