package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// counts is an observer that knows the present numbers and the last report.
type counts struct {
	mu                         sync.Mutex
	submitted, queued, running int
	last                       *Report
	reports                    int
}

func (c *counts) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}
func (c *counts) Submitted()      { c.change(func() { c.submitted++ }) }
func (c *counts) Queued(by int)   { c.change(func() { c.queued += by }) }
func (c *counts) Running(by int)  { c.change(func() { c.running += by }) }
func (c *counts) Over(r *Report)  { c.change(func() { c.last, c.reports = r, c.reports+1 }) }
func (c *counts) now() (q, r int) { c.mu.Lock(); defer c.mu.Unlock(); return c.queued, c.running }
func (c *counts) report() *Report { c.mu.Lock(); defer c.mu.Unlock(); return c.last }

func call() *invoke.Call {
	return &invoke.Call{ID: "c1", App: &model.App{ID: "a1"}, Fn: &model.Fn{ID: "f1", AppID: "a1", Image: "img", Timeout: 30}}
}

// balancer is an invoker whose placer tries runners in turn.
func balancer(log io.Writer, runners ...invoke.InvokerFunc) (*Invoker, *counts) {
	seen := new(counts)
	placer := invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (response *invoke.Response, err error) {
		err = model.ErrServerBusy
		for i, r := range runners {
			response, err = Runner(fmt.Sprintf("runner%d:9190", i), r).Invoke(ctx, call)
			if !errors.Is(err, invoke.ErrNotPlaced) {
				return response, err
			}
		}
		return nil, err
	})
	return New(Options{
		Next: placer, Observer: seen, Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}), seen
}

func answering(body io.ReadCloser) invoke.InvokerFunc {
	return func(context.Context, *invoke.Call) (*invoke.Response, error) {
		return &invoke.Response{
			Header: http.Header{"Fn-Http-Status": {"201"}, "Fn-Fdk-Version": {"go/1"}}, Body: body, ContentLength: -1,
			Timing: &invoke.Timing{Queued: 2 * time.Millisecond, FirstByte: 5 * time.Millisecond, Init: 3 * time.Millisecond},
		}, nil
	}
}

func failing(err error) invoke.InvokerFunc {
	return func(context.Context, *invoke.Call) (*invoke.Response, error) { return nil, err }
}

var (
	refused = fmt.Errorf("%w: %w", invoke.ErrNotPlaced, model.ErrServerBusy)
	lost    = errors.New("runner lost")
)

func TestCallIsCountedWhereItIs(t *testing.T) {
	var log bytes.Buffer
	var i *Invoker
	var seen *counts
	where := func(want string) {
		t.Helper()
		q, r := seen.now()
		if got := fmt.Sprintf("%d queued %d running", q, r); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	i, seen = balancer(&log,
		func(context.Context, *invoke.Call) (*invoke.Response, error) {
			where("0 queued 1 running")
			return nil, refused
		},
		func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
			where("0 queued 1 running")
			return answering(io.NopCloser(strings.NewReader("streamed")))(ctx, call)
		})
	response, err := i.Invoke(t.Context(), call())
	if err != nil {
		t.Fatal(err)
	}
	where("0 queued 1 running")
	if seen.report() != nil {
		t.Error("it is over before its answer was read")
	}
	if _, err := io.ReadAll(response.Body); err != nil {
		t.Error(err)
	}
	where("0 queued 0 running")
	response.Body.Close()
	if seen.reports != 1 || seen.report().Err != nil || seen.report().Runner != "runner1:9190" {
		t.Errorf("%d reports, %+v", seen.reports, seen.report())
	}
	for _, want := range []string{
		`msg="Call finished"`, "level=DEBUG", "call_id=c1", "runner_addr=runner1:9190", "runner_success=true", "runner_sched_msec=2",
		"function_exec_msec=5", "cntr_init_msec=3", "fn_http_status=201", "fn_fdk_version=go/1",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, &log)
		}
	}
}

func TestAnswerThatIsThereIsNotWrapped(t *testing.T) {
	i, seen := balancer(io.Discard, answering(invoke.HoldBody([]byte("held"))))
	response, err := i.Invoke(t.Context(), call())
	if err != nil {
		t.Fatal(err)
	}
	if _, held := response.Body.(*invoke.HeldBody); !held || seen.reports != 1 {
		t.Errorf("%T, %d reports", response.Body, seen.reports)
	}
}

