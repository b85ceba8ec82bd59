package e2e

import (
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// metric returns the value of a series, "" if there is none.
func (s *server) metric(series string) string {
	s.t.Helper()
	for line := range strings.Lines(s.send("GET", "/metrics", "", nil).body) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (s *server) awaitMetric(t *testing.T, series, want string) {
	t.Helper()
	got := ""
	eventually(t, 20*time.Second, func() bool { got = s.metric(series); return got == want }, func() string {
		return series + " is " + got + ", not " + want + "\n" + s.log.String()
	})
}

func TestFailedCallTellsWhyInTheLog(t *testing.T) {
	n := startNode(t, map[string]string{"FN_LOG_LEVEL": "info"})
	if got := n.invoke(n.fn(nil), `{"allocateMemory":209715200}`, nil); got.status != 502 {
		t.Errorf("got %d %s", got.status, got.body)
	}
	id := n.fn(object{"config": object{"ENABLE_HEADER": "about to fail", "ENABLE_INIT_EXIT": "7"}})
	n.invoke(id, "", nil).wantError(t, 502, initFailed)
	for _, says := range []string{
		`level=\S+ msg="call failed" .*container_ended=".*out of memory.*" .*total=`,
		`level=\S+ msg="call failed" .*fn_id=` + id + ` .*container_ended=".*\b7\b.*" output="?about to fail`,
	} {
		pattern := regexp.MustCompile(says)
		n.awaitLog(t, pattern.MatchString)
	}
}

func TestMetricsCountCallsAndInstances(t *testing.T) {
	n := startNode(t, map[string]string{"FN_FREEZE_IDLE_MSECS": "1"})
	id := n.fn(nil)
	for range 3 {
		n.wantNext(t, id)
		time.Sleep(50 * time.Millisecond)
	}
	labels := `{app_id="` + n.appID + `",fn_id="` + id + `",image_name="` + n.image + `"}`
	n.awaitMetric(t, "fn_container_paused_total"+labels, "1")
	n.invoke(id, `{"isCrash":true}`, nil).wantError(t, 502, noResponse)
	n.awaitMetric(t, "fn_completed", "3")
	n.awaitMetric(t, "fn_errors", "1")
	n.awaitMetric(t, `tine_launches_total{result="ok"}`, "1")
	n.awaitMetric(t, "tine_thaw_seconds_count", "3")
}

// syslogServer collects what arrives at a UDP socket.
func syslogServer(t *testing.T) (url string, received func() string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var text strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64<<10)
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			mu.Lock()
			text.Write(buf[:n])
			text.WriteByte('\n')
			mu.Unlock()
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return "udp://" + conn.LocalAddr().String(), func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
}

func TestOutputReachesTheSyslogServerOfTheApp(t *testing.T) {
	n := startNode(t, nil)
	url, received := syslogServer(t)
	if got := n.send("PUT", "/v2/apps/"+n.appID, `{"syslog_url":"`+url+`"}`, nil); got.status != 200 {
		t.Fatal(got.body)
	}
	id := n.fn(nil)
	got := n.invoke(id, "", mode("output", "Stdout", "to all", "Stderr", "to whom it concerns"))
	if got.status != 200 {
		t.Fatal(got.body)
	}
	callID := got.header.Get("Fn-Call-Id")
	eventually(t, 10*time.Second, func() bool {
		return strings.Contains(received(), "to all") && strings.Contains(received(), "to whom it concerns")
	}, received)
	for line := range strings.Lines(received()) {
		for _, name := range []string{callID, id, n.appID} {
			if !strings.Contains(line, name) {
				t.Errorf("%q does not name %s", line, name)
			}
		}
	}
}

func TestUnreachableSyslogServerFailsNoCall(t *testing.T) {
	n := startNode(t, nil)
	for _, url := range []string{"tcp://127.0.0.1:1", "tcp://192.0.2.1:514", "udp://127.0.0.1:1"} {
		if got := n.send("PUT", "/v2/apps/"+n.appID, `{"syslog_url":"`+url+`"}`, nil); got.status != 200 {
			t.Fatal(got.body)
		}
		id := n.fn(nil)
		for range 3 {
			if got := n.invoke(id, "", mode("output", "Stderr", "to nobody")); got.status != 200 {
				t.Errorf("%s: %d %s", url, got.status, got.body)
			}
		}
	}
	n.stopClean(t)
}

func TestMinimumInstancesStartWithoutACall(t *testing.T) {
	n := startNode(t, nil)
	id := n.fn(object{"annotations": object{"tine/min-instances": 2}})
	labels := `{app_id="` + n.appID + `",fn_id="` + id + `",image_name="` + n.image + `"}`
	n.awaitMetric(t, "fn_container_paused_total"+labels, "2")
	if got := n.invoke(id, "", mode("echo")); got.status != 200 {
		t.Error(got.body)
	}
	// Without the annotation the instances are like all others.
	if got := n.send("PUT", "/v2/fns/"+id, `{"annotations":{"tine/min-instances":0}}`, nil); got.status != 200 {
		t.Error(got.body)
	}
	if got := n.send("DELETE", "/v2/fns/"+id, "", nil); got.status != 204 {
		t.Error(got.status)
	}
	eventually(t, 20*time.Second, func() bool { return len(n.containers(t)) == 0 }, n.log.String)
}

func TestInstancesOfAFunctionAreLimited(t *testing.T) {
	n := startNode(t, nil)
	id := n.fn(object{"annotations": object{"tine/max-instances": 1, "tine/max-calls": 4}})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			got, err := n.do(n.request("POST", "/invoke/"+id, `{"sleepTime":200}`, nil))
			if err != nil || got.status != 200 {
				t.Errorf("got %v, %d %s", err, got.status, got.body)
			}
		})
	}
	wg.Wait()
	if started := strings.Count(n.log.String(), "instance ready"); started != 1 {
		t.Errorf("four parallel calls started %d instances", started)
	}
	n.wantNext(t, id)
	if started := strings.Count(n.log.String(), "instance ready"); started != 2 {
		t.Errorf("after the calls that an instance may serve there were %d instances", started)
	}
}
