package runner

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/internal/pool"
	"github.com/tinefn/tine/internal/sockdir"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib = 1 << 20

// bench is a runner with a pool and an engine whose containers are handlers of
// this process behind real sockets.
type bench struct {
	*Runner
	engine *fake.Engine
	pool   *pool.Pool
}

func newBench(t *testing.T, function http.HandlerFunc, change func(*Options)) *bench {
	t.Helper()
	return newBenchOn(t, fake.New(fake.Options{Handler: function}), change)
}

func newBenchOn(t *testing.T, engine *fake.Engine, change func(*Options)) *bench {
	t.Helper()
	sockets, err := sockdir.New(sockdir.Options{Root: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	p := pool.New(pool.Options{
		Driver: engine, Logger: slog.New(slog.DiscardHandler), NewSession: NewSession,
		Sockets: func() (pool.SocketDir, error) { return sockets.Create() },
		Total:   capacity.Amount{MemoryBytes: 256 * mib, MilliCPU: 1000}, StartTimeout: 5 * time.Second, QueueTimeout: 10 * time.Second,
		FreezeAfter: -1,
	})
	opts := Options{Pool: p, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&opts)
	}
	b := &bench{Runner: New(opts), engine: engine, pool: p}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
		b.Close()
		if err := errors.Join(engine.Close(ctx), sockets.Close()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// newTestCall makes a call with a body of known length.
func newTestCall(body string) *invoke.Call {
	return &invoke.Call{
		ID: model.NewID(), App: &model.App{ID: "app", Name: "shop"},
		Fn:     &model.Fn{ID: "fn", AppID: "app", Name: "pay", Image: "image", Memory: 64, Timeout: 5, IdleTimeout: 30},
		Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// run executes a call and reads its answer.
func (b *bench) run(ctx context.Context, call *invoke.Call) (http.Header, string, error) {
	response, err := b.Invoke(ctx, call)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(response.Body)
	return response.Header, string(body), errors.Join(err, response.Body.Close())
}

// mustRun executes a call that must succeed.
func (b *bench) mustRun(t *testing.T, call *invoke.Call) string {
	t.Helper()
	_, body, err := b.run(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// wantContainers checks that the next call works and how many containers it took.
func (b *bench) wantContainers(t *testing.T, want int) {
	t.Helper()
	b.mustRun(t, newTestCall("next"))
	if got := b.engine.Calls(fake.OpCreate); got != want {
		t.Errorf("%d containers were made, want %d", got, want)
	}
}

func TestTimeoutEndsTheCallAndTheInstance(t *testing.T) {
	var calls atomic.Int32
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			<-r.Context().Done()
		}
	}, nil)
	call := newTestCall("x")
	call.Fn.Timeout = 1
	began := time.Now()
	if _, _, err := b.run(t.Context(), call); !errors.Is(err, model.ErrCallTimeout) {
		t.Fatal(err)
	}
	if took := time.Since(began); took < time.Second || took > 3*time.Second {
		t.Errorf("after %v", took)
	}
	b.wantContainers(t, 2)
}

func TestCallerThatLeavesGetsAwayAndTheInstanceIsKept(t *testing.T) {
	entered, release := make(chan struct{}, 1), make(chan struct{})
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Wait") != "" {
			entered <- struct{}{}
			<-release
		}
		fake.Echo(w, r)
	}, nil)
	ctx, leave := context.WithCancel(t.Context())
	call := newTestCall("x")
	call.Header.Set("Wait", "1")
	ended := make(chan error, 1)
	go func() {
		_, _, err := b.run(ctx, call)
		ended <- err
	}()
	<-entered
	leave()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	awaitIdle(t, b.pool)
	b.wantContainers(t, 1)
}

func awaitIdle(t *testing.T, p *pool.Pool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); p.Stats().Idle == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no instance became idle: %+v", p.Stats())
		}
	}
}

func TestOnStartIsCalledOnceWhenTheCallBegins(t *testing.T) {
	var started atomic.Int32
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		if started.Load() != 1 {
			w.WriteHeader(500)
		}
	}, nil)
	for range 2 {
		started.Store(0)
		call := newTestCall("")
		call.OnStart = func() { started.Add(1) }
		b.mustRun(t, call)
	}
}

func TestTooLargeFunctionIsRefused(t *testing.T) {
	b := newBench(t, fake.Echo, nil)
	call := newTestCall("")
	call.Fn.Memory = 257
	if _, _, err := b.run(t.Context(), call); !errors.Is(err, model.ErrTooBigForNode) {
		t.Errorf("got %v", err)
	}
}

func TestParallelCallsOnAFewInstances(t *testing.T) {
	b := newBench(t, fake.Echo, nil)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			body := strings.Repeat(strconv.Itoa(i), 100)
			if _, got, err := b.run(t.Context(), newTestCall(body)); err != nil || got != body {
				t.Errorf("call %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
	if most := b.engine.MaxLive(); most > 4 {
		t.Errorf("%d containers at a time on a machine for 4", most)
	}
}
