package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Messages that clients match on.
const (
	initFailed  = "Container failed to initialize, please ensure you are using the latest fdk and check the logs"
	initTimeout = "Container initialization timed out, please ensure you are using the latest fdk and check the logs"
	noResponse  = "error receiving function response"
)

func TestFunctionsThatMisbehaveGetTheirErrorAndTheNextCallWorks(t *testing.T) {
	n := startNode(t, map[string]string{"FN_MAX_RESPONSE_SIZE": "2048", "FN_MAX_HDR_RESPONSE_SIZE": "1024"})
	tests := map[string]struct {
		body    string
		header  map[string]string
		status  int
		message string
	}{
		"crash":                      {`{"isCrash":true}`, nil, 502, noResponse},
		"exit 0":                     {`{"isExit":true}`, nil, 502, noResponse},
		"exit 3":                     {`{"isExit":true,"exitCode":3}`, nil, 502, noResponse},
		"out of memory":              {`{"allocateMemory":209715200}`, nil, 502, noResponse},
		"closed connection":          {"", mode("reset"), 502, noResponse},
		"garbage":                    {"", mode("garbage"), 502, noResponse},
		"panic in the body":          {"", mode("panic"), 502, noResponse},
		"crash in the body":          {"", mode("crash"), 502, noResponse},
		"status 500":                 {"", mode("echo", "Status", "500"), 502, "invalid function response"},
		"status 404":                 {"", mode("echo", "Status", "404"), 502, "invalid function response"},
		"status 502":                 {"", mode("echo", "Status", "502"), 502, "function failed"},
		"status 504":                 {"", mode("echo", "Status", "504"), 504, "Timed out"},
		"body too large":             {"", mode("bytes", "Size", "2049"), 502, "function response body too large"},
		"body of unknown size":       {"", mode("bytes", "Size", "2049", "Chunked", "1"), 502, "function response body too large"},
		"body of unknown size, huge": {"", mode("bytes", "Size", "20000000", "Chunked", "1"), 502, "function response body too large"},
		"one header too large":       {"", mode("headers", "Count", "1", "Size", "1024"), 502, "function response header too large"},
		"many headers":               {"", mode("headers", "Count", "100", "Size", "20"), 502, "function response header too large"},
	}
	direct := n.fn(nil)
	path := n.trigger(direct, "/misbehave")
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := n.invoke(direct, test.body, test.header)
			got.wantError(t, test.status, test.message)
			if len(got.header.Get("Fn-Call-Id")) != 26 {
				t.Error("no call ID")
			}
			n.send("POST", path, test.body, test.header).wantError(t, test.status, test.message)
			if got := n.invoke(direct, "still here", mode("echo")); got.status != 200 || got.body != "still here" {
				t.Errorf("the next call: %d %q", got.status, got.body)
			}
		})
	}
	t.Run("at the limits", func(t *testing.T) {
		for _, header := range []map[string]string{mode("bytes", "Size", "2048"), mode("bytes", "Size", "2048", "Chunked", "1")} {
			if got := n.invoke(direct, "", header); got.status != 200 || len(got.body) != 2048 {
				t.Errorf("got %d, %d bytes", got.status, len(got.body))
			}
		}
	})
}

func TestReportedFailureKeepsTheContainer(t *testing.T) {
	n := startNode(t, nil)
	id := n.fn(nil)
	n.invoke(id, `{"createFile":"/tmp/mark","createFileSize":1}`, nil).seen(t)
	for _, status := range []string{"502", "504"} {
		n.invoke(id, "", mode("echo", "Status", status))
	}
	if !marked(t, n, id) {
		t.Error("the container was ended")
	}
	n.invoke(id, "", mode("echo", "Status", "500"))
	if marked(t, n, id) {
		t.Error("a container that answered nonsense was kept")
	}
}

