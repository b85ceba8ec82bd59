package node_test

import (
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/internal/runnerrpc"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
	"github.com/tinefn/tine/node"
)

// diary notes what hooks on several nodes see.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func (d *diary) listener(where string, ended chan<- struct{}) invoke.CallListener {
	return invoke.CallListener{
		BeforeCall: func(_ context.Context, call *invoke.Call) error {
			d.note(where + " before " + call.Extensions["from"])
			if call.Header.Get("Refuse") == where {
				return errRefused
			}
			return nil
		},
		AfterCall: func(_ context.Context, call *invoke.Call, outcome invoke.Outcome) error {
			d.note(where + " after " + outcome.Status)
			ended <- struct{}{}
			return nil
		},
	}
}

// runLB starts a runner, and a load balancer that has its definitions from source.
func runLB(t *testing.T, source definitions, runner, lb node.Options) (r, l *embedded) {
	t.Helper()
	runner.Environ = append(runner.Environ, "FN_NODE_TYPE=pure-runner", "FN_GRPC_PORT=0")
	r = run(t, runner)
	lb.Environ = append(lb.Environ, "FN_NODE_TYPE=lb")
	if lb.RunnerPool == nil {
		lb.Environ = append(lb.Environ, "FN_RUNNER_ADDRESSES="+r.node.RunnerAddress())
	}
	lb.Source = source
	return r, run(t, lb)
}

// definitions is a source with one function, as a program may have its own.
type definitions struct{}

func (definitions) AppByID(_ context.Context, id string) (*model.App, error) {
	if id != "a" {
		return nil, model.ErrAppNotFound
	}
	return &model.App{ID: "a", Name: "app"}, nil
}

func (definitions) AppIDByName(context.Context, string) (string, error) { return "a", nil }

func (definitions) FnByID(_ context.Context, id string) (*model.Fn, error) {
	if id != "f" {
		return nil, model.ErrFnNotFound
	}
	return &model.Fn{ID: "f", AppID: "a", Name: "fn", Image: "any", Memory: 64, Timeout: 5, IdleTimeout: 30}, nil
}

func (definitions) TriggerBySource(context.Context, string, string, string) (*model.Trigger, error) {
	return nil, model.ErrTriggerNotFound
}

