// Package forward is around what a load balancer does with a call: it counts and
// logs calls that others execute. Which runner gets a call, and how it travels
// there, are other packages' business.
//
// An [Invoker] is around the placer, and [Runner] around each runner that it
// chooses among: from the latter the former learns where a call is.
package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// Options configures an [Invoker].
type Options struct {
	Next     invoke.Invoker // what places calls
	Logger   *slog.Logger
	Observer Observer // nil: nobody
}

// Observer is told about calls, for metrics. Its methods are called from many
// goroutines and must return at once.
type Observer interface {
	Submitted()         // a call was accepted
	Queued(change int)  // calls that no runner has
	Running(change int) // calls that a runner has
	Over(*Report)       // which it must not keep
}

type blind struct{}

func (blind) Submitted()   {}
func (blind) Queued(int)   {}
func (blind) Running(int)  {}
func (blind) Over(*Report) {}

// Report is what became of a call.
type Report struct {
	Call   *invoke.Call
	Runner string         // address of the one that got it; "" if none did
	Timing *invoke.Timing // as the runner has measured it; nil if the call failed
	Total  time.Duration  // here, from the call's arrival to the end of its answer
	Err    error          // nil: it succeeded

	Status, FDKVersion string // what the function said in its answer
}

// Overhead is what the call took beyond the time in its function.
func (r *Report) Overhead() time.Duration {
	if r.Timing == nil {
		return r.Total
	}
	return max(r.Total-r.Timing.Execution(), 0)
}

// Invoker is the invoker of a load balancer.
type Invoker struct{ opts Options }

var _ invoke.Invoker = (*Invoker)(nil)

// New returns an invoker.
func New(opts Options) *Invoker {
	if opts.Observer == nil {
		opts.Observer = blind{}
	}
	return &Invoker{opts}
}

// errPanic is what became of a call whose placer or runner panicked. The log of the
// request has the rest.
var errPanic = errors.New("panic while the call was placed")

// Invoke passes a call on and reports it when it is over. What the placer or a
// runner could not do in time is model.ErrServerBusy if no runner has the call, and
// model.ErrReservation if one has.
func (i *Invoker) Invoke(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
	j := &journey{invoker: i, call: call, began: time.Now()}
	i.opts.Observer.Submitted()
	i.opts.Observer.Queued(1)
	returned := false
	defer func() {
		if !returned { // the panic goes on, and the gateway recovers
			j.over(nil, errPanic)
		}
	}()
	response, err := i.opts.Next.Invoke(context.WithValue(ctx, journeyKey{}, j), call)
	returned = true
	if err != nil {
		err = j.explain(err)
		j.over(nil, err)
		return nil, err
	}
	j.status, j.fdkVersion = response.Header.Get("Fn-Http-Status"), response.Header.Get("Fn-Fdk-Version")
	if _, all := response.Body.(*invoke.HeldBody); all {
		j.over(response.Timing, nil)
		return response, nil
	}
	response.Body = &answer{ReadCloser: response.Body, journey: j, timing: response.Timing}
	return response, nil
}

// journey is one call on its way.
type journey struct {
	invoker *Invoker
	call    *invoke.Call
	began   time.Time

	status, fdkVersion string

	mu      sync.Mutex // guards the rest
	runner  string     // that has the call or had it; "": none
	running bool
	ended   bool
}

type journeyKey struct{}

// move tells the observer where the call is.
func (j *journey) move(runner string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	running := runner != ""
	j.runner = runner
	if j.ended || running == j.running {
		return
	}
	j.running = running
	change := 1
	if !running {
		change = -1
	}
	j.invoker.opts.Observer.Queued(-change)
	j.invoker.opts.Observer.Running(change)
}

// explain gives a time that has run out its meaning. Whoever knows it already has
// given it one.
func (j *journey) explain(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) || model.Describe(err).Kind != model.ErrInternal {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.runner == "" {
		return fmt.Errorf("%w: %w", model.ErrServerBusy, err)
	}
	return fmt.Errorf("%w: %w", model.ErrReservation, err)
}

// over reports the call, once: the first word about it counts.
func (j *journey) over(timing *invoke.Timing, err error) {
	j.mu.Lock()
	if j.ended {
		j.mu.Unlock()
		return
	}
	j.ended = true
	runner, running := j.runner, j.running
	j.mu.Unlock()
	observer := j.invoker.opts.Observer
	if running {
		observer.Running(-1)
	} else {
		observer.Queued(-1)
	}
	report := Report{
		Call: j.call, Runner: runner, Timing: timing, Total: time.Since(j.began), Err: err, Status: j.status, FDKVersion: j.fdkVersion,
	}
	observer.Over(&report)
	j.invoker.log(&report)
}

// answer is an answer whose end is the call's.
type answer struct {
	io.ReadCloser
	journey *journey
	timing  *invoke.Timing
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		a.journey.over(a.timing, nil)
	default:
		err = a.journey.explain(err)
		a.journey.over(nil, err)
	}
	return n, err
}

// Close before the end gives the rest up: whoever called has left.
func (a *answer) Close() error {
	err := a.ReadCloser.Close()
	a.journey.over(nil, model.ErrClientCanceled)
	return err
}

// Runner returns an invoker that tells the call's journey which runner has it.
func Runner(address string, next invoke.Invoker) invoke.Invoker {
	return invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
		j, ok := ctx.Value(journeyKey{}).(*journey)
		if !ok {
			return next.Invoke(ctx, call)
		}
		j.move(address)
		response, err := next.Invoke(ctx, call)
		if errors.Is(err, invoke.ErrNotPlaced) {
			j.move("")
		}
		return response, err
	})
}

// log writes the line by which Fn's operators find calls. A call that succeeded is
// of interest at debug level only, as on a node that executes it itself.
func (i *Invoker) log(report *Report) {
	level, d := slog.LevelDebug, model.Describe(report.Err)
	if report.Err != nil {
		level = d.LogLevel()
	}
	ctx := context.Background()
	if !i.opts.Logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("call_id", report.Call.ID), slog.String("app_id", report.Call.Fn.AppID), slog.String("fn_id", report.Call.Fn.ID),
		slog.String("image", report.Call.Fn.Image), slog.String("runner_addr", report.Runner), slog.Bool("runner_success", report.Err == nil),
	}
	if report.Err != nil {
		attrs = append(attrs, slog.Int("runner_error_code", d.Status), slog.Bool("runner_error_user", d.User), slog.Any("function_error", report.Err))
	} else {
		attrs = append(attrs, slog.Int("runner_http_status", http.StatusOK))
	}
	if t := report.Timing; t != nil {
		attrs = append(attrs,
			msec("function_exec_msec", t.Execution()), msec("runner_sched_msec", t.Queued), msec("img_wait_msec", t.Image),
			msec("cntr_create_msec", t.Create), msec("cntr_prep_msec", t.Start), msec("cntr_init_msec", t.Init))
	}
	attrs = append(attrs, msec("total_msec", report.Total), slog.String("fn_http_status", report.Status), slog.String("fn_fdk_version", report.FDKVersion))
	i.opts.Logger.LogAttrs(ctx, level, "Call finished", attrs...)
}

// msec is a time in whole milliseconds, as the names say.
func msec(name string, d time.Duration) slog.Attr { return slog.Int64(name, d.Milliseconds()) }
