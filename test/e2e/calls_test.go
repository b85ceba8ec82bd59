package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/test/image"
)

// node is a server with an app whose functions run the test function's image.
type node struct {
	*server
	image string
	appID string
	names int
}

func startNode(t *testing.T, settings map[string]string) *node {
	t.Helper()
	ref := image.TestFn(t)
	s := start(t, settings)
	return &node{server: s, image: ref, appID: s.create("/v2/apps", object{"name": "app"})}
}

// fn makes a function, with what differs from a small plain one.
func (n *node) fn(change object) (id string) {
	n.t.Helper()
	n.names++
	definition := object{"name": fmt.Sprintf("fn%d", n.names), "app_id": n.appID, "image": n.image, "memory": 64}
	for key, value := range change {
		definition[key] = value
	}
	return n.create("/v2/fns", definition)
}

// trigger makes a trigger and returns its path.
func (n *node) trigger(fnID, source string) string {
	n.t.Helper()
	n.names++
	n.create("/v2/triggers", object{
		"name": fmt.Sprintf("trigger%d", n.names), "app_id": n.appID, "fn_id": fnID, "type": "http", "source": source,
	})
	return "/t/app" + source
}

// invoke calls a function directly.
func (n *node) invoke(fnID, body string, header map[string]string) answer {
	n.t.Helper()
	return n.send("POST", "/invoke/"+fnID, body, header)
}

// mode selects a raw behaviour of the test function.
func mode(name string, parameters ...string) map[string]string {
	header := map[string]string{"Testfn-Mode": name}
	for i := 0; i < len(parameters); i += 2 {
		header["Testfn-"+parameters[i]] = parameters[i+1]
	}
	return header
}

// seen is the JSON answer of the test function.
type seen struct {
	Header http.Header
	Config map[string]string
	Data   map[string]string
}

func (got answer) seen(t *testing.T) seen {
	t.Helper()
	var s seen
	if err := json.Unmarshal([]byte(got.body), &s); err != nil || got.status != 200 {
		t.Fatalf("got %d %q: %v", got.status, got.body, err)
	}
	return s
}

func TestDirectCall(t *testing.T) {
	n := startNode(t, nil)
	appConfig := n.send("PUT", "/v2/apps/"+n.appID, `{"config":{"FROM_APP":"a","BOTH":"app","FN_MEMORY":"lie"}}`, nil)
	if appConfig.status != 200 {
		t.Fatal(appConfig.body)
	}
	id := n.fn(object{"name": "direct", "config": object{"FROM_FN": "f", "BOTH": "fn"}})

	t.Run("function sees the request and its environment", func(t *testing.T) {
		got := n.invoke(id, `{"isDebug":true}`, map[string]string{
			"Content-Type": "text/x", "Fn-Intent": "custom", "X-Own": "1", "Keep-Alive": "5", "Proxy-Authorization": "p",
			"Fn-Call-Id": "forged", "Fn-Deadline": "forged", "User-Agent": "e2e",
		})
		s := got.seen(t)
		callID := got.header.Get("Fn-Call-Id")
		if len(callID) != 26 || s.Header.Get("Fn-Call-Id") != callID {
			t.Errorf("call ID %q, the function got %q", callID, s.Header.Get("Fn-Call-Id"))
		}
		deadline, err := time.Parse(time.RFC3339, s.Header.Get("Fn-Deadline"))
		if left := time.Until(deadline); err != nil || left < 25*time.Second || left > 32*time.Second {
			t.Errorf("deadline %q, %v", s.Header.Get("Fn-Deadline"), err)
		}
		for _, name := range []string{"Fn-Call-Id", "Fn-Deadline", "Content-Length"} {
			s.Header.Del(name)
		}
		if diff := cmp.Diff(http.Header{"Content-Type": {"text/x"}, "Fn-Intent": {"custom"}, "X-Own": {"1"}, "User-Agent": {"e2e"}}, s.Header); diff != "" {
			t.Errorf("header (-want +got)\n%s", diff)
		}
		want := map[string]string{
			"FROM_APP": "a", "FROM_FN": "f", "BOTH": "fn", "FN_MEMORY": "64", "FN_TYPE": "sync", "FN_FN_ID": id, "FN_APP_ID": n.appID,
			"FN_FN_NAME": "direct", "FN_APP_NAME": "app", "FN_FORMAT": "http-stream", "FN_LISTENER": "unix:/tmp/iofs/lsnr.sock",
		}
		for name, value := range want {
			if s.Config[name] != value {
				t.Errorf("%s is %q, want %q", name, s.Config[name], value)
			}
		}
	})

	t.Run("status is always 200 and all headers come back", func(t *testing.T) {
		got := n.invoke(id, `{"responseCode":418,"responseContentType":"foo/bar","returnHeaders":{"X-Back":["1","2"],"Keep-Alive":["5"]}}`, nil)
		if got.status != 200 || got.header.Get("Content-Type") != "foo/bar" {
			t.Errorf("got %d, header %v", got.status, got.header)
		}
		if diff := cmp.Diff([]string{"1", "2"}, got.header["X-Back"]); diff != "" {
			t.Error(diff)
		}
		if got.header.Get("Keep-Alive") != "" {
			t.Error("a hop-by-hop header came back")
		}
	})

	t.Run("caller may speak the gateway's protocol", func(t *testing.T) {
		got := n.invoke(id, `{"responseCode":418,"returnHeaders":{"X-Back":["1"]}}`, map[string]string{"Fn-Intent": "httprequest"})
		if got.status != 200 || got.header.Get("Fn-Http-Status") != "418" || got.header.Get("Fn-Http-H-X-Back") != "1" {
			t.Errorf("got %d, header %v", got.status, got.header)
		}
	})

	t.Run("empty answers, twice", func(t *testing.T) {
		for range 2 {
			if got := n.invoke(id, `{"isEmptyBody":true}`, nil); got.status != 200 || got.body != "" || got.header.Get("Content-Length") != "0" {
				t.Errorf("got %d %q, length %s", got.status, got.body, got.header.Get("Content-Length"))
			}
		}
	})

	t.Run("instance is kept", func(t *testing.T) {
		if marked(t, n, id) {
			t.Fatal("the mark was there before")
		}
		n.invoke(id, `{"createFile":"/tmp/mark","createFileSize":1}`, nil).seen(t)
		if !marked(t, n, id) {
			t.Error("the next call went to another container")
		}
	})

	t.Run("only POST", func(t *testing.T) {
		for _, method := range []string{"GET", "PUT", "DELETE", "PATCH"} {
			n.send(method, "/invoke/x", "", nil).wantError(t, 405, "Method not allowed: "+method+" /invoke/x")
		}
	})

	t.Run("unknown function", func(t *testing.T) {
		got := n.invoke("nothing", "", nil)
		got.wantError(t, 404, "Fn not found")
		if got.header.Get("Fn-Call-Id") != "" {
			t.Error("it has a call ID")
		}
	})
}

