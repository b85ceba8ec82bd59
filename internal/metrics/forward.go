package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tinefn/tine/internal/catalog"
	"github.com/tinefn/tine/internal/forward"
)

// Forwards counts the calls of a load balancer. It is the observer of what is
// around its placer.
type Forwards struct {
	*callCounts
	queuedThere, execution prometheus.Histogram
	overhead               *prometheus.HistogramVec
}

var _ forward.Observer = (*Forwards)(nil)

// NewForwards registers the metrics of a load balancer's calls. Names and units are
// Fn's, which registers the latencies in no program of its own.
func NewForwards(registry prometheus.Registerer) *Forwards {
	f := factory{registry}
	return &Forwards{
		callCounts:  newCallCounts(f, "Calls that no runner has.", "Calls that a runner has."),
		queuedThere: f.histogram(namespace, "lb_runner_sched_latency", "Milliseconds that calls waited at the runner for an instance.", millisecondBuckets[:]),
		execution:   f.histogram(namespace, "lb_runner_exec_latency", "Milliseconds that calls were in their function.", millisecondBuckets[:]),
		overhead:    f.histograms(namespace, "lb_call_latency", "Milliseconds that calls took beyond that.", millisecondBuckets[:], "call_status"),
	}
}

// Over counts what became of a call.
func (f *Forwards) Over(report *forward.Report) {
	status := "completed"
	if report.Err == nil {
		f.completed.Inc()
	} else {
		status = f.failed(report.Err)
	}
	f.overhead.WithLabelValues(status).Observe(milliseconds(report.Overhead()))
	if report.Timing != nil {
		f.queuedThere.Observe(milliseconds(report.Timing.Queued))
		f.execution.Observe(milliseconds(report.Timing.Execution()))
	}
}

// RegisterDefinitions registers the metrics of where a load balancer has its
// definitions from.
func RegisterDefinitions(registry prometheus.Registerer, stats func() catalog.Stats) {
	for _, m := range []struct {
		name, help string
		kind       func(prometheus.Opts, func() float64) prometheus.Collector
		value      func(catalog.Stats) float64
	}{
		{"definition_failures_total", "Look-ups of definitions that the API node did not answer.", counterFunc, func(s catalog.Stats) float64 { return float64(s.Failures) }},
		{"definition_stale_uses_total", "Look-ups for which a definition was used on, as the API node did not answer.", counterFunc, func(s catalog.Stats) float64 { return float64(s.StaleUses) }},
		{"definition_source_up", "Whether the API node answers.", gaugeFunc, func(s catalog.Stats) float64 { return map[bool]float64{true: 1}[s.Reachable] }},
	} {
		registry.MustRegister(m.kind(prometheus.Opts{Namespace: tineNamespace, Name: m.name, Help: m.help}, func() float64 { return m.value(stats()) }))
	}
}

func counterFunc(opts prometheus.Opts, value func() float64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts(opts), value)
}

func gaugeFunc(opts prometheus.Opts, value func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts), value)
}