func (e *embedded) call(header string, value string) (int, string) {
	e.t.Helper()
	request, err := http.NewRequest("POST", e.url+"/invoke/f", strings.NewReader("x"))
	if err != nil {
		e.t.Fatal(err)
	}
	if header != "" {
		request.Header.Set(header, value)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		e.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestHooksOnLoadBalancerAndRunner(t *testing.T) {
	var d diary
	ended := make(chan struct{}, 4)
	engine := fake.New(fake.Options{})
	runner, lb := runLB(t, definitions{}, node.Options{
		Driver: engine,
		Override: func(r *http.Request, call *invoke.Call, extensions map[string]string) (map[string]string, error) {
			d.note("runner override " + extensions["from"])
			if r != nil {
				t.Error("a runner has no request")
			}
			if extensions["reject"] != "" {
				return nil, errRefused
			}
			extended := maps.Clone(extensions)
			extended["FN_CHEESE"] = "of " + extensions["from"]
			return extended, nil
		},
		CallListeners: []invoke.CallListener{d.listener("runner", ended)},
		WrapDriver:    []func(driver.Driver) driver.Driver{func(stock driver.Driver) driver.Driver { return flavoured{stock} }},
	}, node.Options{
		Override: func(r *http.Request, call *invoke.Call, extensions map[string]string) (map[string]string, error) {
			d.note("lb override")
			if r.Header.Get("Refuse") == "override" {
				return nil, errRefused
			}
			call.Fn.Memory, call.Container = 96, invoke.Container{MilliCPU: 250, TmpMiB: 3}
			call.Fn.Config = model.Config{"ADDED": "by the lb"}
			return map[string]string{"from": "lb", "reject": r.Header.Get("Reject")}, nil
		},
		CallListeners: []invoke.CallListener{d.listener("lb", ended)},
	})
	for _, test := range []struct {
		header, value string
		status        int
		lines         []string
	}{
		{"", "", 200, []string{"lb override", "lb before lb", "runner override lb", "runner before lb", "runner after success", "lb after success"}},
		{"Refuse", "override", 402, []string{"lb override"}},
		{"Refuse", "lb", 402, []string{"lb override", "lb before lb"}},
		{"Refuse", "runner", 402, []string{"lb override", "lb before lb", "runner override lb", "runner before lb", "lb after error"}},
		{"Reject", "yes", 402, []string{"lb override", "lb before lb", "runner override lb", "lb after error"}},
	} {
		d.lines = nil
		if status, body := lb.call(test.header, test.value); status != test.status {
			t.Errorf("%s %s: %d %s", test.header, test.value, status, body)
		}
		for _, line := range test.lines {
			if strings.Contains(line, "after") {
				<-ended
			}
		}
		d.mu.Lock()
		slices.Sort(d.lines) // both nodes hear of the end at the same time
		want := slices.Sorted(slices.Values(test.lines))
		if diff := cmp.Diff(want, d.lines); diff != "" {
			t.Errorf("%s %s: (-want +got)\n%s", test.header, test.value, diff)
		}
		d.mu.Unlock()
	}
	containers := engine.Containers()
	if len(containers) != 1 {
		t.Fatalf("%d containers", len(containers))
	}
	spec := containers[0].Spec()
	if !slices.Contains(spec.Env, "FN_CHEESE=of lb") || !slices.Contains(spec.Env, "ADDED=by the lb") || spec.Limits.MemoryBytes != 96<<20 ||
		spec.Limits.MilliCPU != 250 || spec.Limits.TmpMiB != 3 || spec.Extensions["from"] != "lb" {
		t.Errorf("container of %+v", spec)
	}
	lb.end()
	runner.end()
}

// onePool is a pool of a program.
type onePool struct {
	runner invoke.Runner
	closed bool
}

func (p *onePool) Runners(context.Context, *invoke.Call) ([]invoke.Runner, error) {
	return []invoke.Runner{p.runner}, nil
}

func (p *onePool) Close(ctx context.Context) error {
	p.closed = true
	return p.runner.Close(ctx)
}

func TestRunnersAndPlacementOfAProgram(t *testing.T) {
	for _, own := range []bool{false, true} { // placer
		var pool *onePool
		var placed int
		started := run(t, node.Options{Driver: fake.New(fake.Options{}), Environ: []string{"FN_NODE_TYPE=pure-runner", "FN_GRPC_PORT=0"}})
		opts := node.Options{
			Environ: []string{"FN_NODE_TYPE=lb"}, Source: definitions{},
			RunnerPool: func(dial func(string) (invoke.Runner, error)) (invoke.RunnerPool, error) {
				runner, err := dial(started.node.RunnerAddress())
				pool = &onePool{runner: runner}
				return pool, err
			},
		}
		if own {
			opts.Placer = func(pool invoke.RunnerPool) (invoke.Invoker, error) {
				return invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
					placed++
					runners, err := pool.Runners(ctx, call)
					if err != nil {
						return nil, err
					}
					return runners[0].Invoke(ctx, call)
				}), nil
			}
		}
		lb := run(t, opts)
		for range 3 {
			if status, body := lb.call("", ""); status != 200 || body != "x" {
				t.Errorf("own placer %v: %d %s", own, status, body)
			}
		}
		lb.want("GET", "/ready", "", 200, "ready")
		lb.want("POST", "/invoke/unknown", "", 404, "Fn not found")
		lb.end()
		if own != (placed == 3) || !pool.closed {
			t.Errorf("own placer %v: placed %d calls, pool closed %v", own, placed, pool.closed)
		}
		started.end()
	}
}

func TestRunnerTellsWhatAProgramKnowsOfIt(t *testing.T) {
	e := run(t, node.Options{
		Driver: fake.New(fake.Options{}), Environ: []string{"FN_NODE_TYPE=pure-runner", "FN_GRPC_PORT=0", "FN_RUNNER_STATUS_IMAGE=status"},
		StatusCheck: func(context.Context) (map[string]string, error) { return map[string]string{"disk": "fine"}, nil },
		KernelDumps: func() uint64 { return 7 },
	})
	defer e.end()
	client, err := runnerrpc.Dial(e.node.RunnerAddress(), runnerrpc.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close(t.Context())
	status, err := client.Status(t.Context())
	if err != nil || status.Custom["disk"] != "fine" || status.KernelDumps != 7 {
		t.Errorf("%+v, %v", status, err)
	}
}
