package system

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
)

// protocol is a client of a runner's protocol, as generated code has it.
func protocol(t *testing.T, runner *node) runnerpb.RunnerProtocolClient {
	t.Helper()
	conn, err := grpc.NewClient(runner.address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return runnerpb.NewRunnerProtocolClient(conn)
}

// ask asks as load balancers of Fn do.
func ask(ctx context.Context, of runnerpb.RunnerProtocolClient) (*runnerpb.RunnerStatus, error) {
	return of.Status(ctx, &emptypb.Empty{}) //nolint:staticcheck // see above
}

func status(t *testing.T, of runnerpb.RunnerProtocolClient) *runnerpb.RunnerStatus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got, err := ask(ctx, of)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// statusTTL is longer than a runner's status is believed.
const statusTTL = 2 * time.Second

func TestStatusOfRunners(t *testing.T) {
	needRoot(t)
	barrier := filepath.Join(t.TempDir(), "barrier")
	c := startCluster(t, plan{runner: map[string]string{"FN_RUNNER_STATUS_IMAGE": testFn.Other, "FN_RUNNER_NETWORK_BARRIER": barrier}})
	c.wantNext(c.fn(nil))
	runner := protocol(t, c.runners[0])
	c.try("nobody else calls the status image", func(t *testing.T) {
		c.invoke(c.fn(object{"image": testFn.Other}), "", nil).wantError(t, 400, "Invalid Fn image")
	})
	c.try("the network is disabled until the file is there", func(t *testing.T) {
		if got := status(t, runner); got.GetFailed() || !got.GetIsNetworkDisabled() {
			t.Errorf("without the file: %v", got)
		}
		if err := os.WriteFile(barrier, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(statusTTL)
		if got := status(t, runner); got.GetFailed() || got.GetIsNetworkDisabled() {
			t.Errorf("with the file: %v", got)
		}
	})
	c.try("who asks at the same time gets the same", func(t *testing.T) {
		ids := map[string]bool{}
		for range 3 {
			results := make(chan *runnerpb.RunnerStatus, 10)
			for range cap(results) {
				go func() {
					got, err := ask(t.Context(), runner)
					if err != nil {
						t.Error(err)
					}
					results <- got
				}()
			}
			for range cap(results) {
				got := <-results
				if got.GetFailed() || got.GetId() == "" {
					t.Errorf("got %v", got)
				}
				ids[got.GetId()] = true
			}
		}
		if len(ids) > 3 {
			t.Errorf("the image was called %d times", len(ids))
		}
		time.Sleep(statusTTL)
		// The load balancer asks too, so that an answer may be another's of just before.
		if got := status(t, runner); ids[got.GetId()] {
			t.Errorf("after a while: %v", got)
		}
		eventually(t, 10*time.Second, func() bool { return status(t, runner).GetCached() }, func() string { return "no answer is one of before" })
	})
	c.try("the image gets what was asked", func(t *testing.T) {
		asked, err := structpb.NewStruct(object{"echoContent": "are you there"})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(statusTTL)
		got, err := runner.Status2(t.Context(), asked)
		if err != nil {
			t.Fatal(err)
		}
		var details seen
		if err := json.Unmarshal([]byte(got.GetDetails()), &details); err != nil || details.Request["echoContent"] != "are you there" {
			t.Errorf("got %v: %v", got, err)
		}
	})
	c.try("calls are counted", func(t *testing.T) {
		sum := uint64(0)
		for _, r := range c.runners {
			got := status(t, protocol(t, r))
			if got.GetActive() != 0 {
				t.Errorf("%d calls in progress", got.GetActive())
			}
			sum += got.GetRequestsHandled()
		}
		if sum == 0 {
			t.Error("no runner has handled a call")
		}
	})
	c.try("what an embedding program has not added", func(t *testing.T) {
		if _, err := runner.ConfigureRunner(t.Context(), &runnerpb.ConfigMsg{Config: map[string]string{"A": "b"}}); err != nil {
			t.Error(err)
		}
		c.runners[0].awaitLog("ConfigureRunner")
		logs, err := runner.StreamLogs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := logs.Recv(); err == nil {
			t.Error("logs are streamed that nobody has")
		}
	})
}
