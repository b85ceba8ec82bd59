package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/goleak"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/pool"
	"github.com/tinefn/tine/internal/runner"
	"github.com/tinefn/tine/internal/sockdir"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scrape returns the metrics as Prometheus gets them, one a line.
func scrape(t *testing.T, registry *prometheus.Registry) []string {
	t.Helper()
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}).ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
	if rec.Code != http.StatusOK {
		t.Fatal(rec.Body)
	}
	return strings.Split(rec.Body.String(), "\n")
}

// want checks that the lines are there, name and value.
func want(t *testing.T, got []string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !slices.Contains(got, line) {
			name, _, _ := strings.Cut(line, "{")
			name, _, _ = strings.Cut(name, " ")
			var similar []string
			for _, other := range got {
				if strings.HasPrefix(other, name) {
					similar = append(similar, other)
				}
			}
			t.Errorf("no %s\nbut %s", line, strings.Join(similar, "\n    "))
		}
	}
}

// parts are a runner on a fake engine, all observed.
type parts struct {
	*runner.Runner
	pool     *pool.Pool
	engine   *fake.Engine
	registry *prometheus.Registry
}

func newParts(t *testing.T, freezeAfter time.Duration) *parts {
	registry := prometheus.NewRegistry()
	engine := fake.New(fake.Options{Script: func(_ int, spec *driver.Spec) fake.Script {
		script := fake.Script{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Fail") != "" {
				w.WriteHeader(502)
			}
			fake.Echo(w, r)
		})}
		if spec.Image == "holds" {
			script.HeldMemory = 5 << 20
		}
		if spec.Image == "crashes" {
			script.Exit, script.NeverSocket = &driver.Exit{Code: 3}, true
		}
		return script
	}})
	sockets, err := sockdir.New(sockdir.Options{Root: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	p := pool.New(pool.Options{
		Driver: engine, Logger: slog.New(slog.DiscardHandler), NewSession: runner.NewSession, Observer: NewInstances(registry),
		Sockets: func() (pool.SocketDir, error) { return sockets.Create() }, FreezeAfter: freezeAfter,
		Total: capacity.Amount{MemoryBytes: 256 << 20, MilliCPU: 1000}, StartTimeout: 5 * time.Second, QueueTimeout: 10 * time.Second,
	})
	RegisterLevels(registry, p)
	r := runner.New(runner.Options{Pool: p, Logger: slog.New(slog.DiscardHandler), Observer: NewCalls(registry)})
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		err := p.Close(ctx)
		r.Close()
		if err := errors.Join(err, engine.Close(ctx), sockets.Close()); err != nil {
			t.Error(err)
		}
	})
	return &parts{r, p, engine, registry}
}

