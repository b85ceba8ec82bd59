package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tinefn/tine/internal/placement"
)

// attemptBuckets are bounds for numbers of runners that were tried.
var attemptBuckets = []float64{0, 1, 2, 3, 5, 10, 25, 50, 100, 1000}

// Placement counts what a load balancer's placer does. It is the observer of one.
type Placement struct {
	outcomes                            map[placement.Outcome]prometheus.Counter
	poolErrors, poolEmpty, busy, failed prometheus.Counter
	attempts, latency                   prometheus.Histogram
}

var _ placement.Observer = (*Placement)(nil)

// NewPlacement registers the metrics of a placer.
func NewPlacement(registry prometheus.Registerer) *Placement {
	f := factory{registry}
	count := func(name, help string) prometheus.Counter { return f.counter(namespace, "lb_placer_"+name, help) }
	timedOut := count("timeout_count", "Calls that no runner took in time.")
	return &Placement{
		outcomes: map[placement.Outcome]prometheus.Counter{
			placement.PlacedOK:       count("placed_ok_count", "Calls that a runner executed."),
			placement.PlacedError:    count("placed_error_count", "Calls that a runner took and that failed."),
			placement.PlacedAbort:    count("placed_abort_count", "Calls that a runner took and whose caller left or ran out of time."),
			placement.CallerLeft:     count("client_cancelled_count", "Calls whose caller left before a runner took them."),
			placement.CallerTimedOut: count("client_timeout_count", "Calls whose caller ran out of time before a runner took them."),
			placement.TimedOut:       timedOut,
		},
		poolErrors: count("rp_error_count", "Times when the pool of runners failed to say which there are."),
		poolEmpty:  count("rp_empty_count", "Times when there was no runner."),
		busy:       count("retry_busy_count", "Attempts that a runner refused for lack of room."),
		failed:     count("retry_error_count", "Attempts that reached no runner."),
		attempts:   f.histogram(namespace, "lb_placer_attempt_count", "Runners that were tried for a call.", attemptBuckets),
		latency:    f.histogram(namespace, "lb_placer_latency", "How long calls took until a runner took them, or none did, in milliseconds.", millisecondBuckets[:]),
	}
}

// PoolAsked counts answers of the pool.
func (p *Placement) PoolAsked(runners int, err error) {
	if err != nil {
		p.poolErrors.Inc()
	}
	if runners == 0 {
		p.poolEmpty.Inc()
	}
}

// NotPlaced counts an attempt that came to nothing.
func (p *Placement) NotPlaced(busy bool) {
	if busy {
		p.busy.Inc()
		return
	}
	p.failed.Inc()
}

// Over counts what became of a call.
func (p *Placement) Over(outcome placement.Outcome, attempts int, waited time.Duration) {
	if counter := p.outcomes[outcome]; counter != nil {
		counter.Inc()
	}
	p.attempts.Observe(float64(attempts))
	p.latency.Observe(milliseconds(waited))
}

// runnerLevels are what a placer can be asked for at any time.
type runnerLevels struct {
	levels                 func() []placement.Level
	runners, calls, perOne *prometheus.Desc
}

// runnerStates are those of a placer's levels.
var runnerStates = []string{"ready", "busy", "failing"}

// RegisterRunners exports how many runners there are and how many calls they have
// of this load balancer. There is no label for a runner, as they come and go.
func RegisterRunners(registry prometheus.Registerer, levels func() []placement.Level) {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(tineNamespace, "", name), help, labels, nil)
	}
	registry.MustRegister(&runnerLevels{
		levels:  levels,
		runners: desc("lb_runners", "Runners that this load balancer knows, by state.", "state"),
		calls:   desc("lb_calls", "Calls of this load balancer that runners have."),
		perOne:  desc("lb_runner_calls_max", "Calls of this load balancer that the runner has which has most."),
	})
}

func (l *runnerLevels) Describe(descs chan<- *prometheus.Desc) {
	descs <- l.runners
	descs <- l.calls
	descs <- l.perOne
}

func (l *runnerLevels) Collect(metrics chan<- prometheus.Metric) {
	states := map[string]int{}
	calls, most := 0, 0
	for _, level := range l.levels() {
		states[level.State]++
		calls += level.InFlight
		most = max(most, level.InFlight)
	}
	for _, state := range runnerStates {
		metrics <- prometheus.MustNewConstMetric(l.runners, prometheus.GaugeValue, float64(states[state]), state)
	}
	metrics <- prometheus.MustNewConstMetric(l.calls, prometheus.GaugeValue, float64(calls))
	metrics <- prometheus.MustNewConstMetric(l.perOne, prometheus.GaugeValue, float64(most))
}
