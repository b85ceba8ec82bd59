package node_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/internal/runnerrpc"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
	"github.com/tinefn/tine/node"
)

// runnerCall is a call as a load balancer makes it.
func runnerCall(body string) *invoke.Call {
	return &invoke.Call{
		ID: model.NewID(), App: &model.App{ID: "app-id", Name: "app"},
		Fn:     &model.Fn{ID: "fn-id", Name: "fn", AppID: "app-id", Image: "any", Memory: 64, Timeout: 30, IdleTimeout: 30},
		Header: http.Header{}, Body: invoke.HoldBody([]byte(body)), ContentLength: int64(len(body)),
	}
}

// readThenEcho reads its request before it answers, as functions behind a load
// balancer must, unless the request says otherwise.
func readThenEcho(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Early") != "" {
		conn := http.NewResponseController(w)
		_ = conn.EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_ = conn.Flush()
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body)
}

func TestRunnerNodeExecutesCallsOfLoadBalancers(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	var calls atomic.Int32
	engine := fake.New(fake.Options{Handler: http.HandlerFunc(readThenEcho)})
	opts := node.Options{
		Driver: engine,
		Environ: []string{
			"FN_NODE_TYPE=pure-runner", "FN_HOST=127.0.0.1", "FN_PORT=0", "FN_GRPC_PORT=0", "FN_IOFS_PATH=" + t.TempDir(),
		},
		Stderr: io.Discard,
		Middleware: []func(invoke.Invoker) invoke.Invoker{func(next invoke.Invoker) invoke.Invoker {
			return invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
				calls.Add(1)
				return next.Invoke(ctx, call)
			})
		}},
	}
	n, err := node.New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()

	client, err := runnerrpc.Dial(n.RunnerAddress(), runnerrpc.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		response, err := client.Invoke(t.Context(), runnerCall("hello"))
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(response.Body); err != nil || string(text) != "hello" {
			t.Errorf("got %q, %v", text, err)
		}
	}
	large := strings.Repeat("0123456789abcdef", 1<<17)
	for _, length := range []int64{-1, int64(len(large))} {
		call := runnerCall("")
		call.Body, call.ContentLength = io.NopCloser(strings.NewReader(large)), length
		response, err := client.Invoke(t.Context(), call)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(response.Body); err != nil || string(text) != large {
			t.Errorf("got %d bytes, %v", len(text), err)
		}
	}
	early := runnerCall("")
	early.Header.Set("Early", "yes")
	never, end := io.Pipe()
	early.Body, early.ContentLength = never, -1
	go end.Write([]byte("x"))
	if _, err := client.Invoke(t.Context(), early); !errors.Is(err, model.ErrFunctionPrematureWrite) {
		t.Errorf("got %v", err)
	}
	end.Close()
	// The definitions are equal, so the instance of the first call serves them all.
	if calls.Load() != 13 || engine.Calls(fake.OpCreate) != 1 {
		t.Errorf("middleware saw %d calls, %d containers", calls.Load(), engine.Calls(fake.OpCreate))
	}
	for path, want := range map[string]int{"/": 200, "/version": 200, "/metrics": 200, "/v2/apps": 404, "/invoke/fn-id": 404} {
		response, err := http.Get(n.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		if response.Body.Close(); response.StatusCode != want {
			t.Errorf("%s: got %d", path, response.StatusCode)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := client.Invoke(t.Context(), runnerCall("late")); !errors.Is(err, invoke.ErrNotPlaced) {
		t.Errorf("of a runner that has stopped: %v", err)
	}
	within, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	if err := client.Close(within); err != nil {
		t.Error(err)
	}
	if engine.Live() != 0 {
		t.Errorf("%d containers left", engine.Live())
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	goleak.VerifyNone(t, ignore)
}

func TestRunnerNodeRefusesHalfOfATLSConfiguration(t *testing.T) {
	for want, setting := range map[string]string{
		"FN_GRPC_TLS_KEY":  "FN_GRPC_TLS_CERT=/none",
		"FN_GRPC_TLS_CERT": "FN_GRPC_TLS_CLIENT_CA=/none",
	} {
		_, err := node.New(t.Context(), node.Options{
			Driver:  fake.New(fake.Options{}),
			Environ: []string{"FN_NODE_TYPE=pure-runner", "FN_HOST=127.0.0.1", "FN_PORT=0", "FN_GRPC_PORT=0", "FN_IOFS_PATH=" + t.TempDir(), setting}, Stderr: io.Discard,
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", setting, err)
		}
	}
}
