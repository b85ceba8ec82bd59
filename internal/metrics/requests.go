package metrics

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tinefn/tine/internal/edge"
)

// maxFDKVersions is how many versions of function kits are told apart. Functions
// say them, so they might be anything.
const maxFDKVersions = 50

// Requests counts HTTP requests. It is the observer of a router.
type Requests struct {
	requests  *prometheus.CounterVec
	responses *prometheus.CounterVec
	latency   *prometheus.HistogramVec

	mu       sync.RWMutex // guards the rest
	began    map[edge.Route]prometheus.Counter
	ended    map[edge.Outcome]outcomeMetrics
	versions map[string]struct{}
}

type outcomeMetrics struct {
	responses prometheus.Counter
	latency   prometheus.Observer
}

var _ edge.Observer = (*Requests)(nil)

// NewRequests registers the metrics of requests.
func NewRequests(registry prometheus.Registerer) *Requests {
	f := factory{registry}
	outcome := []string{"path", "method", "status", "blame", "fn_fdk_version"}
	return &Requests{
		requests:  f.counters(namespace, "api_request_count", "Requests that began.", "path", "method"),
		responses: f.counters(namespace, "api_response_count", "Requests that ended.", outcome...),
		latency:   f.histograms(namespace, "api_latency", "Milliseconds that requests took.", millisecondBuckets[:], outcome...),
		began:     map[edge.Route]prometheus.Counter{},
		ended:     map[edge.Outcome]outcomeMetrics{},
		versions:  map[string]struct{}{},
	}
}

// Began counts a request.
func (r *Requests) Began(route edge.Route) {
	r.mu.RLock()
	counter := r.began[route]
	r.mu.RUnlock()
	if counter == nil {
		counter = r.requests.WithLabelValues(route.Pattern, route.Method)
		r.mu.Lock()
		r.began[route] = counter
		r.mu.Unlock()
	}
	counter.Inc()
}

// Ended counts a response.
func (r *Requests) Ended(outcome edge.Outcome, took time.Duration) {
	r.mu.RLock()
	known, ok := r.ended[outcome]
	r.mu.RUnlock()
	if !ok {
		known = r.outcome(outcome)
	}
	known.responses.Inc()
	known.latency.Observe(milliseconds(took))
}

// outcome finds the metrics of an outcome that is seen for the first time.
func (r *Requests) outcome(o edge.Outcome) outcomeMetrics {
	r.mu.Lock()
	defer r.mu.Unlock()
	version := o.FDKVersion
	if _, ok := r.versions[version]; !ok && len(r.versions) >= maxFDKVersions {
		version = other
	}
	values := []string{o.Route.Pattern, o.Route.Method, strconv.Itoa(o.Status), o.Blame, version}
	known := outcomeMetrics{r.responses.WithLabelValues(values...), r.latency.WithLabelValues(values...)}
	if version == o.FDKVersion {
		r.versions[version] = struct{}{}
		r.ended[o] = known
	}
	return known
}