func TestContainersThatDoNotStart(t *testing.T) {
	n := startNode(t, map[string]string{"FN_HOT_START_TIMEOUT_MSECS": "1500"})
	for name, test := range map[string]struct {
		config  object
		status  int
		message string
	}{
		"exits at once":          {object{"ENABLE_INIT_EXIT": "1"}, 502, initFailed},
		"exits with 0":           {object{"ENABLE_INIT_EXIT": "0"}, 502, initFailed},
		"exits after a while":    {object{"ENABLE_INIT_EXIT": "1", "ENABLE_INIT_DELAY_MSEC": "300"}, 502, initFailed},
		"never opens its socket": {object{"ENABLE_INIT_DELAY_MSEC": "20000"}, 504, initTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			id := n.fn(object{"config": test.config})
			n.invoke(id, "", nil).wantError(t, test.status, test.message)
		})
	}
	if got := n.invoke(n.fn(nil), "x", mode("echo")); got.status != 200 {
		t.Errorf("a good function afterwards: %d %s", got.status, got.body)
	}
}

func TestTimeoutEndsTheCallAndItsContainer(t *testing.T) {
	n := startNode(t, nil)
	id := n.fn(object{"timeout": 1})
	n.invoke(id, `{"createFile":"/tmp/mark","createFileSize":1}`, nil).seen(t)
	for name, header := range map[string]map[string]string{"sleep": nil, "hang": mode("hang")} {
		t.Run(name, func(t *testing.T) {
			got := n.invoke(id, `{"sleepTime":5000}`, header)
			got.wantError(t, 504, "Timed out")
			if got.took < 900*time.Millisecond || got.took > 3*time.Second {
				t.Errorf("after %v", got.took)
			}
			if len(got.header.Get("Fn-Call-Id")) != 26 {
				t.Error("no call ID")
			}
			if marked(t, n, id) {
				t.Error("the container was kept")
			}
		})
	}
}

func TestImagesThatAreNotThere(t *testing.T) {
	n := startNode(t, nil)
	t.Run("registry refuses connections", func(t *testing.T) {
		got := n.invoke(n.fn(object{"image": "127.0.0.1:1/no/such:1"}), "", nil)
		if got.status != 502 || !strings.Contains(got.body, "Failed to pull image '127.0.0.1:1/no/such:1'") || !strings.Contains(got.body, "connection refused") {
			t.Errorf("got %d %q", got.status, got.body)
		}
	})
	t.Run("not an image name", func(t *testing.T) {
		got := n.invoke(n.fn(object{"image": "Not An Image"}), "", nil)
		if got.status < 400 || got.status > 502 || !strings.Contains(got.body, "Not An Image") {
			t.Errorf("got %d %q", got.status, got.body)
		}
	})
}

func TestFunctionLargerThanTheNode(t *testing.T) {
	n := startNode(t, map[string]string{"FN_MAX_TOTAL_MEMORY_BYTES": strconv.Itoa(1 << 30)})
	id := n.fn(object{"memory": 2048})
	path := n.trigger(id, "/large")
	for _, got := range []answer{n.invoke(id, "", nil), n.send("POST", path, "", nil)} {
		got.wantError(t, 400, "Requested CPU/Memory cannot be allocated")
		if got.header.Get("Fn-Call-Id") != "" {
			t.Error("it has a call ID")
		}
	}
}

func TestBusyNode(t *testing.T) {
	for name, settings := range map[string]map[string]string{
		"waits":      {"FN_QUEUE_TIMEOUT": "1"},
		"fails fast": {"FN_ENABLE_NB_RESOURCE_TRACKER": "true"},
	} {
		t.Run(name, func(t *testing.T) {
			settings["FN_MAX_TOTAL_MEMORY_BYTES"] = strconv.Itoa(300 << 20)
			n := startNode(t, settings)
			id := n.fn(object{"memory": 256})
			running := make(chan answer, 1)
			go func() {
				got, err := n.do(n.request("POST", "/invoke/"+id, `{"sleepTime":3000}`, nil))
				if err != nil {
					t.Error(err)
				}
				running <- got
			}()
			n.awaitLog(t, func(log string) bool { return strings.Contains(log, "instance ready") })
			got := n.invoke(n.fn(object{"memory": 256}), "", nil)
			got.wantError(t, 503, "Timed out - server too busy")
			if got.header.Get("Retry-After") != "15" {
				t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
			}
			if got := <-running; got.status != 200 {
				t.Errorf("the running call: %d %s", got.status, got.body)
			}
		})
	}
}

