package edge_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tinefn/tine/internal/edge"
)

func TestSlowBodyTimesOutOnHTTP2Too(t *testing.T) {
	router := newRouter(t, edge.Options{BodyReadTimeout: 50 * time.Millisecond})
	router.Handle("POST", "/", countBody)
	server := httptest.NewUnstartedServer(router)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)

	body, writer := io.Pipe()
	defer writer.Close()
	slow, err := server.Client().Post(server.URL, "", body)
	if err != nil {
		t.Fatal(err)
	}
	slow.Body.Close()
	if slow.ProtoMajor != 2 || slow.StatusCode != http.StatusRequestTimeout {
		t.Errorf("got HTTP/%d %d", slow.ProtoMajor, slow.StatusCode)
	}

	// The connection carries other requests, which have a budget of their own.
	fast, err := server.Client().Post(server.URL, "", strings.NewReader("abc"))
	if err != nil {
		t.Fatal(err)
	}
	defer fast.Body.Close()
	if got, err := io.ReadAll(fast.Body); err != nil || string(got) != "3" {
		t.Errorf("got %q, %v", got, err)
	}
}
