package e2e

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tinefn/tine/test/image"
)

// cluster is an API node, a load balancer and a runner, each a process.
type cluster struct {
	t      *testing.T
	api    *node // for definitions
	lb     *server
	runner *server

	runnerDir      string
	runnerSettings map[string]string
}

// startCluster starts them. The runner is the native driver's if this is root.
func startCluster(t *testing.T, lbSettings map[string]string) *cluster {
	t.Helper()
	ref := image.TestFn(t)
	c := &cluster{t: t, runnerDir: t.TempDir(), runnerSettings: map[string]string{
		"FN_NODE_TYPE": "pure-runner", "FN_GRPC_PORT": freePort(t), "FN_STATE_DIR": t.TempDir(),
		"FN_MAX_TOTAL_MEMORY_BYTES": "1073741824",
	}}
	if os.Geteuid() == 0 {
		maps.Copy(c.runnerSettings, map[string]string{"FN_DRIVER": "native", "FN_SANDBOX_MIN": "2", "FN_SANDBOX_BRIDGE": ownBridge(), "FN_SANDBOX_SUBNET": ownSubnet})
	}
	c.startRunner()
	t.Cleanup(func() { c.runner.stop() })
	apiPort := freePort(t)
	api := start(t, map[string]string{"FN_NODE_TYPE": "api", "FN_PORT": apiPort})
	all := map[string]string{
		"FN_NODE_TYPE": "lb", "FN_RUNNER_API_URL": "http://127.0.0.1:" + apiPort, "FN_RUNNER_ADDRESSES": "127.0.0.1:" + c.runnerSettings["FN_GRPC_PORT"],
	}
	maps.Copy(all, lbSettings)
	c.lb = start(t, all)
	c.api = &node{server: api, image: ref, appID: api.create("/v2/apps", object{"name": "app"})}
	return c
}

// startRunner starts the runner, where it was if it ran before.
func (c *cluster) startRunner() {
	c.t.Helper()
	c.runner = launch(c.t, c.runnerDir, c.runnerSettings)
	if !c.runner.awaitServing() {
		c.t.Fatalf("the runner does not serve:\n%s", c.runner.log)
	}
}

// killRunner ends the runner without a word.
func (c *cluster) killRunner() {
	c.t.Helper()
	if err := c.runner.cmd.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	<-c.runner.done
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return fmt.Sprint(listener.Addr().(*net.TCPAddr).Port)
}

// invoke calls a function through the load balancer.
func (c *cluster) invoke(fnID, body string, header map[string]string) answer {
	c.t.Helper()
	return c.lb.send("POST", "/invoke/"+fnID, body, header)
}

// internalError is what clients see of what goes wrong between nodes.
const internalError = "internal server error"