// awaitLog waits until the server's log says something.
func (s *server) awaitLog(t *testing.T, says func(log string) bool) {
	t.Helper()
	eventually(t, 20*time.Second, func() bool { return says(s.log.String()) }, func() string {
		return "the log does not say what was expected:\n" + s.log.String()
	})
}

func TestRequestLimits(t *testing.T) {
	n := startNode(t, map[string]string{"FN_MAX_REQUEST_SIZE": "32256"})
	id := n.fn(nil)
	large := strings.Repeat("x", 43000)
	n.invoke(id, large, mode("count")).wantError(t, 413, "Content-Length too large for this server, 43000 > max 32256")
	request := n.request("POST", "/invoke/"+id, large, mode("count"))
	request.ContentLength = -1
	got, err := n.do(request)
	if err != nil {
		t.Fatal(err)
	}
	got.wantError(t, 413, "Request content too large")
	request = n.request("POST", "/v2/apps", `{"name":"`+large+`"}`, nil)
	request.ContentLength = -1
	if got, err = n.do(request); err != nil {
		t.Fatal(err)
	}
	got.wantError(t, 413, "Request content too large")
	if got := n.invoke(id, large[:32256], mode("count")); got.body != "32256" {
		t.Errorf("at the limit: %d %q", got.status, got.body)
	}
}

func TestSlowClientsAreCutOff(t *testing.T) {
	s := start(t, map[string]string{"FN_NODE_TYPE": "api", "FN_REQUEST_HEADER_READ_TIMEOUT": "500ms", "FN_REQUEST_BODY_READ_TIMEOUT": "500ms"})
	t.Run("header", func(t *testing.T) {
		conn := s.dial(t)
		fmt.Fprint(conn, "POST /v2/apps HTTP/1.1\r\nHost: x\r\nX-Half")
		if rest := readAllWithin(t, conn, 5*time.Second); strings.Contains(rest, "200 OK") {
			t.Errorf("got %q", rest)
		}
	})
	t.Run("body", func(t *testing.T) {
		conn := s.dial(t)
		fmt.Fprint(conn, "POST /v2/apps HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"name\":")
		if rest := readAllWithin(t, conn, 5*time.Second); !strings.Contains(rest, "408 ") || !strings.Contains(rest, "application/json") {
			t.Errorf("got %q", rest)
		}
	})
	if got := s.send("GET", "/", "", nil); got.status != 200 {
		t.Errorf("afterwards: %d", got.status)
	}
}

func (s *server) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func readAllWithin(t *testing.T, conn net.Conn, limit time.Duration) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(conn)
	if err != nil {
		t.Errorf("the server did not close the connection: %v", err)
	}
	return string(rest)
}

func TestClientThatLeavesDoesNotEndTheContainer(t *testing.T) {
	n := startNode(t, nil)
	id := n.fn(nil)
	n.invoke(id, `{"createFile":"/tmp/mark","createFileSize":1}`, nil).seen(t)
	ctx, leave := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer leave()
	request := n.request("POST", "/invoke/"+id, `{"sleepTime":1000}`, nil).WithContext(ctx)
	if _, err := n.do(request); err == nil {
		t.Fatal("the call ended before its client left")
	}
	// Only one instance fits the next call's wait: the one that finishes alone.
	time.Sleep(1200 * time.Millisecond)
	if !marked(t, n, id) {
		t.Error("the container was ended")
	}
}

func TestClientThatLeavesInTheMiddleOfItsRequest(t *testing.T) {
	n := startNode(t, nil)
	id := n.fn(nil)
	if got := n.invoke(id, "warm", mode("echo")); got.body != "warm" {
		t.Fatal(got.body)
	}
	conn := n.dial(t)
	fmt.Fprintf(conn, "POST /invoke/%s HTTP/1.1\r\nHost: x\r\nTestfn-Mode: count\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", id)
	time.Sleep(300 * time.Millisecond)
	conn.Close()
	if got := n.invoke(id, "next", mode("echo")); got.status != 200 || got.body != "next" {
		t.Errorf("the next call: %d %q", got.status, got.body)
	}
}

