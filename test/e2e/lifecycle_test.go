package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestEngineAbsentAtStart(t *testing.T) {
	s := launch(t, t.TempDir(), map[string]string{"DOCKER_HOST": "unix:///nonexistent/docker.sock"})
	if code := s.exitCode(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	lines := strings.Split(strings.TrimSpace(s.log.String()), "\n")
	last := lines[len(lines)-1]
	for _, want := range []string{"/nonexistent/docker.sock", "DOCKER_HOST"} {
		if !strings.Contains(last, want) {
			t.Errorf("the last line does not speak of %s:\n%s", want, last)
		}
	}
}

func TestAllWrongSettingsAreReportedAtOnce(t *testing.T) {
	s := launch(t, t.TempDir(), map[string]string{
		"FN_PORT": "many", "FN_NODE_TYPE": "gateway", "FN_MAX_PIDS": "-1", "FN_QUEUE_TIMEOUT": "soon",
	})
	if code := s.exitCode(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"FN_PORT", "many", "FN_NODE_TYPE", "gateway", "FN_MAX_PIDS", "-1", "FN_QUEUE_TIMEOUT", "soon"} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("%s is not named:\n%s", want, s.log)
		}
	}
}

func TestPortInUse(t *testing.T) {
	first := start(t, map[string]string{"FN_NODE_TYPE": "api"})
	port := first.url[strings.LastIndex(first.url, ":")+1:]
	second := launch(t, t.TempDir(), map[string]string{"FN_NODE_TYPE": "api", "FN_PORT": port})
	if code := second.exitCode(); code != 1 || !strings.Contains(second.log.String(), port) {
		t.Errorf("exit code %d:\n%s", code, second.log)
	}
}

func TestAPINodeServesDefinitionsAndNoCalls(t *testing.T) {
	// It needs no engine: the address leads nowhere.
	s := start(t, map[string]string{
		"FN_NODE_TYPE": "api", "DOCKER_HOST": "unix:///nonexistent/docker.sock", "FN_PUBLIC_LB_URL": "https://lb.example.com/fn/",
	})
	app := s.create("/v2/apps", object{"name": "app"})
	fn := s.create("/v2/fns", object{"name": "fn", "app_id": app, "image": "x"})
	got := s.send("GET", "/v2/fns/"+fn, "", nil)
	if want := `"fnproject.io/fn/invokeEndpoint":"https://lb.example.com/fn/invoke/` + fn + `"`; !strings.Contains(got.body, want) {
		t.Errorf("got %s", got.body)
	}
	s.send("POST", "/invoke/"+fn, "", nil).wantError(t, 404, "Path not found: POST /invoke/"+fn)
	s.send("GET", "/t/app/x", "", nil).wantError(t, 404, "Path not found: GET /t/app/x")
	for _, path := range []string{"/", "/version", "/metrics", "/debug/vars", "/debug/pprof/", "/debug/pprof/heap"} {
		if got := s.send("GET", path, "", nil); got.status != 200 {
			t.Errorf("%s: %d", path, got.status)
		}
	}
}

func TestDefinitionsSurviveAKill(t *testing.T) {
	dir := t.TempDir()
	first := launch(t, dir, map[string]string{"FN_NODE_TYPE": "api"})
	if !first.awaitServing() {
		t.Fatal(first.log)
	}
	var ids []string
	for i := range 20 {
		ids = append(ids, first.create("/v2/apps", object{"name": fmt.Sprintf("app%d", i)}))
	}
	_ = first.cmd.Process.Kill() // no orderly end
	<-first.done
	second := launch(t, dir, map[string]string{"FN_NODE_TYPE": "api"})
	if !second.awaitServing() {
		t.Fatal(second.log)
	}
	t.Cleanup(func() { second.stop() })
	for _, id := range ids {
		if got := second.send("GET", "/v2/apps/"+id, "", nil); got.status != 200 {
			t.Errorf("%s: %d %s", id, got.status, got.body)
		}
	}
}

