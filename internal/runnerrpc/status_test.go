package runnerrpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// statusServer is a server that is not served.
func statusServer(t *testing.T, opts ServerOptions) *Server {
	t.Helper()
	server, err := NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Stop(context.Background()) })
	return server
}

func statusOf(t *testing.T, s *Server, input string) *runnerpb.RunnerStatus {
	t.Helper()
	found, err := s.statusOf(t.Context(), input)
	if err != nil {
		t.Error(err)
		return &runnerpb.RunnerStatus{}
	}
	return found
}

func TestStatusWithoutAnImageIsNumbers(t *testing.T) {
	_, address := serve(t, ServerOptions{Invoker: echo, Status: StatusOptions{KernelDumps: func() uint64 { return 7 }}})
	client := dial(t, address, ClientOptions{})
	response, err := client.Invoke(t.Context(), newCall("x"))
	read(t, response, err)
	got, err := client.Status(t.Context())
	if want := (Status{Received: 1, Handled: 1, KernelDumps: 7}); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestStatusImageIsCalledOnceForAllAndBelievedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		server := statusServer(t, ServerOptions{
			Status: StatusOptions{Image: "status/image"},
			Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
				calls.Add(1)
				fn := call.Fn
				if fn.Image != "status/image" || fn.Memory != 0 || fn.Timeout != 5 || fn.IdleTimeout != 1 || call.Slot != call.ID || call.Container.NoNetwork {
					t.Errorf("called with %+v of %+v", call, fn)
				}
				time.Sleep(100 * time.Millisecond)
				return echo(ctx, call)
			}),
		})
		ids := map[string]int{}
		var mu sync.Mutex
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				found := statusOf(t, server, "{}")
				if found.GetFailed() || found.GetDetails() != "{}" || found.GetSchedulerDuration() != int64(100*time.Millisecond) {
					t.Errorf("got %v", found)
				}
				mu.Lock()
				defer mu.Unlock()
				ids[found.GetId()]++
				if !found.GetCached() {
					ids["fresh"]++
				}
			})
		}
		group.Wait()
		if len(ids) != 2 || ids["fresh"] != 1 || calls.Load() != 1 {
			t.Errorf("got %v from %d calls", ids, calls.Load())
		}
		time.Sleep(1499 * time.Millisecond)
		if found := statusOf(t, server, "{}"); !found.GetCached() || calls.Load() != 1 {
			t.Errorf("it is not believed: %v", found)
		}
		time.Sleep(2 * time.Millisecond)
		if found := statusOf(t, server, "{}"); found.GetCached() || ids[found.GetId()] != 0 || calls.Load() != 2 {
			t.Errorf("it is believed too long: %v", found)
		}
		// Another input is another question.
		if found := statusOf(t, server, `{"a":1}`); found.GetCached() || found.GetDetails() != `{"a":1}` {
			t.Errorf("got %v", found)
		}
	})
}

func TestStatusGoesOnWithoutWhoAskedForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := statusServer(t, ServerOptions{
			Status: StatusOptions{Image: "status/image"},
			Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
				select {
				case <-time.After(time.Second):
					return echo(ctx, call)
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}),
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := server.statusOf(ctx, "{}"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if found := statusOf(t, server, "{}"); found.GetFailed() || !found.GetCached() {
			t.Errorf("got %v", found)
		}
		// But not without an end.
		hung := statusServer(t, ServerOptions{
			Status: StatusOptions{Image: "status/image"},
			Invoker: invoke.InvokerFunc(func(ctx context.Context, _ *invoke.Call) (*invoke.Response, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}),
		})
		began := time.Now()
		if found := statusOf(t, hung, "{}"); !found.GetFailed() || time.Since(began) != time.Minute {
			t.Errorf("got %v after %v", found, time.Since(began))
		}
	})
}

func TestFailuresOfTheStatusImage(t *testing.T) {
	for name, test := range map[string]struct {
		invoker invoke.InvokerFunc
		code    int32
		text    string
	}{
		"it fails":       {func(context.Context, *invoke.Call) (*invoke.Response, error) { return nil, model.ErrCallTimeout }, 504, "Timed out"},
		"it cannot work": {func(context.Context, *invoke.Call) (*invoke.Response, error) { return nil, errors.New("why") }, 0, "why"},
		"it says so": {func(context.Context, *invoke.Call) (*invoke.Response, error) {
			return &invoke.Response{Header: http.Header{"Fn-Http-Status": {"531"}}, Body: invoke.HoldBody([]byte("bad"))}, nil
		}, 531, "the status image answers 531"},
	} {
		server := statusServer(t, ServerOptions{Status: StatusOptions{Image: "status/image"}, Invoker: test.invoker})
		if found := statusOf(t, server, "{}"); !found.GetFailed() || found.GetErrorCode() != test.code || found.GetErrorStr() != test.text {
			t.Errorf("%s: got %v", name, found)
		}
	}
}

