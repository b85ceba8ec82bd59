package runnerrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// executions counts calls by their identifiers.
type executions struct {
	waysSeen
	mu    sync.Mutex
	times map[string]int
}

func (e *executions) Invoke(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
	e.mu.Lock()
	e.times[call.ID]++
	e.mu.Unlock()
	return e.waysSeen.Invoke(ctx, call)
}

// Two runners are replaced one after the other while load balancers go on calling: what a
// runner refuses, the other one takes, and nothing is lost or executed twice.
func TestRollingReplacementLosesNoCall(t *testing.T) {
	done := &executions{waysSeen: waysSeen{Invoker: echo}, times: map[string]int{}}
	var servers [2]*Server
	var addresses [2]string
	var clients [2]*Client
	for i := range servers {
		servers[i], addresses[i] = start(t, ownAddress(), ServerOptions{Invoker: done})
		clients[i] = dialDirect(t, addresses[i], ClientOptions{})
	}
	ctx := within(t)
	var stop atomic.Bool
	var callers sync.WaitGroup
	var refused, calls atomic.Int64
	call := func(g, i int) error {
		text := fmt.Sprintf("%d of %d ", i, g)
		if i%5 == 0 {
			text = strings.Repeat(text, 5000) // is refused when a part of it was sent
		}
		call := newCall(text)
		for try := g + i; ; try++ {
			response, err := clients[try%2].Invoke(ctx, call)
			if errors.Is(err, invoke.ErrNotPlaced) && ctx.Err() == nil {
				refused.Add(1)
				time.Sleep(time.Millisecond / 4)
				continue
			}
			if err != nil {
				return err
			}
			got, err := io.ReadAll(response.Body)
			response.Body.Close()
			if string(got) != text || err != nil {
				return fmt.Errorf("got %.50q, %w, want %.50q", got, err, text)
			}
			done.mu.Lock()
			defer done.mu.Unlock()
			if times := done.times[call.ID]; times != 1 {
				return fmt.Errorf("it was executed %d times", times)
			}
			return nil
		}
	}
	for g := range 8 {
		callers.Go(func() {
			for i := 0; !stop.Load(); i++ {
				if err := call(g, i); err != nil {
					t.Errorf("call %d of %d: %v", i, g, err)
					return
				}
				calls.Add(1)
			}
		})
	}
	for round := range 4 {
		time.Sleep(30 * time.Millisecond)
		i := round % 2
		stopping, cancel := context.WithTimeout(t.Context(), patience)
		if err := servers[i].Stop(stopping); err != nil {
			t.Error(err)
		}
		cancel()
		time.Sleep(10 * time.Millisecond) // it is away
		servers[i], _ = start(t, addresses[i], ServerOptions{Invoker: done})
		awaitDirect(t, clients[i])
	}
	stop.Store(true)
	callers.Wait()
	if refused.Load() == 0 || done.direct.Load() < calls.Load()/2 {
		t.Errorf("of %d calls, %d were refused first, %d went directly", calls.Load(), refused.Load(), done.direct.Load())
	}
	if executed := done.direct.Load() + done.grpc.Load(); executed != calls.Load() {
		t.Errorf("%d calls were executed, %d have succeeded", executed, calls.Load())
	}
}

func TestStopCutsCallsAtItsDeadlineOnEachWay(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		begun := make(chan struct{})
		server, client := w.connect(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, _ *invoke.Call) (*invoke.Response, error) {
			close(begun)
			<-ctx.Done()
			return nil, ctx.Err()
		})})
		failed := make(chan error, 1)
		ctx := within(t)
		go func() {
			_, err := client.Invoke(ctx, newCall("x"))
			failed <- err
		}()
		await(t, begun, "the invoker")
		now, cancel := context.WithCancel(t.Context())
		cancel()
		if err := server.Stop(now); err == nil || !strings.Contains(err.Error(), "1 calls") {
			t.Errorf("got %v", err)
		}
		// Nobody knows what became of it.
		if err := await(t, failed, "the call's end"); err == nil || errors.Is(err, invoke.ErrNotPlaced) {
			t.Errorf("got %v", err)
		}
	})
}

// proxy is a way to a runner that can freeze: nothing comes through any more, and nobody
// is told.
type proxy struct {
	address string
	gate    sync.RWMutex
}

// through runs a proxy until the test ends.
func through(t *testing.T, target string) *proxy {
	t.Helper()
	listener := listen(t)
	p := &proxy{address: listener.Addr().String()}
	var copies sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	copies.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				near.Close()
				continue
			}
			mu.Lock()
			open = append(open, near, far)
			mu.Unlock()
			copies.Go(func() { p.copy(near, far) })
			copies.Go(func() { p.copy(far, near) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for _, conn := range open {
			conn.Close()
		}
		mu.Unlock()
		copies.Wait()
	})
	return p
}

func (p *proxy) copy(to, from net.Conn) {
	room := make([]byte, 32<<10)
	for {
		n, err := from.Read(room)
		p.gate.RLock()
		if n > 0 {
			if _, failed := to.Write(room[:n]); failed != nil {
				err = failed
			}
		}
		if err != nil {
			to.Close()
			from.Close()
		}
		p.gate.RUnlock()
		if err != nil {
			return
		}
	}
}

func TestCallsOnAFrozenRunnerFail(t *testing.T) {
	over := make(chan bool, 2) // gRPC
	_, address := serve(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
		switch call.Slot {
		case "waits":
			over <- isOverGRPC(ctx)
			<-ctx.Done()
			return nil, ctx.Err()
		case "answers":
			over <- isOverGRPC(ctx)
			body := io.MultiReader(strings.NewReader("part"), readerFunc(func([]byte) (int, error) { <-ctx.Done(); return 0, ctx.Err() }))
			return &invoke.Response{Header: http.Header{}, Body: io.NopCloser(body), ContentLength: -1, Timing: &invoke.Timing{}}, nil
		}
		return echo(ctx, call)
	})})
	way := through(t, address)
	client := dialDirect(t, way.address, ClientOptions{Connection: Connection{KeepAliveIdle: 30 * time.Millisecond, KeepAliveTimeout: 300 * time.Millisecond}})
	ctx := within(t)
	failed := make(chan error, 2)
	for _, slot := range []string{"waits", "answers"} {
		call := newCall("x")
		call.Slot = slot
		go func() {
			response, err := client.Invoke(ctx, call)
			if err == nil {
				_, err = io.ReadAll(response.Body)
				response.Body.Close()
			}
			failed <- err
		}()
		if await(t, over, "the invoker") {
			t.Fatal("the call went over gRPC")
		}
	}
	time.Sleep(200 * time.Millisecond) // a runner that answers is not lost, however long a call lasts
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	way.gate.Lock()
	var thaw sync.Once
	defer thaw.Do(way.gate.Unlock)
	for range 2 {
		err := await(t, failed, "the end of the calls")
		if err == nil || !strings.Contains(err.Error(), "was lost") || !strings.Contains(err.Error(), "does not answer") {
			t.Errorf("got %v", err)
		}
		if errors.Is(err, invoke.ErrNotPlaced) || model.Describe(err).Kind != model.ErrInternal {
			t.Errorf("nobody knows what became of it: %v", err)
		}
	}
	if stream := client.direct.Open(ctx); stream != nil {
		stream.Close()
		t.Error("it is still called directly")
	}
	thaw.Do(way.gate.Unlock)
	awaitDirect(t, client)
	works(ctx, t, client)
}
