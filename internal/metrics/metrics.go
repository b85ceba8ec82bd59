// Package metrics counts what a node's parts tell their observers, for
// Prometheus. The names that begin with fn_ are Fn's, with what its dashboards
// expect behind them, also where that is odd: milliseconds in a metric that is
// named after seconds. Names that begin with tine_ are for what Fn does not
// have, in the units of their names.
//
// No label takes values without bound: what exceeds a bound is counted as
// "other", and functions that have no instance any more are forgotten.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// namespace is what the names of Fn begin with.
const (
	namespace     = "fn"
	tineNamespace = "tine"
)

// millisecondBuckets are Fn's bounds for times, in milliseconds.
var millisecondBuckets = [...]float64{1, 10, 50, 100, 250, 500, 1000, 10_000, 60_000, 120_000}

// Bounds for times in seconds: from what a warm call takes to what a pull does,
// and from what a freeze takes to what an engine does.
var (
	callBuckets   = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}
	freezeBuckets = []float64{.00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .5, 5}
)

// other stands for label values beyond a bound.
const other = "other"

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// factory makes and registers metrics.
type factory struct{ registry prometheus.Registerer }

func (f factory) counter(namespace, name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	f.registry.MustRegister(c)
	return c
}

func (f factory) counters(namespace, name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	f.registry.MustRegister(c)
	return c
}

func (f factory) gauge(namespace, name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
	f.registry.MustRegister(g)
	return g
}

func (f factory) histograms(namespace, name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
	f.registry.MustRegister(h)
	return h
}

func (f factory) histogram(namespace, name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
	f.registry.MustRegister(h)
	return h
}
