package placement

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// fake is a runner that does what a function says.
type fake struct {
	address string
	invoke  invoke.InvokerFunc
	calls   atomic.Int64

	mu     sync.Mutex // guards closed
	closed chan struct{}
}

func (f *fake) Invoke(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
	f.calls.Add(1)
	return f.invoke(ctx, call)
}

func (f *fake) Address() string { return f.address }

func (f *fake) Close(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed != nil {
		close(f.closed)
		f.closed = nil
	}
	return nil
}

// The errors of attempts.
var (
	errUnreachable = fmt.Errorf("dial: connection refused: %w", invoke.ErrNotPlaced)
	errNoRoom      = fmt.Errorf("%w: %w", model.ErrServerBusy, invoke.ErrNotPlaced)
	errLost        = errors.New("rpc error: connection reset")
)

func failWith(err error) invoke.InvokerFunc {
	return func(context.Context, *invoke.Call) (*invoke.Response, error) { return nil, err }
}

func answerWith(text string) invoke.InvokerFunc {
	return func(context.Context, *invoke.Call) (*invoke.Response, error) {
		return &invoke.Response{Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text))}, nil
	}
}

// takes answers after a while.
func takes(d time.Duration) invoke.InvokerFunc {
	return func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
		select {
		case <-time.After(d):
			return answerWith("done")(ctx, call)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// fixed is a pool of the same runners and the same error, until they are set anew.
type fixed struct {
	mu      sync.Mutex
	runners []Runner
	err     error
	asked   int
}

func poolOf(fakes ...*fake) *fixed {
	p := &fixed{}
	for _, f := range fakes {
		p.runners = append(p.runners, f)
	}
	return p
}

func (p *fixed) Runners(context.Context, *invoke.Call) ([]Runner, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	return p.runners, p.err
}

func (p *fixed) set(runners ...Runner) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.runners = runners
}

func (p *fixed) Close(ctx context.Context) error {
	for _, r := range p.runners {
		if err := r.Close(ctx); err != nil {
			return err
		}
	}
	return nil
}

func policies() map[string]func() Policy {
	return map[string]func() Policy{
		"naive": NewNaive, "ch": func() Policy { return NewRing(0) }, "p2c": NewChoices,
	}
}

// eachPolicy runs a test with all policies.
func eachPolicy(t *testing.T, test func(t *testing.T, policy Policy)) {
	for name, policy := range policies() {
		t.Run(name, func(t *testing.T) { test(t, policy()) })
	}
}

func callOf(fnID string) *invoke.Call {
	return &invoke.Call{ID: "call", Fn: &model.Fn{ID: fnID, Timeout: 30, IdleTimeout: 30}, App: &model.App{}, Header: http.Header{}, Body: http.NoBody}
}

// outcomes remembers what an observer is told.
type outcomes struct {
	mu       sync.Mutex
	outcomes []Outcome
	attempts []int
	waited   []time.Duration
	busy     int
	failed   int
	asked    int
}

func (o *outcomes) PoolAsked(int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
}

func (o *outcomes) NotPlaced(busy bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if busy {
		o.busy++
	} else {
		o.failed++
	}
}

func (o *outcomes) Over(outcome Outcome, attempts int, waited time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.outcomes = append(o.outcomes, outcome)
	o.attempts = append(o.attempts, attempts)
	o.waited = append(o.waited, waited)
}

func (o *outcomes) are(t *testing.T, want ...Outcome) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.Equal(o.outcomes, want) {
		t.Errorf("got outcomes %v, want %v", o.outcomes, want)
	}
}

// finish reads an answer to its end.
func finish(t *testing.T, response *invoke.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return string(data)
}