func TestShutdownLetsCallsFinishAndLeavesNothing(t *testing.T) {
	n := startNode(t, nil)
	id := n.fn(nil)
	running := make(chan answer, 1)
	go func() {
		got, err := n.do(n.request("POST", "/invoke/"+id, `{"sleepTime":2000}`, nil))
		if err != nil {
			t.Error(err)
		}
		running <- got
	}()
	n.awaitLog(t, func(log string) bool { return strings.Contains(log, "instance ready") })
	time.Sleep(200 * time.Millisecond)
	n.stopClean(t)
	if got := <-running; got.status != 200 {
		t.Errorf("the running call: %d %s", got.status, got.body)
	}
}

func TestShutdownDeadlineEndsWhatStillRuns(t *testing.T) {
	n := startNode(t, map[string]string{"FN_SHUTDOWN_TIMEOUT": "1"})
	id := n.fn(nil)
	go func() { _, _ = n.do(n.request("POST", "/invoke/"+id, `{"sleepTime":20000}`, nil)) }() // it is cut
	n.awaitLog(t, func(log string) bool { return strings.Contains(log, "instance ready") })
	began := time.Now()
	_ = n.cmd.Process.Signal(syscall.SIGTERM) // it lives
	n.exitCode()
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("took %v", took)
	}
	if left := leftovers(t, n); left != "" {
		t.Error("left behind: " + left)
	}
	n.once.Do(func() {}) // the exit code of a shutdown that had to cut a call is not 0
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	n := startNode(t, nil)
	id := n.fn(nil)
	go func() { _, _ = n.do(n.request("POST", "/invoke/"+id, `{"sleepTime":20000}`, nil)) }() // it is cut
	n.awaitLog(t, func(log string) bool { return strings.Contains(log, "instance ready") })
	began := time.Now()
	_ = n.cmd.Process.Signal(syscall.SIGTERM) // it lives
	_ = n.cmd.Process.Signal(os.Interrupt)    // another one, as two of a kind at the same time are one
	n.exitCode()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
	n.once.Do(func() {})
	// The next start with the same tag removes what was left.
	next := start(t, map[string]string{"FN_CONTAINER_LABEL_TAG": n.setting("FN_CONTAINER_LABEL_TAG")})
	eventually(t, 20*time.Second, func() bool { return len(n.containers(t)) == 0 }, func() string {
		return "the next start did not remove what was left:\n" + next.log.String()
	})
}

// TestManyCallsOnANodeForFour measures nothing: it checks that everything is
// answered and nothing grows. The figures in the log are for the curious.
func TestManyCallsOnANodeForFour(t *testing.T) {
	n := startNode(t, map[string]string{"FN_MAX_TOTAL_MEMORY_BYTES": strconv.Itoa(512 << 20), "FN_LOG_LEVEL": "info"})
	id := n.fn(object{"memory": 128})
	if got := n.invoke(id, "x", mode("echo")); got.status != 200 {
		t.Fatal(got.body)
	}
	before := n.resources(t)

	began := time.Now()
	for i := range 1000 {
		body := strconv.Itoa(i)
		if got := n.invoke(id, body, mode("echo")); got.status != 200 || got.body != body {
			t.Fatalf("call %d: %d %q", i, got.status, got.body)
		}
	}
	t.Logf("1000 sequential warm calls: %v each", time.Since(began)/1000)

	began = time.Now()
	var failed atomic.Int32
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			body := strconv.Itoa(i)
			got, err := n.do(n.request("POST", "/invoke/"+id, body, mode("echo", "Delay-Ms", "20")))
			if err != nil || got.status != 200 || got.body != body {
				failed.Add(1)
				t.Logf("call %d: %v, %d %q", i, err, got.status, got.body)
			}
		})
	}
	wg.Wait()
	t.Logf("200 parallel calls of 20 ms on 4 instances: %v", time.Since(began))
	if failed.Load() != 0 {
		t.Errorf("%d of 200 parallel calls failed", failed.Load())
	}
	transport.CloseIdleConnections()
	var after resources
	eventually(t, 15*time.Second, func() bool {
		// Three more instances than before may be warm, each with a few
		// goroutines and descriptors.
		after = n.resources(t)
		return after.goroutines <= before.goroutines+30 && after.descriptors <= before.descriptors+20
	}, func() string { return fmt.Sprintf("before %+v, after %+v", before, after) })
	n.stopClean(t)
}
