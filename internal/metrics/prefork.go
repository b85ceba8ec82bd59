package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tinefn/tine/driver/prefork"
)

// Prefork counts what happens in a prefork pool. It is the observer of one.
type Prefork struct {
	asked  *prometheus.CounterVec
	made   *prometheus.HistogramVec
	ended  *prometheus.CounterVec
	remove *prometheus.HistogramVec
	wait   prometheus.Histogram
	paused *prometheus.CounterVec
}

var _ prefork.Observer = (*Prefork)(nil)

// NewPrefork registers the metrics of a prefork pool.
func NewPrefork(registry prometheus.Registerer) *Prefork {
	f := factory{registry}
	return &Prefork{
		asked:  f.counters(tineNamespace, "prefork_leases_total", "Containers that asked for a network namespace, by what they got.", "result"),
		paused: f.counters(tineNamespace, "prefork_pauses_total", "Times when the pool began to make nothing, by what the machine was short of.", "short_of"),
		made:   f.histograms(tineNamespace, "prefork_create_seconds", "How long namespaces took to be made, by what became of that.", callBuckets, "network", "result"),
		ended:  f.counters(tineNamespace, "prefork_ended_total", "Namespaces that ended, by why.", "network", "cause"),
		remove: f.histograms(tineNamespace, "prefork_remove_seconds", "How long namespaces took to be removed.", callBuckets, "network"),
		wait:   f.histogram(tineNamespace, "prefork_wait_seconds", "How long containers with a namespace of the pool had waited for one that they could join.", callBuckets),
	}
}

// Asked counts a container that asked for a namespace.
func (p *Prefork) Asked(result prefork.Result) { p.asked.WithLabelValues(string(result)).Inc() }

// Paused counts the beginning of a pause.
func (p *Prefork) Paused(shortOf string) { p.paused.WithLabelValues(shortOf).Inc() }

// Joined counts a container that has joined a namespace.
func (p *Prefork) Joined(wait time.Duration) { p.wait.Observe(wait.Seconds()) }

// Made counts an attempt to make a namespace.
func (p *Prefork) Made(network string, took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "failed"
	}
	p.made.WithLabelValues(networkLabel(network), result).Observe(took.Seconds())
}

// Ended counts a namespace that is gone.
func (p *Prefork) Ended(network, cause string, took time.Duration) {
	p.ended.WithLabelValues(networkLabel(network), cause).Inc()
	p.remove.WithLabelValues(networkLabel(network)).Observe(took.Seconds())
}

// networkLabel names the engine's default network as the engine does. Networks
// are those of a setting, so there are few.
func networkLabel(network string) string {
	if network == "" {
		return "default"
	}
	return network
}

// preforkLevels are what a prefork pool can be asked for at any time.
type preforkLevels struct {
	levels func() []prefork.Level
	desc   *prometheus.Desc
}

// RegisterPreforkLevels exports how many namespaces there are.
func RegisterPreforkLevels(registry prometheus.Registerer, levels func() []prefork.Level) {
	registry.MustRegister(&preforkLevels{levels, prometheus.NewDesc(
		prometheus.BuildFQName(tineNamespace, "", "prefork_namespaces"), "Network namespaces of the prefork pool, by state.", []string{"network", "state"}, nil)})
}

func (l *preforkLevels) Describe(descs chan<- *prometheus.Desc) { descs <- l.desc }

func (l *preforkLevels) Collect(metrics chan<- prometheus.Metric) {
	for _, level := range l.levels() {
		for state, count := range level.Count {
			metrics <- prometheus.MustNewConstMetric(l.desc, prometheus.GaugeValue, float64(count), networkLabel(level.Network), prefork.State(state).String())
		}
	}
}