func TestCallsThroughALoadBalancer(t *testing.T) {
	c := startCluster(t, nil)
	id := c.api.fn(object{"config": object{"FROM_FN": "f"}})
	path := c.api.trigger(id, "/some/path")

	t.Run("direct", func(t *testing.T) {
		got := c.invoke(id, `{"responseCode":418}`, map[string]string{"X-Own": "1", "Keep-Alive": "5"})
		s := got.seen(t)
		if s.Header.Get("X-Own") != "1" || s.Header.Get("Keep-Alive") != "" || s.Config["FROM_FN"] != "f" || s.Config["FN_FN_ID"] != id {
			t.Errorf("the function got %+v", s)
		}
		if callID := got.header.Get("Fn-Call-Id"); len(callID) != 26 || s.Header.Get("Fn-Call-Id") != callID {
			t.Errorf("call ID %q, the function got %q", callID, s.Header.Get("Fn-Call-Id"))
		}
	})
	t.Run("through a trigger", func(t *testing.T) {
		got := c.lb.send("PUT", path+"?a=b", `{"responseCode":202,"returnHeaders":{"Back":["1","2"]}}`, map[string]string{"Sent": "1"})
		if got.status != 202 || len(got.header["Back"]) != 2 || !strings.Contains(got.body, `"Fn-Http-H-Sent":["1"]`) {
			t.Errorf("got %d %v %s", got.status, got.header, got.body)
		}
	})
	t.Run("failures keep status and text", func(t *testing.T) {
		c.invoke(id, `{"isCrash":true}`, nil).wantError(t, 502, noResponse)
		c.invoke(c.api.fn(object{"config": object{"ENABLE_INIT_EXIT": "7"}}), "", nil).wantError(t, 502, initFailed)
		c.invoke(c.api.fn(object{"timeout": 1}), `{"sleepTime":5000}`, nil).wantError(t, 504, "Timed out")
		got := c.invoke(c.api.fn(object{"memory": 8192}), "", nil)
		got.wantError(t, 400, "Requested CPU/Memory cannot be allocated")
		if len(got.header.Get("Fn-Call-Id")) != 26 {
			t.Error("the call that a runner knows by its ID lost it")
		}
	})
	t.Run("what is not there", func(t *testing.T) {
		c.invoke("nothing", "", nil).wantError(t, 404, "Fn not found")
		c.lb.send("GET", "/t/nothing/x", "", nil).wantError(t, 404, "App not found")
		c.lb.send("GET", "/t/app/nothing", "", nil).wantError(t, 404, "Trigger not found")
		c.lb.send("GET", "/v2/apps", "", nil).wantError(t, 404, "Path not found: GET /v2/apps")
	})
	t.Run("detached", func(t *testing.T) {
		got := c.invoke(id, `{"sleepTime":3000}`, map[string]string{"Fn-Invoke-Type": "detached"})
		if got.status != 202 || got.body != "" || len(got.header.Get("Fn-Call-Id")) != 26 {
			t.Errorf("got %d %q %v", got.status, got.body, got.header)
		}
		if got.took > 3*time.Second {
			t.Errorf("the acknowledgement took %v, as if the function had ended", got.took)
		}
		if got := c.invoke("nothing", "", map[string]string{"Fn-Invoke-Type": "detached"}); got.status != 404 {
			t.Errorf("got %d", got.status)
		}
	})
	t.Run("big bodies", func(t *testing.T) {
		const size = 40 << 20
		if got := c.invoke(id, strings.Repeat("x", size), mode("count")); got.body != fmt.Sprint(size) {
			t.Errorf("%d bytes there: %d %.200s", size, got.status, got.body)
		}
		for _, chunked := range []string{"", "1"} {
			if got := c.invoke(id, "", mode("bytes", "Size", fmt.Sprint(size), "Chunked", chunked)); got.status != 200 || len(got.body) != size {
				t.Errorf("%d bytes back: %d, %d bytes", size, got.status, len(got.body))
			}
		}
	})
	t.Run("an answer is passed on as it comes", func(t *testing.T) {
		const pieces, interval = 4, 500 * time.Millisecond
		request := c.lb.request("POST", "/invoke/"+id, "", mode("chunks", "Count", fmt.Sprint(pieces), "Size", "1000", "Interval-Ms", fmt.Sprint(interval.Milliseconds())))
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if _, err := io.ReadFull(response.Body, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		first := time.Now()
		if rest, err := io.ReadAll(response.Body); err != nil || len(rest) != (pieces-1)*1000 {
			t.Errorf("%d bytes more, %v", len(rest), err)
		}
		if took := time.Since(first); took < interval {
			t.Errorf("the rest came %v after the first piece: the answer was held back", took)
		}
	})
	t.Run("a request is passed on as it comes", func(t *testing.T) {
		reader, writer := io.Pipe()
		defer writer.Close()
		request, err := http.NewRequestWithContext(t.Context(), "POST", c.lb.url+"/invoke/"+id, reader)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Testfn-Mode", "count")
		counted := make(chan answer, 1)
		go func() {
			got, err := c.lb.do(request)
			if err != nil {
				t.Error(err)
			}
			counted <- got
		}()
		const size = 100_000
		if _, err := writer.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		c.runner.awaitMetric(t, "fn_running", "1") // and nothing more was sent
		if _, err := writer.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		writer.Close()
		if got := <-counted; got.body != fmt.Sprint(2*size) {
			t.Errorf("got %d %s", got.status, got.body)
		}
	})
}

func TestLoadBalancerLetsGoOfCallsWhoseClientLeft(t *testing.T) {
	c := startCluster(t, nil)
	id := c.api.fn(object{"timeout": 2}) // the function may finish
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := c.lb.do(c.lb.request("POST", "/invoke/"+id, "x", mode("hang")).WithContext(ctx))
		left <- err
	}()
	c.runner.awaitMetric(t, "fn_running", "1")
	c.lb.awaitMetric(t, "fn_running", "1")
	leave()
	if err := <-left; err == nil {
		t.Error("there was an answer")
	}
	c.lb.awaitMetric(t, "fn_canceled", "1")
	c.lb.awaitMetric(t, "fn_running", "0")
	c.runner.awaitMetric(t, "fn_running", "0")
}

func TestLoadBalancerStopsAfterItsCalls(t *testing.T) {
	c := startCluster(t, nil)
	id := c.api.fn(nil)
	c.invoke(id, "{}", nil).seen(t)
	answers := make(chan answer, 2)
	for _, header := range []map[string]string{nil, {"Fn-Invoke-Type": "detached"}} {
		go func() {
			got, err := c.lb.do(c.lb.request("POST", "/invoke/"+id, `{"sleepTime":2000}`, header))
			if err != nil {
				t.Error(err)
			}
			answers <- got
		}()
	}
	c.runner.awaitMetric(t, "fn_running", "2")
	c.lb.stop()
	for range 2 {
		if got := <-answers; got.status != 200 && got.status != 202 {
			t.Errorf("got %d %s", got.status, got.body)
		}
	}
	c.runner.awaitMetric(t, "fn_completed", "3") // the detached one, too
}