func (p *parts) call(t *testing.T, name string, header http.Header) {
	t.Helper()
	call := &invoke.Call{
		ID: model.NewID(), App: &model.App{ID: "app"}, Header: header, Body: http.NoBody,
		Fn: &model.Fn{ID: name, AppID: "app", Image: name, Memory: 128, Timeout: 5, IdleTimeout: 30},
	}
	response, err := p.Invoke(t.Context(), call)
	if err == nil {
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
}

func TestCallsAndInstancesAreCounted(t *testing.T) {
	p := newParts(t, -1)
	p.call(t, "a", http.Header{})
	p.call(t, "a", http.Header{})
	p.call(t, "a", http.Header{"Fail": {"1"}})
	p.call(t, "b", http.Header{})
	p.call(t, "crashes", http.Header{}) // and evicts a
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if slices.Contains(scrape(t, p.registry), "fn_errors 2") && p.pool.Stats().Used.MemoryBytes == 128<<20 {
			break // the last failure is known, and its container is gone
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, %d containers", p.pool.Stats(), p.engine.Live())
		}
	}
	const ofA, ofB = `{app_id="app",fn_id="a",image_name="a"}`, `{app_id="app",fn_id="b",image_name="b"}`
	got := scrape(t, p.registry)
	want(
		t, got,
		"fn_calls 5", "fn_completed 3", "fn_errors 2", "fn_canceled 0", "fn_timeouts 0", "fn_server_busy 0", "fn_queued 0", "fn_running 0",
		"fn_util_mem_used 1.34217728e+08", "fn_util_mem_avail 1.34217728e+08", "fn_util_cpu_used 0", "fn_util_cpu_avail 1000",
		"fn_container_idle_total"+ofB+" 1", "fn_container_busy_total"+ofB+" 0", "fn_container_start_total"+ofB+" 0",
		"fn_container_paused_total"+ofB+" 0", "fn_container_wait_total"+ofB+" 0", "tine_queue_callers"+ofB+" 0",
		"fn_container_busy_duration_seconds_count"+ofB+" 1", "fn_container_start_duration_seconds_count"+ofB+" 1", "fn_container_wait_duration_seconds_count"+ofB+" 1",
		`fn_container_uds_init_latency_count{app_id="app",container_uds_state="initialized",fn_id="b",image_name="b"} 1`,
		`fn_docker_exits{api_name="docker_wait_container",exit_status="exit_3"} 1`,
		`tine_launches_total{result="ok"} 2`, `tine_launches_total{result="failed"} 1`, `tine_launch_seconds_count{part="init"} 3`,
		`tine_queue_wait_seconds_count{result="served"} 2`, `tine_queue_wait_seconds_count{result="failed"} 1`,
		`tine_call_seconds_count{cold="true",part="total"} 2`, `tine_call_seconds_count{cold="false",part="function"} 1`,
	)
	if text := strings.Join(got, "\n"); strings.Contains(text, ofA) {
		t.Error("a function without instances is not forgotten")
	}
}

func TestHeldMemoryIsCountedByState(t *testing.T) {
	p := newParts(t, 0)
	p.call(t, "holds", http.Header{})
	const paused = `tine_instance_memory_bytes{app_id="app",fn_id="holds",image_name="holds",state="paused"} 5.24288e+06`
	for deadline := time.Now().Add(5 * time.Second); !slices.Contains(scrape(t, p.registry), paused); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s in\n%s", paused, strings.Join(scrape(t, p.registry), "\n"))
		}
	}
}

func TestFreezingIsCounted(t *testing.T) {
	p := newParts(t, 0)
	p.call(t, "a", http.Header{})
	for deadline := time.Now().Add(5 * time.Second); p.engine.Calls(fake.OpFreeze) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it was not frozen")
		}
	}
	p.call(t, "a", http.Header{})
	got := scrape(t, p.registry)
	want(t, got, "tine_thaw_seconds_count 1")
	if !slices.ContainsFunc(got, func(line string) bool {
		return strings.HasPrefix(line, "fn_container_paused_duration_seconds_count") && strings.HasSuffix(line, " 1")
	}) {
		t.Error("the time that it was frozen is not counted")
	}
}

func TestFunctionsBeyondTheBoundShareTheirMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	i := NewInstances(registry)
	var watchers []pool.Watcher
	for n := range maxFunctions + 10 {
		w := i.Watch(&pool.Spec{AppID: "app", FnID: strconv.Itoa(n)})
		w.Moved(pool.Busy, pool.Idle, time.Millisecond)
		w.Evicted(pool.Idle)
		watchers = append(watchers, w)
	}
	got := scrape(t, registry)
	want(t, got, `fn_container_busy_duration_seconds_count{app_id="other",fn_id="other",image_name="other"} 10`)
	for _, w := range watchers {
		w.Close()
	}
	for _, line := range scrape(t, registry) {
		if strings.Contains(line, "fn_id=") {
			t.Fatalf("not forgotten: %s", line)
		}
	}
}