func TestWhatBecomesOfFailures(t *testing.T) {
	for name, test := range map[string]struct {
		runners []invoke.InvokerFunc
		kind    model.Kind
		runner  string
		level   string
	}{
		"no runner":          {nil, model.ErrServerBusy, "", "DEBUG"},
		"all refuse":         {[]invoke.InvokerFunc{failing(refused), failing(refused)}, model.ErrServerBusy, "", "DEBUG"},
		"lost":               {[]invoke.InvokerFunc{failing(lost)}, model.ErrInternal, "runner0:9190", "WARN"},
		"function failed":    {[]invoke.InvokerFunc{failing(model.ErrFunctionFailed)}, model.ErrFunctionFailed, "runner0:9190", "INFO"},
		"client left":        {[]invoke.InvokerFunc{failing(context.Canceled)}, model.ErrClientCanceled, "runner0:9190", "DEBUG"},
		"deadline there":     {[]invoke.InvokerFunc{failing(context.DeadlineExceeded)}, model.ErrReservation, "runner0:9190", "WARN"},
		"deadline in line":   {[]invoke.InvokerFunc{failing(fmt.Errorf("%w: %w", invoke.ErrNotPlaced, context.DeadlineExceeded))}, model.ErrServerBusy, "", "DEBUG"},
		"function timed out": {[]invoke.InvokerFunc{failing(fmt.Errorf("%w: %w", model.ErrCallTimeout, context.DeadlineExceeded))}, model.ErrCallTimeout, "runner0:9190", "INFO"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			i, seen := balancer(&log, test.runners...)
			_, err := i.Invoke(t.Context(), call())
			if got := model.Describe(err).Kind; got != test.kind {
				t.Errorf("got %v (%v)", got, err)
			}
			if q, r := seen.now(); q != 0 || r != 0 || seen.reports != 1 || seen.report().Runner != test.runner {
				t.Errorf("%d queued, %d running, %+v", q, r, seen.report())
			}
			if !strings.Contains(log.String(), "level="+test.level) || !strings.Contains(log.String(), "runner_success=false") {
				t.Errorf("not at %s:\n%s", test.level, &log)
			}
		})
	}
}

// cut is an answer that breaks off.
type cut struct{ err error }

func (c cut) Read([]byte) (int, error) { return 0, c.err }
func (cut) Close() error               { return nil }

func TestAnswersThatDoNotEnd(t *testing.T) {
	i, seen := balancer(io.Discard, answering(cut{lost}))
	response, _ := i.Invoke(t.Context(), call())
	if _, err := io.ReadAll(response.Body); !errors.Is(err, lost) {
		t.Errorf("got %v", err)
	}
	response.Body.Close()
	if seen.reports != 1 || !errors.Is(seen.report().Err, lost) {
		t.Errorf("%d reports, %+v", seen.reports, seen.report())
	}

	i, seen = balancer(io.Discard, answering(io.NopCloser(strings.NewReader("x"))))
	response, _ = i.Invoke(t.Context(), call())
	response.Body.Close()
	if seen.reports != 1 || !errors.Is(seen.report().Err, model.ErrClientCanceled) {
		t.Errorf("%d reports, %+v", seen.reports, seen.report())
	}
}

// A panic, which the gateway recovers, is the end of the call wherever it is.
func TestPanicEndsTheCall(t *testing.T) {
	panics := func(context.Context, *invoke.Call) (*invoke.Response, error) { panic("odd") }
	seen := new(counts)
	inLine := New(Options{Next: invoke.InvokerFunc(panics), Observer: seen, Logger: slog.New(slog.DiscardHandler)})
	atRunner, seenToo := balancer(io.Discard, panics)
	for _, tt := range []struct {
		name    string
		invoker *Invoker
		seen    *counts
		runner  string
	}{
		{"in line", inLine, seen, ""},
		{"at a runner", atRunner, seenToo, "runner0:9190"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			func() {
				defer func() {
					if got := recover(); got != "odd" {
						t.Errorf("recovered %v", got)
					}
				}()
				_, _ = tt.invoker.Invoke(t.Context(), call())
			}()
			if q, r := tt.seen.now(); q != 0 || r != 0 {
				t.Errorf("%d queued, %d running", q, r)
			}
			if tt.seen.reports != 1 || tt.seen.report().Runner != tt.runner || model.Describe(tt.seen.report().Err).Kind != model.ErrInternal {
				t.Errorf("%d reports, %+v", tt.seen.reports, tt.seen.report())
			}
		})
	}
}

func TestOverheadIsNeverNegative(t *testing.T) {
	r := Report{Total: time.Second, Timing: &invoke.Timing{FirstByte: 300 * time.Millisecond, Body: 200 * time.Millisecond}}
	if got := r.Overhead(); got != 500*time.Millisecond {
		t.Errorf("got %v", got)
	}
	r.Timing.Body = time.Minute
	if got := r.Overhead(); got != 0 {
		t.Errorf("got %v", got)
	}
}