// marked reports whether an earlier call left its mark in the container.
func marked(t *testing.T, n *node, fnID string) bool {
	t.Helper()
	_, ok := n.invoke(fnID, `{"readFile":"/tmp/mark","readFileSize":1}`, nil).seen(t).Data["/tmp/mark.read_output"]
	return ok
}

func TestTriggers(t *testing.T) {
	n := startNode(t, map[string]string{"FN_API_CORS_ORIGINS": "https://page.example.com"})
	id := n.fn(nil)
	path := n.trigger(id, "/some/path")
	n.trigger(id, "/")

	t.Run("request is encapsulated", func(t *testing.T) {
		request := n.request("GET", path+"?a=b%20c", `{}`, map[string]string{
			"Content-Type": "text/x", "Test-Header": "1", "Keep-Alive": "5", "Fn-Invoke-Type": "detached",
		})
		request.Host = "fn.example.com"
		got, err := n.do(request)
		if err != nil {
			t.Fatal(err)
		}
		s := got.seen(t)
		for name, want := range map[string]string{
			"Fn-Http-H-Test-Header": "1", "Test-Header": "1", "Fn-Http-H-Fn-Invoke-Type": "detached", "Fn-Http-H-Keep-Alive": "",
		} {
			if got := s.Header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		raw := n.send("POST", path+"?a=b%20c", "", mode("inspect"))
		for _, want := range []string{`"Fn-Http-Method":["POST"]`, `"Fn-Intent":["httprequest"]`, "/t/app/some/path?a=b%20c"} {
			if !strings.Contains(strings.ReplaceAll(raw.body, `": [`, `":[`), want) {
				t.Errorf("the function did not get %s:\n%s", want, raw.body)
			}
		}
	})

	t.Run("answer is turned back", func(t *testing.T) {
		got := n.send("POST", path, `{"responseCode":202,"returnHeaders":{"Return-Header":["foo","bar"]}}`, map[string]string{"Origin": "https://page.example.com"})
		if got.status != 202 || got.header.Get("Fn-Fdk-Version") != "" || len(got.header.Get("Fn-Call-Id")) != 26 {
			t.Errorf("got %d, header %v", got.status, got.header)
		}
		if diff := cmp.Diff([]string{"foo", "bar"}, got.header["Return-Header"]); diff != "" {
			t.Error(diff)
		}
		if got.header.Get("Access-Control-Allow-Origin") != "https://page.example.com" {
			t.Error("the CORS header was lost")
		}
	})

	t.Run("statuses", func(t *testing.T) {
		for _, status := range []int{200, 201, 204, 302, 404, 500, 599} {
			got := n.send("POST", path, fmt.Sprintf(`{"responseCode":%d}`, status), nil)
			if got.status != status {
				t.Errorf("got %d, want %d", got.status, status)
			}
		}
		for _, status := range []int{100, 600, 1000} {
			n.send("POST", path, fmt.Sprintf(`{"responseCode":%d}`, status), nil).wantError(t, 502, "invalid function response")
		}
	})

	t.Run("every method", func(t *testing.T) {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "HEAD", "OPTIONS", "DELETE", "TRACE"} {
			if got := n.send(method, path, "", nil); got.status != 200 {
				t.Errorf("%s: %d %s", method, got.status, got.body)
			}
		}
	})

	t.Run("lookup", func(t *testing.T) {
		for _, bare := range []string{"/t/app", "/t/app/"} {
			if got := n.send("GET", bare, "", nil); got.status != 200 {
				t.Errorf("%s: %d %s", bare, got.status, got.body)
			}
		}
		n.send("GET", "/t/other/some/path", "", nil).wantError(t, 404, "App not found")
		n.send("GET", "/t/app/some/path/", "", nil).wantError(t, 404, "Trigger not found")
		n.send("GET", "/t/app/Some/path", "", nil).wantError(t, 404, "Trigger not found")
	})
}