func TestBodiesAreStreamedBothWays(t *testing.T) {
	n := startNode(t, nil)
	id := n.fn(nil)
	reader, writer := io.Pipe()
	request := n.request("POST", "/invoke/"+id, "", mode("echo"))
	request.Body, request.ContentLength = reader, -1
	answered := make(chan *http.Response, 1)
	go func() {
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Error(err)
		}
		answered <- response
	}()
	fmt.Fprint(writer, "one\n")
	response := <-answered
	if response == nil {
		t.FailNow()
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	for _, line := range []string{"one\n", "two\n", "three\n"} {
		if line != "one\n" {
			fmt.Fprint(writer, line)
		}
		if got, err := lines.ReadString('\n'); got != line || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	writer.Close()
	if rest, err := io.ReadAll(lines); len(rest) != 0 || err != nil {
		t.Errorf("rest %q, %v", rest, err)
	}
}

func TestLargeBodies(t *testing.T) {
	n := startNode(t, nil)
	id := n.fn(nil)
	body := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB
	for _, length := range []int64{int64(len(body)), -1} {
		request := n.request("POST", "/invoke/"+id, body, mode("echo"))
		request.ContentLength = length
		got, err := n.do(request)
		if err != nil || got.status != 200 || got.body != body {
			t.Errorf("length %d: %v, %d, %d bytes", length, err, got.status, len(got.body))
		}
	}
	for _, header := range []map[string]string{
		mode("bytes", "Size", "5300000"), mode("bytes", "Size", "5300000", "Chunked", "1"), mode("bytes", "Size", "5300000", "Close", "1"),
	} {
		if got := n.invoke(id, "", header); got.status != 200 || len(got.body) != 5300000 {
			t.Errorf("%v: %d, %d bytes", header, got.status, len(got.body))
		}
	}
	t.Run("function that answers before it reads", func(t *testing.T) {
		if got := n.invoke(id, body, mode("early")); got.status != 200 || got.body != "early" {
			t.Errorf("got %d %q", got.status, got.body)
		}
		if got := n.invoke(id, "x", mode("echo")); got.body != "x" {
			t.Errorf("the next call: %d %q", got.status, got.body)
		}
	})
	t.Run("function that closes after each answer", func(t *testing.T) {
		for range 20 {
			if got := n.invoke(id, "x", mode("echo", "Close", "1")); got.status != 200 || got.body != "x" {
				t.Fatalf("got %d %q", got.status, got.body)
			}
		}
	})
}

func TestLateFailureCutsTheConnection(t *testing.T) {
	n := startNode(t, nil)
	id := n.fn(object{"timeout": 2})
	for name, header := range map[string]map[string]string{
		"crash":   mode("crash", "Size", "200000"),
		"timeout": mode("chunks", "Count", "100", "Size", "10", "Interval-Ms", "100"),
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := n.do(n.request("POST", "/invoke/"+id, "", header)); err == nil && got.status == 200 {
				t.Errorf("the client took %d bytes for the whole", len(got.body))
			}
			if got := n.invoke(id, "x", mode("echo")); got.body != "x" {
				t.Errorf("the next call: %d %q", got.status, got.body)
			}
		})
	}
}

func TestDetachedCall(t *testing.T) {
	n := startNode(t, nil)
	id := n.fn(nil)
	began := time.Now()
	got := n.invoke(id, `{"sleepTime":1500,"createFile":"/tmp/mark","createFileSize":1}`, map[string]string{"Fn-Invoke-Type": "detached"})
	if got.status != 202 || got.body != "" || len(got.header.Get("Fn-Call-Id")) != 26 {
		t.Errorf("got %d %q", got.status, got.body)
	}
	if got.took > 10*time.Second {
		t.Errorf("after %v", time.Since(began))
	}
	time.Sleep(2 * time.Second)
	if !marked(t, n, id) {
		t.Error("the call did not run to its end in its container")
	}
	n.invoke("nothing", "", map[string]string{"Fn-Invoke-Type": "detached"}).wantError(t, 404, "Fn not found")
}
