package node_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/node"
)

// freePort is a port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// stopAll stops nodes in the order in which they are given.
func stopAll(t *testing.T, nodes ...*embedded) {
	t.Helper()
	for _, e := range nodes {
		if err := e.stop(); err != nil {
			t.Error(err)
		}
	}
}

func TestLoadBalancerHasRunnersExecuteCalls(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	port := freePort(t)
	engine := fake.New(fake.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body) // a runner lets no function answer before it has its request
		if err != nil {
			return
		}
		w.Header().Set("Fn-Http-Status", "202")
		w.Header().Set("Fn-Http-H-Seen", r.Header.Get("Fn-Http-H-Sent")+r.Header.Get("Sent"))
		w.Write(body)
	})})
	runner := run(t, node.Options{Driver: engine, Environ: []string{"FN_NODE_TYPE=pure-runner", "FN_GRPC_PORT=" + port}})
	api := run(t, node.Options{Environ: []string{"FN_NODE_TYPE=api"}})
	target, err := url.Parse(api.url)
	if err != nil {
		t.Fatal(err)
	}
	var traced atomic.Int32
	proxy := httputil.NewSingleHostReverseProxy(target)
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-B3-Traceid") == "463ac35c9f6413ad" {
			traced.Add(1)
		}
		proxy.ServeHTTP(w, r)
	}))
	defer between.Close()
	lb := run(t, node.Options{Environ: []string{"FN_NODE_TYPE=lb", "FN_RUNNER_API_URL=" + between.URL, "FN_RUNNER_ADDRESSES=127.0.0.1:" + port}})
	app := api.create("/v2/apps", `{"name":"app"}`)
	fn := api.create("/v2/fns", `{"name":"fn","app_id":"`+app+`","image":"any"}`)
	api.create("/v2/triggers", `{"name":"t","app_id":"`+app+`","fn_id":"`+fn+`","type":"http","source":"/x"}`)

	request, err := http.NewRequest("POST", lb.url+"/invoke/"+fn, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-B3-TraceId", "463ac35c9f6413ad")
	if response, err := http.DefaultTransport.RoundTrip(request); err != nil {
		t.Error(err)
	} else if response.Body.Close(); traced.Load() != 2 { // function and app
		t.Errorf("%d look-ups with the trace of the call", traced.Load())
	}
	big := strings.Repeat("x", 1<<20)
	for _, body := range []string{"", "hello", big} {
		if status, got := lb.send("POST", "/invoke/"+fn, body); status != 200 || got != body {
			t.Errorf("invoke: %d, %d bytes of %d", status, len(got), len(body))
		}
		if status, got := lb.send("PUT", "/t/app/x", body); status != 202 || got != body {
			t.Errorf("trigger: %d, %d bytes of %d", status, len(got), len(body))
		}
	}
	for path, want := range map[string]string{"/invoke/x": "Fn not found", "/t/x/y": "App not found", "/t/app/y": "Trigger not found", "/v2/apps": "Path not found: POST /v2/apps"} {
		if status, got := lb.send("POST", path, ""); status != 404 || got != fmt.Sprintf("{\"message\":%q}\n", want) {
			t.Errorf("%s: %d %s", path, status, got)
		}
	}
	if status, _ := lb.send("GET", "/ready", ""); status != 200 {
		t.Errorf("ready: %d", status)
	}
	_, numbers := lb.send("GET", "/metrics", "")
	for _, want := range []string{"fn_calls 7", "fn_completed 7", "fn_running 0", "fn_queued 0", "fn_lb_runner_exec_latency_count 7", "tine_definition_source_up 1"} {
		if !strings.Contains(numbers, "\n"+want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}

	between.Close()
	stopAll(t, api)
	if status, _ := lb.send("POST", "/invoke/"+fn, "on"); status != 200 {
		t.Errorf("without the API node: %d", status)
	}
	stopAll(t, lb, runner)
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	goleak.VerifyNone(t, ignore)
}

func TestLoadBalancerSaysWhatItLacks(t *testing.T) {
	_, err := node.New(t.Context(), node.Options{Environ: []string{"FN_NODE_TYPE=lb", "FN_PORT=0"}, Stderr: io.Discard})
	if err == nil {
		t.Fatal("it started")
	}
	for _, want := range []string{
		"no FN_RUNNER_API_URL provided for an Fn NuLB node: set it", "must provide FN_RUNNER_ADDRESSES  when running in default load-balanced mode: set it",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
}

func TestNodeSaysThatItStopsBeforeItDoes(t *testing.T) {
	e := run(t, node.Options{Environ: []string{"FN_NODE_TYPE=api", "FN_SHUTDOWN_DELAY=2s"}})
	if status, body := e.send("GET", "/ready", ""); status != 200 || body != `{"message":"ready"}` {
		t.Errorf("%d %s", status, body)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- e.stop() }()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if status, body := e.send("GET", "/ready", ""); status == 503 && strings.Contains(body, "about to stop") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it is still ready")
		}
	}
	e.create("/v2/apps", `{"name":"app"}`) // it serves on
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
