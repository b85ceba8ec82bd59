package node_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/node"
)

func TestWebPortOverTLS(t *testing.T) {
	// It has a certificate for this machine, and a client that believes it.
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	e := run(t, node.Options{Driver: fake.New(fake.Options{}), WebTLS: certified.TLS})
	defer e.end()
	if !strings.HasPrefix(e.node.URL(), "https://") {
		t.Errorf("its URL is %s", e.node.URL())
	}
	post := func(path, body string) string {
		t.Helper()
		response, err := certified.Client().Post(e.node.URL()+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != 200 || response.TLS == nil {
			t.Fatalf("%s: got %d %s, %v", path, response.StatusCode, text, err)
		}
		return string(text)
	}
	_, app, _ := strings.Cut(post("/v2/apps", `{"name":"secured"}`), `"id":"`)
	app, _, _ = strings.Cut(app, `"`)
	fn := post("/v2/fns", `{"name":"f","app_id":"`+app+`","image":"example/image"}`)
	if !strings.Contains(fn, `"fnproject.io/fn/invokeEndpoint":"https://127.0.0.1`) {
		t.Errorf("got %s", fn)
	}
	plain, err := http.Get("http" + strings.TrimPrefix(e.node.URL(), "https") + "/version")
	if err != nil {
		t.Fatal(err)
	}
	plain.Body.Close()
	if plain.StatusCode != http.StatusBadRequest {
		t.Errorf("without TLS: got %d", plain.StatusCode)
	}
}

func TestSettingsOfTheWebServer(t *testing.T) {
	e := run(t, node.Options{Driver: fake.New(fake.Options{}), WebServer: func(s *http.Server) { s.MaxHeaderBytes = 8 << 10 }})
	defer e.end()
	request, err := http.NewRequestWithContext(t.Context(), "GET", e.node.URL()+"/version", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Large", strings.Repeat("x", 16<<10))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d", response.StatusCode)
	}
}

func TestNodeEndsByItsRoute(t *testing.T) {
	ctx, halt := context.WithCancel(t.Context())
	e := run(t, node.Options{Driver: fake.New(fake.Options{}), StopWith: []context.Context{ctx}, Halt: halt})
	e.want("POST", "/shutdown", "", 405, "")
	e.want("GET", "/shutdown", "", 200, `"shutting down"`)
	select {
	case err := <-e.ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
	}
	without := run(t, node.Options{Driver: fake.New(fake.Options{})})
	defer without.end()
	without.want("GET", "/shutdown", "", 404, "Path not found")
}
