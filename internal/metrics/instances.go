package metrics

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/pool"
	"github.com/tinefn/tine/model"
)

// Instances counts instances and what happens to them. It is the observer of a
// pool.
type Instances struct {
	functions *functions

	queueWait    *prometheus.HistogramVec
	launches     *prometheus.CounterVec
	launchParts  *prometheus.HistogramVec
	freeze, thaw prometheus.Histogram
	freezeErrors *prometheus.CounterVec
	exits        *prometheus.CounterVec
}

var _ pool.Observer = (*Instances)(nil)

// stateNames are Fn's names of an instance's states.
var stateNames = map[pool.State]string{
	pool.Launching: "start", pool.Idle: "idle", pool.Frozen: "paused", pool.Busy: "busy",
}

// NewInstances registers the metrics of instances.
func NewInstances(registry prometheus.Registerer) *Instances {
	f := factory{registry}
	functions := newFunctions()
	registry.MustRegister(functions)
	return &Instances{
		functions: functions,
		queueWait: f.histograms(tineNamespace, "queue_wait_seconds", "How long callers stood in line, by what became of that.", callBuckets, "result"),
		launches:  f.counters(tineNamespace, "launches_total", "Launches, by what became of them.", "result"),
		launchParts: f.histograms(tineNamespace, "launch_seconds", "Where the time of launches went.", callBuckets,
			"part"),
		freeze:       f.histogram(tineNamespace, "freeze_seconds", "How long it took to freeze an instance.", freezeBuckets),
		thaw:         f.histogram(tineNamespace, "thaw_seconds", "How long it took to thaw an instance.", freezeBuckets),
		freezeErrors: f.counters(tineNamespace, "freeze_failures_total", "Instances that could not be frozen or thawed, and were ended.", "operation"),
		exits:        f.counters(namespace, "docker_exits", "Containers whose process ended, by exit code.", "api_name", "exit_status"),
	}
}

// Watch makes the metrics of a function.
func (i *Instances) Watch(spec *pool.Spec) pool.Watcher {
	return &watcher{i, i.functions.use(labels{spec.AppID, spec.FnID, spec.Container.Image})}
}

// watcher counts what happens to one launch spec.
type watcher struct {
	instances *Instances
	function  *function
}

// Close forgets the function, if this was the last of its specs.
func (w *watcher) Close() { w.instances.functions.release(w.function) }

func (w *watcher) Moved(from, _ pool.State, after time.Duration) {
	w.function.states[from].observe(after)
}

func (w *watcher) Starved(wait time.Duration) { w.function.wait.observe(wait) }

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
		result := initialized
		switch {
		case errors.Is(err, model.ErrContainerInitTimeout):
			result = initTimedOut
		case err != nil:
			result = initCanceled
		}
		w.function.init[result].observe(launch.Init)
	}
}

func (w *watcher) Evicted(state pool.State) { w.function.evictions[state].Add(1) }

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
