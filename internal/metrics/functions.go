package metrics

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tinefn/tine/internal/pool"
)

// maxFunctions is how many functions have metrics of their own. All others
// together have those of one.
const maxFunctions = 1000

// labels name a function.
type labels struct{ app, fn, image string }

func (l labels) values() []string { return []string{l.app, l.fn, l.image} }

// functionLabels are the names of labels.
var functionLabels = []string{"app_id", "fn_id", "image_name"}

// function has the metrics of one function. They are plain numbers that become
// Prometheus's metrics when it asks for them: as such they would be half of
// the objects that a resting instance keeps.
type function struct {
	labels labels
	uses   int // launch specs of it; guarded by the mutex of functions

	states    [pool.StateCount]histogram
	wait      histogram
	init      [initResults]histogram
	evictions [pool.StateCount]atomic.Uint64
}

// histogram counts durations by the bounds of millisecondBuckets.
type histogram struct {
	counts [len(millisecondBuckets) + 1]atomic.Uint64 // the last is for those above all bounds
	sum    atomic.Int64                               // nanoseconds
}

func (h *histogram) observe(d time.Duration) {
	i, value := 0, milliseconds(d)
	for i < len(millisecondBuckets) && value > millisecondBuckets[i] {
		i++
	}
	h.sum.Add(int64(d))
	h.counts[i].Add(1)
}

// collect sends the metric, unless nothing was observed.
func (h *histogram) collect(to chan<- prometheus.Metric, desc *prometheus.Desc, values []string) {
	var total uint64
	buckets := make(map[float64]uint64, len(millisecondBuckets))
	for i := range h.counts {
		total += h.counts[i].Load()
		if i < len(millisecondBuckets) {
			buckets[millisecondBuckets[i]] = total
		}
	}
	if total > 0 {
		to <- prometheus.MustNewConstHistogram(desc, total, milliseconds(time.Duration(h.sum.Load())), buckets, values...)
	}
}

// How a container's start may end, as far as Fn counts it.
const (
	initialized = iota
	initTimedOut
	initCanceled
	initResults // how many there are
)

var initNames = [initResults]string{initialized: "initialized", initTimedOut: "timedout", initCanceled: "canceled"}

// functions has the metrics that there are for each function.
type functions struct {
	states                [pool.StateCount]*prometheus.Desc // nil for those that are not counted
	wait, init, evictions *prometheus.Desc

	mu       sync.Mutex
	byLabels map[labels]*function
}

var _ prometheus.Collector = (*functions)(nil)

func newFunctions() *functions {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, append(labels, functionLabels...), nil)
	}
	f := &functions{
		wait:      desc("container_wait_duration_seconds", "Milliseconds that launches waited for capacity."),
		init:      desc("container_uds_init_latency", "Milliseconds from the start of a container to its socket.", "container_uds_state"),
		evictions: desc("container_evictions", "Instances that were ended for another function.", "container_state"),
		byLabels:  map[labels]*function{},
	}
	for state, name := range stateNames {
		f.states[state] = desc("container_"+name+"_duration_seconds", "Milliseconds that instances spent in state "+name+".")
	}
	return f
}

// use returns a function's metrics until release.
func (f *functions) use(l labels) *function {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byLabels[l] == nil && len(f.byLabels) >= maxFunctions {
		l = labels{other, other, other}
	}
	fn := f.byLabels[l]
	if fn == nil {
		fn = &function{labels: l}
		f.byLabels[l] = fn
	}
	fn.uses++
	return fn
}

// release forgets the metrics if nobody else uses them.
func (f *functions) release(fn *function) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fn.uses--; fn.uses == 0 {
		delete(f.byLabels, fn.labels)
	}
}

// Describe is for the registry.
func (f *functions) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range append(f.states[:], f.wait, f.init, f.evictions) {
		if desc != nil {
			to <- desc
		}
	}
}

// Collect is for the registry.
func (f *functions) Collect(to chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fn := range f.byLabels {
		values := fn.labels.values()
		for state, desc := range f.states {
			if desc != nil {
				fn.states[state].collect(to, desc, values)
			}
			if n := fn.evictions[state].Load(); n > 0 {
				to <- prometheus.MustNewConstMetric(f.evictions, prometheus.CounterValue, float64(n), append([]string{stateNames[pool.State(state)]}, values...)...)
			}
		}
		fn.wait.collect(to, f.wait, values)
		for result := range fn.init {
			fn.init[result].collect(to, f.init, append([]string{initNames[result]}, values...))
		}
	}
}
