package metrics

import (
	"context"
	"errors"
	"hash/fnv"
	"net/http"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"
)

// Engine counts requests to a container engine.
type Engine struct {
	latency *prometheus.HistogramVec
	retries *prometheus.CounterVec
}

// NewEngine registers the metrics of an engine.
func NewEngine(registry prometheus.Registerer) *Engine {
	f := factory{registry}
	return &Engine{
		latency: f.histograms(namespace, "docker_api_latency", "Milliseconds that requests to the engine took.", millisecondBuckets[:], "api_name", "api_status"),
		retries: f.counters(namespace, "docker_api_retries", "Requests to the engine that were made again.", "api_name"),
	}
}

// RegisterCircuit exports whether new containers are being refused because the
// engine does not answer.
func RegisterCircuit(registry prometheus.Registerer, open func() bool) {
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: tineNamespace, Name: "engine_circuit_open", Help: "1 while new containers are refused because the engine does not answer.",
	}, func() float64 {
		if open() {
			return 1
		}
		return 0
	}))
}

// RegisterInstanceID exports a digest of the identifier that a driver's
// containers carry: of 53 bits, which a number of Prometheus has room for.
func RegisterInstanceID(registry prometheus.Registerer, id string) {
	digest := fnv.New64a()
	_, _ = digest.Write([]byte(id)) // cannot fail
	const unused = 64 - 53
	f := factory{registry}
	f.gauge(namespace, "docker_instance_id", "Digest of the identifier of this server's containers.").Set(float64(digest.Sum64() >> unused))
}

// Request counts a request to the engine.
func (e *Engine) Request(api string, took time.Duration, err error) {
	e.latency.WithLabelValues(api, apiStatus(err)).Observe(milliseconds(took))
}

// Retried counts a request that is made again.
func (e *Engine) Retried(api string) { e.retries.WithLabelValues(api).Inc() }

// apiStatus is how a request ended, by Fn's words or the engine's status.
func apiStatus(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	for _, kind := range []struct {
		is     func(error) bool
		status int
	}{
		{errdefs.IsInvalidArgument, http.StatusBadRequest},
		{errdefs.IsUnauthorized, http.StatusUnauthorized},
		{errdefs.IsPermissionDenied, http.StatusForbidden},
		{errdefs.IsNotFound, http.StatusNotFound},
		{errdefs.IsConflict, http.StatusConflict},
		{errdefs.IsAlreadyExists, http.StatusConflict},
		{errdefs.IsNotImplemented, http.StatusNotImplemented},
		{errdefs.IsUnavailable, http.StatusServiceUnavailable},
		{errdefs.IsInternal, http.StatusInternalServerError},
	} {
		if kind.is(err) {
			return strconv.Itoa(kind.status)
		}
	}
	return "error"
}
