package httpapi_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/httpapi"
	"github.com/tinefn/tine/internal/store"
	"github.com/tinefn/tine/internal/store/sqlstore"
)

// server is the API on an empty database. Every response is held against the
// API description.
type server struct {
	t      testing.TB
	router *edge.Router
	store  store.Store
	spec   *spec
}

func newServer(t testing.TB, opts httpapi.Options, edgeOpts edge.Options) *server {
	t.Helper()
	db, err := sqlstore.Open(t.Context(), "sqlite3://"+filepath.Join(t.TempDir(), "fn.db"), sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	opts.Store = db
	edgeOpts.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	router, err := edge.NewRouter(edgeOpts)
	if err != nil {
		t.Fatal(err)
	}
	httpapi.RegisterPing(router)
	httpapi.RegisterVersion(router, "")
	if err := httpapi.Register(router, opts); err != nil {
		t.Fatal(err)
	}
	return &server{t: t, router: router, store: db, spec: loadSpec(t)}
}

// answer is a response with its whole body.
type answer struct {
	status int
	header http.Header
	body   string
}

func (s *server) call(method, target, body string) answer {
	s.t.Helper()
	var reader io.Reader = http.NoBody
	if body != "" {
		reader = strings.NewReader(body)
	}
	return s.serve(httptest.NewRequest(method, target, reader))
}

func (s *server) serve(r *http.Request) answer {
	s.t.Helper()
	rec := httptest.NewRecorder()
	s.router.ServeHTTP(rec, r)
	got := answer{rec.Code, rec.Header(), rec.Body.String()}
	s.spec.checkResponse(s.t, r, got)
	return got
}

// must is call for requests that succeed.
func (s *server) must(method, target, body string) object {
	s.t.Helper()
	got := s.call(method, target, body)
	if got.status != http.StatusOK {
		s.t.Fatalf("%s %s: %d %s", method, target, got.status, got.body)
	}
	return decodeObject(s.t, got.body)
}

// object is a decoded JSON object.
type object map[string]any

func decodeObject(t testing.TB, body string) object {
	t.Helper()
	var o object
	decoder := json.NewDecoder(bytes.NewReader([]byte(body)))
	decoder.UseNumber()
	if err := decoder.Decode(&o); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	return o
}

func (o object) text(key string) string {
	s, _ := o[key].(string)
	return s
}

func (o object) keys() []string {
	keys := make([]string, 0, len(o))
	for key := range o {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (o object) annotation(key string) string {
	annotations, _ := o["annotations"].(map[string]any)
	s, _ := annotations[key].(string)
	return s
}

// items returns a list's objects.
func (o object) items(t testing.TB) []object {
	t.Helper()
	list, ok := o["items"].([]any)
	if !ok {
		t.Fatalf("items is %#v", o["items"])
	}
	objects := make([]object, len(list))
	for i, item := range list {
		objects[i] = item.(map[string]any)
	}
	return objects
}

// encode returns v as JSON text.
func encode(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func (s *server) createApp(name string) (id string) {
	s.t.Helper()
	return s.must("POST", "/v2/apps", encode(s.t, object{"name": name})).text("id")
}

func (s *server) createFn(appID, name string) (id string) {
	s.t.Helper()
	return s.must("POST", "/v2/fns", encode(s.t, object{"app_id": appID, "name": name, "image": "img"})).text("id")
}

func (s *server) createTrigger(appID, fnID, name, source string) (id string) {
	s.t.Helper()
	return s.must("POST", "/v2/triggers", encode(s.t, object{
		"app_id": appID, "fn_id": fnID, "name": name, "type": "http", "source": source,
	})).text("id")
}