func TestLoadBalancerSeesChangesAndGoesOnWithoutItsAPI(t *testing.T) {
	c := startCluster(t, map[string]string{"FN_LOG_LEVEL": "info"})
	id, other := c.api.fn(nil), c.api.fn(nil)
	c.invoke(other, "{}", nil).seen(t)
	if got := c.api.send("PUT", "/v2/fns/"+id, `{"config":{"NEW":"0"}}`, nil); got.status != 200 {
		t.Fatal(got.body)
	}
	if got := c.invoke(id, "{}", nil).seen(t).Config["NEW"]; got != "0" {
		t.Errorf("NEW is %q", got)
	}

	// Five seconds, and as much for a machine that is busy.
	const seenWithin = 10 * time.Second
	if got := c.api.send("PUT", "/v2/fns/"+id, `{"config":{"NEW":"1"}}`, nil); got.status != 200 {
		t.Fatal(got.body)
	}
	eventually(t, seenWithin, func() bool { return c.invoke(id, "{}", nil).seen(t).Config["NEW"] == "1" }, c.lb.log.String)
	if got := c.api.send("DELETE", "/v2/fns/"+other, "", nil); got.status != 204 {
		t.Fatal(got.body)
	}
	eventually(t, seenWithin, func() bool { return c.invoke(other, "{}", nil).status == 404 }, c.lb.log.String)

	c.api.stop()
	c.lb.faulty = true // it logs what it could not look up
	for began := time.Now(); time.Since(began) < 12*time.Second; time.Sleep(200 * time.Millisecond) {
		if got := c.invoke(id, "{}", nil); got.status != 200 {
			t.Fatalf("after %v: %d %s", time.Since(began), got.status, got.body)
		}
	}
	c.invoke("unknown", "", nil).wantError(t, 500, internalError)
	if got := strings.Count(c.lb.log.String(), "definitions cannot be asked for"); got != 1 {
		t.Errorf("%d lines about it:\n%s", got, c.lb.log)
	}
	if uses := c.lb.metric("tine_definition_stale_uses_total"); uses == "0" || c.lb.metric("tine_definition_source_up") != "0" {
		t.Errorf("%s stale uses", uses)
	}

	again := launch(t, c.api.dir, map[string]string{"FN_NODE_TYPE": "api", "FN_PORT": strings.TrimPrefix(c.api.url, "http://127.0.0.1:")})
	t.Cleanup(again.stop)
	if !again.awaitServing() {
		t.Fatalf("the API node does not serve:\n%s", again.log)
	}
	if got := again.send("PUT", "/v2/fns/"+id, `{"config":{"NEW":"2"}}`, nil); got.status != 200 {
		t.Fatal(got.body)
	}
	eventually(t, 2*seenWithin, func() bool { return c.invoke(id, "{}", nil).seen(t).Config["NEW"] == "2" }, c.lb.log.String)
	if !strings.Contains(c.lb.log.String(), "definitions can be asked for again") {
		t.Errorf("it does not say that it is over:\n%s", c.lb.log)
	}

	// A node that hangs takes requests and answers none. Only the first call that
	// notices waits for it, as long as it has patience.
	signal(t, again, syscall.SIGSTOP)
	defer signal(t, again, syscall.SIGCONT)
	slow, all := 0, 0
	for began := time.Now(); time.Since(began) < 8*time.Second; time.Sleep(100 * time.Millisecond) {
		got := c.invoke(id, "{}", nil)
		if got.status != 200 {
			t.Fatalf("after %v: %d %s", time.Since(began), got.status, got.body)
		}
		if all++; got.took >= 500*time.Millisecond {
			slow++
		}
	}
	if slow == 0 || 2*slow > all { // a busy machine may have added some
		t.Errorf("%d calls of %d waited", slow, all)
	}
}

func signal(t *testing.T, s *server, sig syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Error(err)
	}
}

func TestRunnerThatIsLost(t *testing.T) {
	c := startCluster(t, map[string]string{"FN_PLACER_TIMEOUT": "2s"})
	c.lb.faulty = true
	id := c.api.fn(nil)
	c.invoke(id, "{}", nil).seen(t)

	lost := make(chan answer, 1)
	var sent atomic.Bool
	go func() {
		sent.Store(true)
		got, err := c.lb.do(c.lb.request("POST", "/invoke/"+id, "x", mode("hang")))
		if err != nil {
			t.Error(err)
		}
		lost <- got
	}()
	eventually(t, 10*time.Second, func() bool { return sent.Load() && c.runner.metric("fn_running") == "1" }, c.runner.log.String)
	c.killRunner()
	select {
	case got := <-lost:
		got.wantError(t, 500, internalError)
	case <-time.After(10 * time.Second):
		t.Fatal("the call waits for a runner that is gone")
	}
	address := c.lb.setting("FN_RUNNER_ADDRESSES")
	c.lb.awaitLog(t, func(log string) bool {
		for line := range strings.Lines(log) {
			if strings.Contains(line, "request failed") && strings.Contains(line, address) {
				return true
			}
		}
		return false
	})
	c.invoke(id, "{}", nil).wantError(t, 503, "Timed out - server too busy")

	c.startRunner()
	eventually(t, 20*time.Second, func() bool { return c.invoke(id, "{}", nil).status == 200 }, c.lb.log.String)
}
