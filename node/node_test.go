package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
	"github.com/tinefn/tine/node"
)

// embedded is a node inside the test, on an engine without containers.
type embedded struct {
	t     *testing.T
	node  *node.Node
	url   string
	ended chan error
	stop  func() error
}

func run(t *testing.T, opts node.Options) *embedded {
	t.Helper()
	dir := t.TempDir()
	opts.Environ = append([]string{"FN_HOST=127.0.0.1", "FN_PORT=0", "FN_DB_URL=sqlite3://" + filepath.Join(dir, "fn.db"), "FN_IOFS_PATH=" + filepath.Join(dir, "iofs")}, opts.Environ...)
	opts.Stderr = io.Discard
	n, err := node.New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	return &embedded{t, n, n.URL(), ended, func() error { cancel(); return <-ended }}
}

func (e *embedded) send(method, path, body string) (int, string) {
	e.t.Helper()
	request, err := http.NewRequest(method, e.url+path, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		e.t.Fatal(err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return response.StatusCode, string(raw)
}

func (e *embedded) create(path, definition string) string {
	e.t.Helper()
	status, body := e.send("POST", path, definition)
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(body), &made); err != nil || status != 200 {
		e.t.Fatalf("%d %s", status, body)
	}
	return made.ID
}

func TestNodeIsEmbeddedWithAnEngineAndMiddlewareOfItsOwn(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	var calls atomic.Int32
	engine := fake.New(fake.Options{})
	e := run(t, node.Options{Driver: engine, Middleware: []func(invoke.Invoker) invoke.Invoker{
		func(next invoke.Invoker) invoke.Invoker {
			return invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
				calls.Add(1)
				return next.Invoke(ctx, call)
			})
		},
	}})
	app := e.create("/v2/apps", `{"name":"app"}`)
	fn := e.create("/v2/fns", `{"name":"fn","app_id":"`+app+`","image":"any"}`)
	for range 10 {
		if status, body := e.send("POST", "/invoke/"+fn, "hello"); status != 200 || body != "hello" {
			t.Errorf("%d %q", status, body)
		}
	}
	if calls.Load() != 10 || engine.Calls(fake.OpCreate) != 1 {
		t.Errorf("middleware saw %d calls, %d containers", calls.Load(), engine.Calls(fake.OpCreate))
	}
	if err := e.stop(); err != nil {
		t.Error(err)
	}
	if engine.Live() != 0 {
		t.Errorf("%d containers left", engine.Live())
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	goleak.VerifyNone(t, ignore)
}

// flavoured is a driver that hands a call's extension on to the container.
type flavoured struct{ driver.Driver }

func (d flavoured) Create(ctx context.Context, spec *driver.Spec) (driver.Container, error) {
	changed := *spec
	changed.Env = append(slices.Clone(spec.Env), "FN_CHEESE="+spec.Extensions["FN_CHEESE"])
	return d.Driver.Create(ctx, &changed)
}

// InstanceKey keeps tastes apart.
func (flavoured) InstanceKey(extensions map[string]string) string { return extensions["FN_CHEESE"] }

func TestExtensionsOfACallReachADriverThatWrapsAnother(t *testing.T) {
	engine := fake.New(fake.Options{})
	e := run(t, node.Options{
		Driver: engine,
		WrapDriver: []func(driver.Driver) driver.Driver{
			func(d driver.Driver) driver.Driver { return flavoured{d} },
			func(d driver.Driver) driver.Driver { return struct{ driver.Driver }{d} }, // which hides what the one below can
		},
		Override: func(r *http.Request, _ *invoke.Call, _ map[string]string) (map[string]string, error) {
			if r == nil { // no call yet
				return nil, nil
			}
			return map[string]string{"FN_CHEESE": r.Header.Get("Cheese"), "number": model.NewID()}, nil
		},
	})
	app := e.create("/v2/apps", `{"name":"app"}`)
	fn := e.create("/v2/fns", `{"name":"fn","app_id":"`+app+`","image":"any"}`)
	for _, cheese := range []string{"brie", "gouda", "brie"} {
		request, err := http.NewRequest("POST", e.url+"/invoke/"+fn, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Cheese", cheese)
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 200 {
			t.Errorf("status %d", response.StatusCode)
		}
	}
	var got []string
	for _, c := range engine.Containers() {
		for _, variable := range c.Spec().Env {
			if cheese, found := strings.CutPrefix(variable, "FN_CHEESE="); found {
				got = append(got, cheese)
			}
		}
	}
	if !slices.Equal(got, []string{"brie", "gouda"}) { // other extensions, other containers
		t.Errorf("containers of %v", got)
	}
	if err := e.stop(); err != nil {
		t.Error(err)
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	var log bytes.Buffer
	_, err := node.New(t.Context(), node.Options{
		Environ: []string{"FN_DB_URL=sqlite3://" + filepath.Join(t.TempDir(), "fn.db"), "FN_DRIVER=docker", "DOCKER_HOST=unix:///nonexistent.sock", "FN_PORT=0"},
		Stderr:  &log,
	})
	if err == nil || !strings.Contains(err.Error(), "/nonexistent.sock") {
		t.Errorf("got %v", err)
	}
	goleak.VerifyNone(t, ignore)
}

func TestStopCutsCallsAtTheDeadline(t *testing.T) {
	engine := fake.New(fake.Options{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })})
	e := run(t, node.Options{Driver: engine, Environ: []string{"FN_SHUTDOWN_TIMEOUT=200ms"}})
	app := e.create("/v2/apps", `{"name":"app"}`)
	fn := e.create("/v2/fns", `{"name":"fn","app_id":"`+app+`","image":"any"}`)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		response, err := http.Post(e.url+"/invoke/"+fn, "text/plain", strings.NewReader("x"))
		if err == nil {
			response.Body.Close()
		}
	}()
	for deadline := time.Now().Add(10 * time.Second); engine.Live() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the call did not begin")
		}
	}
	began := time.Now()
	if err := e.stop(); err == nil {
		t.Error("no error although a call was cut")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	<-answered
	if engine.Live() != 0 {
		t.Errorf("%d containers left", engine.Live())
	}
}