func TestCheckComesBeforeTheImage(t *testing.T) {
	var failure error
	calls := 0
	opts := ServerOptions{
		Status: StatusOptions{Image: "status/image", Check: func(context.Context) (map[string]string, error) {
			return map[string]string{"disk": "full"}, failure
		}},
		Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
			calls++
			return echo(ctx, call)
		}),
	}
	if found := statusOf(t, statusServer(t, opts), "{}"); found.GetFailed() || found.GetCustomStatus()["disk"] != "full" || calls != 1 {
		t.Errorf("got %v", found)
	}
	failure = &model.Error{Kind: model.ErrRemote, Status: 450, Message: "custom"}
	if found := statusOf(t, statusServer(t, opts), "{}"); !found.GetFailed() || found.GetErrorCode() != 450 || found.GetErrorStr() != "custom" || found.GetCustomStatus()["disk"] != "full" || calls != 1 {
		t.Errorf("got %v", found)
	}
}

// A look is on no goroutine of gRPC's, where panics are recovered from.
func TestPanicOfAStatusLookIsAFailedStatus(t *testing.T) {
	panics := invoke.InvokerFunc(func(context.Context, *invoke.Call) (*invoke.Response, error) { panic("for the test") })
	for name, opts := range map[string]ServerOptions{
		"the image's call": {Invoker: panics, Status: StatusOptions{BarrierFile: "/nowhere/ready"}},
		"the check": {Invoker: echo, Status: StatusOptions{
			BarrierFile: "/nowhere/ready", Check: func(context.Context) (map[string]string, error) { panic("for the test") },
		}},
	} {
		var log strings.Builder
		opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
		opts.Status.Image = "status/image"
		server := statusServer(t, opts)
		for range 2 { // also for those who ask a moment later
			if found := statusOf(t, server, "{}"); !found.GetFailed() || found.GetErrorStr() != "the runner panicked" || !found.GetIsNetworkDisabled() {
				t.Errorf("%s: got %v", name, found)
			}
		}
		if text := log.String(); strings.Count(text, "for the test") != 1 || !strings.Contains(text, "status_test.go") {
			t.Errorf("%s: the log says %q", name, text)
		}
	}
}

// seenStatus counts what an observer is told.
type seenStatus map[string]int

func (s seenStatus) StatusChecked(cached, success, networkDisabled bool) {
	s[fmt.Sprint(cached, success, networkDisabled)]++
}

func TestThereIsNoNetworkBeforeTheBarrierFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		barrier := filepath.Join(t.TempDir(), "ready")
		var without []bool
		seen := seenStatus{}
		server := statusServer(t, ServerOptions{
			Status: StatusOptions{Image: "status/image", BarrierFile: barrier, Observer: seen},
			Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
				without = append(without, call.Container.NoNetwork)
				return echo(ctx, call)
			}),
		})
		if found := statusOf(t, server, "{}"); found.GetFailed() || !found.GetIsNetworkDisabled() {
			t.Errorf("got %v", found)
		}
		if err := os.WriteFile(barrier, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if found := statusOf(t, server, "{}"); !found.GetIsNetworkDisabled() || !found.GetCached() {
			t.Errorf("got %v", found)
		}
		time.Sleep(2 * time.Second)
		if found := statusOf(t, server, "{}"); found.GetIsNetworkDisabled() {
			t.Errorf("got %v", found)
		}
		if fmt.Sprint(without, seen) != "[true false] map[false true false:1 false true true:1 true true true:1]" {
			t.Errorf("got %v, %v", without, seen)
		}
	})
}

func TestStatus2GivesTheImageItsInput(t *testing.T) {
	_, address := serve(t, ServerOptions{Invoker: echo, Status: StatusOptions{Image: "status/image"}})
	input, err := structpb.NewStruct(map[string]any{"a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	found, err := peer(t, address).Status2(t.Context(), input)
	if err != nil || found.GetDetails() != `{"a":"b"}` || found.GetRequestsReceived() != 0 {
		t.Errorf("got %v, %v", found, err)
	}
	client := dial(t, address, ClientOptions{})
	got, err := client.Status(t.Context())
	if err != nil || got.Details != "{}" || got.CallID == "" || got.Created.IsZero() || got.Completed.Before(got.Created) {
		t.Errorf("got %+v, %v", got, err)
	}
}