func TestChangesReachCallsWithinSeconds(t *testing.T) {
	n := startNode(t, nil)
	id := n.fn(object{"config": object{"VERSION": "1"}})
	if got := n.invoke(id, "{}", nil).seen(t).Config["VERSION"]; got != "1" {
		t.Fatalf("version %q", got)
	}
	if got := n.send("PUT", "/v2/fns/"+id, `{"config":{"VERSION":"2"}}`, nil); got.status != 200 {
		t.Fatal(got.body)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if n.invoke(id, "{}", nil).seen(t).Config["VERSION"] == "2" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("calls still see the old configuration")
		}
	}
	if got := n.send("DELETE", "/v2/fns/"+id, "", nil); got.status != 204 {
		t.Fatal(got.body)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if got := n.invoke(id, "{}", nil); got.status == 404 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a deleted function is still called")
		}
	}
}

func TestContainersAreFencedIn(t *testing.T) {
	n := startNode(t, nil)
	var report struct {
		UID, GID int
		Status   map[string]string
		Mounts   map[string]string
		Rlimits  map[string][2]uint64
		Cgroup   map[string]string
		Writable map[string]bool
	}
	got := n.invoke(n.fn(object{"memory": 64}), "", mode("inspect"))
	if err := json.Unmarshal([]byte(got.body), &report); err != nil {
		t.Fatalf("%q: %v", got.body, err)
	}
	if report.UID != 1000 || report.GID != 1000 {
		t.Errorf("user %d:%d", report.UID, report.GID)
	}
	for name, want := range map[string]string{
		"CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapBnd": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
	} {
		if report.Status[name] != want {
			t.Errorf("%s is %q, want %q", name, report.Status[name], want)
		}
	}
	if diff := cmp.Diff(map[string]bool{"/": false, "/tmp": true, "/tmp/iofs": true, "/function": false}, report.Writable); diff != "" {
		t.Errorf("writable (-want +got)\n%s", diff)
	}
	if tmp := report.Mounts["/tmp"]; !strings.HasPrefix(tmp, "tmpfs ") || !strings.Contains(tmp, "noexec") {
		t.Errorf("/tmp is %q", tmp)
	}
	for name, want := range map[string]uint64{"nofile": 350, "memlock": 65536, "sigpending": 5000, "msgqueue": 819200} {
		if got := report.Rlimits[name]; got != [2]uint64{want, want} {
			t.Errorf("limit %s is %v, want %d", name, got, want)
		}
	}
	for _, name := range []string{"memory.max", "memory.limit_in_bytes"} {
		if got, ok := report.Cgroup[name]; ok && got != "67108864" {
			t.Errorf("%s is %s", name, got)
		}
	}
	if pids, ok := report.Cgroup["pids.max"]; ok && pids != "50" {
		t.Errorf("pids.max is %s", pids)
	}
}
