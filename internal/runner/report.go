package runner

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/tinefn/tine/internal/pool"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// Report is what a call tells about itself when it is over.
type Report struct {
	Call       *invoke.Call
	InstanceID string // "" if it had none
	Timing     invoke.Timing
	Err        error // nil: it succeeded

	// Of a failed call only:
	Ended  string   // how its instance ended; "" if it lives on
	Output []string // the last lines that the function printed in the call
}

// Observer is told about calls, for metrics. Its methods are called from many
// goroutines and must return at once.
type Observer interface {
	Submitted()         // a call was accepted
	Queued(change int)  // calls that wait for an instance
	Running(change int) // calls that hold one
	Over(*Report)       // which it must not keep
}

type blind struct{}

func (blind) Submitted()   {}
func (blind) Queued(int)   {}
func (blind) Running(int)  {}
func (blind) Over(*Report) {}

// What the report of a failed call waits for, in the background: until nothing
// is left of an instance that ended, so that all of its output is there, or for
// the output of one that lives on.
const (
	reportPatience = 5 * time.Second
	outputPatience = 50 * time.Millisecond
)

// neverStarted reports a call that got no instance.
func (r *Runner) neverStarted(call *invoke.Call, admitted time.Time, err error) {
	waited := time.Since(admitted)
	report := &Report{Call: call, Timing: invoke.Timing{Queued: waited, Total: waited}, Err: err}
	launch, ok := errors.AsType[*pool.LaunchError](err)
	if !ok {
		r.publish(report)
		return
	}
	report.InstanceID = launch.Instance.ID
	r.inBackground(func() {
		ctx, cancel := context.WithTimeout(context.Background(), reportPatience)
		defer cancel()
		report.Ended = launch.Instance.Ended(ctx).String()
		if output, ok := launch.Instance.Output.(*console); ok {
			report.Output = output.last(0)
		}
		r.publish(report)
	})
}

// over reports the exchange's call, once: the first word about a call counts.
func (x *exchange) over(err error) {
	if !x.reported.CompareAndSwap(false, true) {
		return
	}
	now := time.Now()
	x.timing.Body = now.Sub(x.began) - x.timing.FirstByte
	if x.timing.FirstByte == 0 {
		x.timing.FirstByte, x.timing.Body = x.timing.Body, 0
	}
	x.timing.Total = now.Sub(x.admitted)
	x.runner.opts.Observer.Running(-1)
	report := Report{Call: x.call, InstanceID: x.lease.ID, Timing: x.timing, Err: err}
	if err == nil || isCanceled(err) {
		x.runner.publish(&report)
		return
	}
	ended := x.ended.Load()
	x.runner.inBackground(func() { x.publishFailure(report, ended) })
}

// isCanceled reports whether a call ended because its caller left.
func isCanceled(err error) bool { return model.Describe(err).Kind == model.ErrClientCanceled }

// endOutput assigns what is printed from now on to no call.
func (x *exchange) endOutput() {
	if x.output != nil {
		x.output.end()
	}
}

// publishFailure adds what is known of the instance, which the call may have
// ended, and its output.
func (x *exchange) publishFailure(report Report, ended bool) {
	patience := outputPatience
	if ended {
		patience = reportPatience
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if end := x.lease.Ended(ctx); ended { // otherwise another call ended it
		report.Ended = end.String()
	}
	if x.output != nil {
		report.Output = x.output.last(x.turn)
	}
	x.runner.publish(&report)
}

// publish hands a finished report to the observer and the log.
func (r *Runner) publish(report *Report) {
	r.opts.Observer.Over(report)
	level, message := slog.LevelDebug, "call finished"
	if report.Err != nil {
		message = "call failed"
		level = model.Describe(report.Err).LogLevel()
	}
	ctx := context.Background()
	if !r.opts.Logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("call_id", report.Call.ID), slog.String("app_id", report.Call.Fn.AppID),
		slog.String("fn_id", report.Call.Fn.ID), slog.String("image", report.Call.Fn.Image),
	}
	if report.InstanceID != "" {
		attrs = append(attrs, slog.String("container_id", report.InstanceID))
	}
	if report.Err != nil {
		attrs = append(attrs, slog.Any("error", report.Err))
	}
	if report.Ended != "" {
		attrs = append(attrs, slog.String("container_ended", report.Ended))
	}
	if len(report.Output) > 0 {
		attrs = append(attrs, slog.String("output", strings.Join(report.Output, "\n")))
	}
	r.opts.Logger.LogAttrs(ctx, level, message, append(attrs, timingAttrs(&report.Timing)...)...)
}

// timingAttrs names the times of a call, leaving out what did not happen.
func timingAttrs(t *invoke.Timing) []slog.Attr {
	attrs := []slog.Attr{slog.Bool("cold", t.Cold)}
	for _, part := range []struct {
		name string
		took time.Duration
	}{
		{"queued", t.Queued},
		{"pull", t.Image}, // "image" names the image
		{"create", t.Create},
		{"start", t.Start},
		{"init", t.Init},
		{"first_byte", t.FirstByte},
		{"body", t.Body},
		{"total", t.Total},
	} {
		if part.took != 0 {
			attrs = append(attrs, slog.Duration(part.name, part.took))
		}
	}
	return attrs
}
