package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// wantNext checks that a function still answers.
func (n *node) wantNext(t *testing.T, fnID string) {
	t.Helper()
	if got := n.invoke(fnID, "next", mode("echo")); got.status != 200 || got.body != "next" {
		t.Errorf("the next call: %d %q\n%s", got.status, got.body, n.log)
	}
}

func TestContainerKilledAtRest(t *testing.T) {
	for name, settings := range map[string]map[string]string{
		"idle":   {"FN_FREEZE_IDLE_MSECS": "-1"},
		"frozen": {"FN_FREEZE_IDLE_MSECS": "1"},
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, settings)
			id := n.fn(nil)
			n.wantNext(t, id)
			if name == "frozen" {
				n.awaitMetric(t, "tine_freeze_seconds_count", "1")
			}
			n.kill(t)
			if name == "idle" {
				n.awaitLog(t, func(log string) bool { return strings.Contains(log, "process ended at rest") })
			}
			// Where the kernel keeps what is frozen from dying (cgroup v1), the
			// call that thaws it finds that out.
			if got := n.invoke(id, "", mode("echo")); got.status != 200 {
				got.wantError(t, 502, noResponse)
			}
			n.wantNext(t, id)
			n.stopClean(t)
		})
	}
}

func TestContainerKilledInACall(t *testing.T) {
	n := startNode(t, nil)
	id := n.fn(nil)
	n.wantNext(t, id)
	for stage, send := range map[string]struct {
		body   string
		header map[string]string
	}{
		"before the answer":        {`{"sleepTime":20000}`, nil},
		"in the middle of the one": {"", mode("chunks", "Count", "200", "Size", "1000", "Interval-Ms", "100")},
	} {
		t.Run(stage, func(t *testing.T) {
			ended := make(chan answer, 1)
			go func() {
				got, _ := n.do(n.request("POST", "/invoke/"+id, send.body, send.header)) // it may be cut
				ended <- got
			}()
			time.Sleep(500 * time.Millisecond) // the call has begun, on the warm instance
			n.kill(t)
			got := <-ended
			if got.took > 5*time.Second {
				t.Errorf("the caller waited %v", got.took)
			}
			if send.header == nil {
				got.wantError(t, 502, noResponse)
			} else if len(got.body) >= 200*1000 {
				t.Errorf("the caller got a whole answer")
			}
			n.wantNext(t, id)
		})
	}
	if log := n.log.String(); !strings.Contains(log, "killed by signal 9") {
		t.Errorf("the log does not tell that the container was killed:\n%s", log)
	}
	n.stopClean(t)
}

func TestFloodOfOutputHarmsNobody(t *testing.T) {
	const limit = 100_000
	n := startNode(t, map[string]string{"FN_MAX_LOG_SIZE_BYTES": strconv.Itoa(limit)})
	id := n.fn(nil)
	n.wantNext(t, id)
	before := len(n.log.String())
	if got := n.invoke(id, "", mode("flood", "Size", "20000000")); got.status != 200 {
		t.Errorf("the call: %d %s", got.status, got.body)
	}
	// Each line of 100 bytes is logged with the names of its call.
	if grown := len(n.log.String()) - before; grown < limit || grown > 10*limit {
		t.Errorf("the log grew by %d bytes for %d of output", grown, limit)
	}
	n.wantNext(t, id)
	// What the engine still had of the flood counts for the calls after it.
	eventually(t, 20*time.Second, func() bool {
		if got := n.invoke(id, "", mode("output", "Stderr", "after the flood")); got.status != 200 {
			t.Errorf("the call: %d %s", got.status, got.body)
		}
		return strings.Contains(n.log.String(), "after the flood")
	}, func() string { return "the log has nothing that was printed after the flood" })
	n.stopClean(t)
}

func TestClientThatLeavesAtAnyStageLeavesNothing(t *testing.T) {
	n := startNode(t, map[string]string{"FN_MAX_TOTAL_MEMORY_BYTES": strconv.Itoa(128 << 20)})
	slow := n.fn(object{"memory": 128, "config": object{"ENABLE_INIT_DELAY_MSEC": "1000"}})
	// leave sends a call and goes away after a while.
	leave := func(t *testing.T, after time.Duration, request *http.Request) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), after)
		defer cancel()
		if got, err := n.do(request.WithContext(ctx)); err == nil {
			t.Fatalf("the call ended before its client left: %d %q", got.status, got.body)
		}
	}
	call := func(body string, header map[string]string) *http.Request {
		return n.request("POST", "/invoke/"+slow, body, header)
	}
	before := n.resources(t)
	t.Run("while the instance starts", func(t *testing.T) {
		leave(t, 300*time.Millisecond, call("x", mode("echo")))
		n.wantNext(t, slow)
	})
	t.Run("in line for an instance", func(t *testing.T) {
		busy := make(chan answer, 1)
		go func() {
			got, _ := n.do(call(`{"sleepTime":1500}`, nil)) // checked below
			busy <- got
		}()
		time.Sleep(200 * time.Millisecond)
		for range 10 {
			leave(t, 50*time.Millisecond, call("x", mode("echo")))
		}
		if got := <-busy; got.status != 200 {
			t.Errorf("the running call: %d %s", got.status, got.body)
		}
		n.wantNext(t, slow)
	})
	t.Run("while its request is sent", func(t *testing.T) {
		conn := n.dial(t)
		fmt.Fprintf(conn, "POST /invoke/%s HTTP/1.1\r\nHost: x\r\nTestfn-Mode: count\r\nContent-Length: 1000000\r\n\r\nhello", slow)
		time.Sleep(100 * time.Millisecond)
		conn.Close()
		n.wantNext(t, slow)
	})
	t.Run("while the function works", func(t *testing.T) {
		leave(t, 200*time.Millisecond, call(`{"sleepTime":1000}`, nil))
		n.wantNext(t, slow)
	})
	t.Run("in the middle of its answer", func(t *testing.T) {
		leave(t, 300*time.Millisecond, call("", mode("chunks", "Count", "20", "Size", "100000", "Interval-Ms", "50")))
		n.wantNext(t, slow)
	})
	t.Run("without reading its answer", func(t *testing.T) {
		conn := n.dial(t)
		fmt.Fprintf(conn, "POST /invoke/%s HTTP/1.1\r\nHost: x\r\nTestfn-Mode: bytes\r\nTestfn-Size: 64000000\r\nContent-Length: 0\r\n\r\n", slow)
		time.Sleep(300 * time.Millisecond)
		conn.Close()
		n.wantNext(t, slow)
	})
	t.Run("after a detached call", func(t *testing.T) {
		if got := n.invoke(slow, `{"sleepTime":500}`, map[string]string{"Fn-Invoke-Type": "detached"}); got.status != 202 {
			t.Errorf("got %d %s", got.status, got.body)
		}
		n.wantNext(t, slow)
	})
	transport.CloseIdleConnections()
	var after resources
	eventually(t, 20*time.Second, func() bool {
		after = n.resources(t)
		// The warm instance has some of both.
		return after.goroutines <= before.goroutines+12 && after.descriptors <= before.descriptors+8
	}, func() string { return fmt.Sprintf("before %+v, after %+v", before, after) })
	n.stopClean(t)
}
