package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tinefn/tine/internal/runner"
	"github.com/tinefn/tine/model"
)

// Calls counts calls. It is the observer of a runner.
type Calls struct {
	*callCounts
	total, function prometheus.Histogram
	coldTotal       prometheus.Histogram
}

// callCounts are the metrics of calls that all nodes have which take some.
type callCounts struct {
	calls, completed, canceled, timeouts, errors, busy prometheus.Counter
	queued, running                                    prometheus.Gauge
}

func newCallCounts(f factory, queued, running string) *callCounts {
	return &callCounts{
		calls:     f.counter(namespace, "calls", "Calls submitted."),
		completed: f.counter(namespace, "completed", "Calls that succeeded."),
		canceled:  f.counter(namespace, "canceled", "Calls whose caller left."),
		timeouts:  f.counter(namespace, "timeouts", "Calls that exceeded their function's timeout."),
		errors:    f.counter(namespace, "errors", "Calls that failed otherwise."),
		busy:      f.counter(namespace, "server_busy", "Calls refused for lack of capacity."),
		queued:    f.gauge(namespace, "queued", queued),
		running:   f.gauge(namespace, "running", running),
	}
}

// Submitted counts a call that was accepted.
func (c *callCounts) Submitted() { c.calls.Inc() }

// Queued counts callers that wait.
func (c *callCounts) Queued(change int) { c.queued.Add(float64(change)) }

// Running counts callers that hold an instance.
func (c *callCounts) Running(change int) { c.running.Add(float64(change)) }

// failed counts a call that failed, and returns the word for how.
func (c *callCounts) failed(err error) string {
	switch model.Describe(err).Kind {
	case model.ErrClientCanceled:
		c.canceled.Inc()
		return "canceled"
	case model.ErrCallTimeout:
		c.timeouts.Inc()
		return "timeouts"
	case model.ErrServerBusy:
		c.busy.Inc()
		return "server_busy"
	default:
		c.errors.Inc()
		return "errors"
	}
}

var _ runner.Observer = (*Calls)(nil)

// NewCalls registers the metrics of calls.
func NewCalls(registry prometheus.Registerer) *Calls {
	f := factory{registry}
	seconds := f.histograms(tineNamespace, "call_seconds", "How long successful calls took: in all, or in the function; cold are those that an instance was launched for.", callBuckets, "part", "cold")
	return &Calls{
		callCounts: newCallCounts(f, "Calls that wait for an instance.", "Calls that hold an instance."),
		total:      seconds.WithLabelValues("total", "false").(prometheus.Histogram),
		function:   seconds.WithLabelValues("function", "false").(prometheus.Histogram),
		coldTotal:  seconds.WithLabelValues("total", "true").(prometheus.Histogram),
	}
}

// Over counts what became of a call.
func (c *Calls) Over(report *runner.Report) {
	if report.Err == nil {
		c.completed.Inc()
		if report.Timing.Cold {
			c.coldTotal.Observe(report.Timing.Total.Seconds())
			return
		}
		c.total.Observe(report.Timing.Total.Seconds())
		c.function.Observe(report.Timing.Execution().Seconds())
		return
	}
	c.failed(report.Err)
}
