package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tinefn/tine/internal/runnerrpc"
)

// Status counts looks at a runner. It is the observer of a runner's status.
type Status struct {
	checks *prometheus.CounterVec
}

var _ runnerrpc.StatusObserver = (*Status)(nil)

// NewStatus registers the metric of looks at a runner.
func NewStatus(registry prometheus.Registerer) *Status {
	f := factory{registry}
	return &Status{f.counters(namespace, "status_call", "Answers about how this runner is.", "cached", "success", "network")}
}

// StatusChecked counts an answer.
func (s *Status) StatusChecked(cached, success, networkDisabled bool) {
	s.checks.WithLabelValues(strconv.FormatBool(cached), strconv.FormatBool(success), strconv.FormatBool(!networkDisabled)).Inc()
}
