package metrics

import (
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/pool"
	"github.com/tinefn/tine/model"
)

// maxFunctions is how many functions have metrics of their own. All others
// together have those of one.
const maxFunctions = 1000

// functionLabels are those of metrics of one function.
var functionLabels = []string{"app_id", "fn_id", "image_name"}

// Instances counts instances and what happens to them. It is the observer of a
// pool.
type Instances struct {
	durations map[pool.State]*prometheus.HistogramVec
	wait      *prometheus.HistogramVec
	init      *prometheus.HistogramVec
	evictions *prometheus.CounterVec

	queueWait    *prometheus.HistogramVec
	launches     *prometheus.CounterVec
	launchParts  *prometheus.HistogramVec
	freeze, thaw prometheus.Histogram
	freezeErrors *prometheus.CounterVec
	exits        *prometheus.CounterVec

	mu        sync.Mutex // guards functions
	functions map[labels]int
}

// labels name a function.
type labels struct{ app, fn, image string }

func (l labels) values() []string { return []string{l.app, l.fn, l.image} }

var _ pool.Observer = (*Instances)(nil)

// stateNames are Fn's names of an instance's states.
var stateNames = map[pool.State]string{
	pool.Launching: "start", pool.Idle: "idle", pool.Frozen: "paused", pool.Busy: "busy",
}

// NewInstances registers the metrics of instances.
func NewInstances(registry prometheus.Registerer) *Instances {
	f := factory{registry}
	i := &Instances{
		durations: map[pool.State]*prometheus.HistogramVec{},
		functions: map[labels]int{},
		wait: f.histograms(namespace, "container_wait_duration_seconds", "Milliseconds that launches waited for capacity.",
			millisecondBuckets, functionLabels...),
		init: f.histograms(namespace, "container_uds_init_latency", "Milliseconds from the start of a container to its socket.",
			millisecondBuckets, append([]string{"container_uds_state"}, functionLabels...)...),
		evictions: f.counters(namespace, "container_evictions", "Instances that were ended for another function.",
			append([]string{"container_state"}, functionLabels...)...),
		queueWait: f.histograms(tineNamespace, "queue_wait_seconds", "How long callers stood in line, by what became of that.", callBuckets, "result"),
		launches:  f.counters(tineNamespace, "launches_total", "Launches, by what became of them.", "result"),
		launchParts: f.histograms(tineNamespace, "launch_seconds", "Where the time of launches went.", callBuckets,
			"part"),
		freeze:       f.histogram(tineNamespace, "freeze_seconds", "How long it took to freeze an instance.", freezeBuckets),
		thaw:         f.histogram(tineNamespace, "thaw_seconds", "How long it took to thaw an instance.", freezeBuckets),
		freezeErrors: f.counters(tineNamespace, "freeze_failures_total", "Instances that could not be frozen or thawed, and were ended.", "operation"),
		exits:        f.counters(namespace, "docker_exits", "Containers whose process ended, by exit code.", "api_name", "exit_status"),
	}
	for state, name := range stateNames {
		i.durations[state] = f.histograms(namespace, "container_"+name+"_duration_seconds",
			"Milliseconds that instances spent in state "+name+".", millisecondBuckets, functionLabels...)
	}
	return i
}

// Watch makes the metrics of a function.
func (i *Instances) Watch(spec *pool.Spec) pool.Watcher {
	i.mu.Lock()
	defer i.mu.Unlock()
	l := labels{spec.AppID, spec.FnID, spec.Container.Image}
	if i.functions[l] == 0 && len(i.functions) >= maxFunctions {
		l = labels{other, other, other}
	}
	i.functions[l]++
	w := &watcher{instances: i, labels: l}
	for state := range stateNames {
		w.durations[state] = i.durations[state].WithLabelValues(l.values()...)
	}
	return w
}

// watcher has the metrics of one function.
type watcher struct {
	instances *Instances
	labels    labels
	durations [pool.StateCount]prometheus.Observer
}

// Close forgets the function, if this was the last of its specs.
func (w *watcher) Close() {
	i, values := w.instances, w.labels.values()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.functions[w.labels]--; i.functions[w.labels] > 0 {
		return
	}
	delete(i.functions, w.labels)
	for state := range stateNames {
		i.durations[state].DeleteLabelValues(values...)
	}
	i.wait.DeleteLabelValues(values...)
	match := prometheus.Labels{"app_id": w.labels.app, "fn_id": w.labels.fn, "image_name": w.labels.image}
	i.init.DeletePartialMatch(match)
	i.evictions.DeletePartialMatch(match)
}

func (w *watcher) Moved(from, _ pool.State, after time.Duration) {
	if d := w.durations[from]; d != nil {
		d.Observe(milliseconds(after))
	}
}

func (w *watcher) Starved(wait time.Duration) {
	w.instances.wait.WithLabelValues(w.labels.values()...).Observe(milliseconds(wait))
}

func (w *watcher) Launched(launch pool.Launch, err error) {
	i := w.instances
	result := "ok"
	if err != nil {
		result = "failed"
	}
	i.launches.WithLabelValues(result).Inc()
	for part, took := range map[string]time.Duration{
		"image": launch.Image, "create": launch.Create, "start": launch.Start, "init": launch.Init,
	} {
		if took > 0 {
			i.launchParts.WithLabelValues(part).Observe(took.Seconds())
		}
	}
	if launch.Init > 0 {
		state := "initialized"
		switch {
		case errors.Is(err, model.ErrContainerInitTimeout):
			state = "timedout"
		case err != nil:
			state = "canceled"
		}
		i.init.WithLabelValues(append([]string{state}, w.labels.values()...)...).Observe(milliseconds(launch.Init))
	}
}

func (w *watcher) Evicted(state pool.State) {
	w.instances.evictions.WithLabelValues(append([]string{stateNames[state]}, w.labels.values()...)...).Inc()
}

func (w *watcher) Exited(exit driver.Exit) {
	status := "exit_" + strconv.Itoa(exit.Code)
	if exit.Code < 0 || exit.Code > maxExitCode {
		status = other
	}
	w.instances.exits.WithLabelValues("docker_wait_container", status).Inc()
}

// maxExitCode is the largest that a process can have.
const maxExitCode = 255

func (w *watcher) Waited(wait time.Duration, err error) {
	result := "served"
	switch {
	case err == nil:
	case model.Describe(err).Kind == model.ErrClientCanceled:
		result = "left"
	case model.Describe(err).Kind == model.ErrServerBusy:
		result = "refused"
	default:
		result = "failed"
	}
	w.instances.queueWait.WithLabelValues(result).Observe(wait.Seconds())
}

func (w *watcher) Froze(took time.Duration, err error) {
	w.instances.froze(w.instances.freeze, "freeze", took, err)
}

func (w *watcher) Thawed(took time.Duration, err error) {
	w.instances.froze(w.instances.thaw, "thaw", took, err)
}

func (i *Instances) froze(h prometheus.Histogram, operation string, took time.Duration, err error) {
	if err != nil {
		i.freezeErrors.WithLabelValues(operation).Inc()
		return
	}
	h.Observe(took.Seconds())
}