func TestRequestsAreCountedByRoute(t *testing.T) {
	registry := prometheus.NewRegistry()
	requests := NewRequests(registry)
	router, err := edge.NewRouter(edge.Options{Observer: requests})
	if err != nil {
		t.Fatal(err)
	}
	router.Handle("POST", "/invoke/{fn_id}", func(w http.ResponseWriter, r *http.Request) error {
		edge.NoteFDKVersion(r, r.Header.Get("Kit"))
		switch r.Header.Get("Fail") {
		case "user":
			return model.ErrFunctionFailed
		case "service":
			return model.ErrServerBusy
		case "cut":
			w.WriteHeader(201)
			return errors.New("too late")
		}
		return nil
	})
	router.Handle("*", "/t/{app_name}/*", func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(202); return nil })
	send := func(method, path string, header ...string) {
		r := httptest.NewRequest(method, path, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		defer func() { _ = recover() }() // of a response that is cut
		router.ServeHTTP(httptest.NewRecorder(), r)
	}
	send("POST", "/invoke/1", "Kit", "fdk-go/1")
	send("POST", "/invoke/2", "Kit", "fdk-go/1")
	send("POST", "/invoke/2", "Fail", "user")
	send("POST", "/invoke/2", "Fail", "service")
	send("POST", "/invoke/2", "Fail", "cut")
	send("PUT", "/t/app/a/b")
	send("GET", "/nowhere")
	send("BREW", "/invoke/1")
	for n := range maxFDKVersions + 10 {
		send("POST", "/invoke/1", "Kit", fmt.Sprint("kit", n))
	}
	outcome := func(name, path, method, status, blame, kit string, n int) string {
		return fmt.Sprintf(`%s{blame=%q,fn_fdk_version=%q,method=%q,path=%q,status=%q} %d`, name, blame, kit, method, path, status, n)
	}
	want(
		t, scrape(t, registry),
		fmt.Sprintf(`fn_api_request_count{method="POST",path="/invoke/:fn_id"} %d`, 5+maxFDKVersions+10),
		`fn_api_request_count{method="GET",path="invalid"} 1`,
		`fn_api_request_count{method="invalid",path="invalid"} 1`,
		outcome("fn_api_response_count", "/invoke/:fn_id", "POST", "200", "user", "fdk-go/1", 2),
		outcome("fn_api_latency_count", "/invoke/:fn_id", "POST", "200", "user", "fdk-go/1", 2),
		outcome("fn_api_response_count", "/invoke/:fn_id", "POST", "502", "user", "", 1),
		outcome("fn_api_response_count", "/invoke/:fn_id", "POST", "503", "service", "", 1),
		outcome("fn_api_response_count", "/invoke/:fn_id", "POST", "201", "service", "", 1),
		outcome("fn_api_response_count", "/t/:app_name/*trigger_source", "PUT", "202", "user", "", 1),
		outcome("fn_api_response_count", "invalid", "GET", "404", "service", "", 1),
		outcome("fn_api_response_count", "/invoke/:fn_id", "POST", "200", "user", "other", 10+2),
	)
}

func TestEngineRequestsAreCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	open := false
	RegisterCircuit(registry, func() bool { return open })
	e := NewEngine(registry)
	for _, err := range []error{
		nil, context.Canceled, context.DeadlineExceeded, errors.New("broken pipe"), fmt.Errorf("no: %w", errdefs.ErrNotFound), errdefs.ErrInternal,
	} {
		e.Request("docker_start_container", 3*time.Millisecond, err)
	}
	e.Retried("docker_pull_image")
	open = true
	got := scrape(t, registry)
	want(t, got, "tine_engine_circuit_open 1", `fn_docker_api_retries{api_name="docker_pull_image"} 1`)
	for _, status := range []string{"ok", "canceled", "timeout", "error", "404", "500"} {
		want(t, got, `fn_docker_api_latency_count{api_name="docker_start_container",api_status="`+status+`"} 1`)
	}
}

func TestInstanceIDIsANumberThatTellsProcessesApart(t *testing.T) {
	var values []float64
	for _, id := range []string{"0123456789abcdef", "0123456789abcdee"} {
		registry := prometheus.NewRegistry()
		RegisterInstanceID(registry, id)
		for _, line := range scrape(t, registry) {
			if text, ok := strings.CutPrefix(line, "fn_docker_instance_id "); ok {
				value, err := strconv.ParseFloat(text, 64)
				if err != nil {
					t.Fatal(err)
				}
				values = append(values, value)
			}
		}
	}
	if len(values) != 2 || values[0] == values[1] || max(values[0], values[1]) >= 1<<53 || min(values[0], values[1]) < 1 {
		t.Errorf("got %v", values)
	}
}
