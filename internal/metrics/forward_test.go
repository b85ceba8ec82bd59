package metrics

import (
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tinefn/tine/internal/catalog"
	"github.com/tinefn/tine/internal/forward"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

func TestCallsOfLoadBalancers(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := NewForwards(registry)
	for range 5 {
		m.Submitted()
		m.Queued(1)
	}
	m.Queued(-2)
	m.Running(2)
	m.Over(&forward.Report{Total: 30 * time.Millisecond, Timing: &invoke.Timing{Queued: 5 * time.Millisecond, FirstByte: 20 * time.Millisecond, Body: 5 * time.Millisecond}})
	for _, err := range []error{model.ErrServerBusy, model.ErrClientCanceled, model.ErrCallTimeout, errors.New("lost")} {
		m.Over(&forward.Report{Total: 2 * time.Second, Err: err})
	}
	stats := catalog.Stats{Failures: 3, StaleUses: 7}
	RegisterDefinitions(registry, func() catalog.Stats { return stats })
	want(t, scrape(t, registry),
		"fn_calls 5", "fn_queued 3", "fn_running 2", "fn_completed 1", "fn_server_busy 1", "fn_canceled 1", "fn_timeouts 1", "fn_errors 1",
		`fn_lb_call_latency_bucket{call_status="completed",le="1"} 0`, `fn_lb_call_latency_bucket{call_status="completed",le="10"} 1`,
		`fn_lb_call_latency_count{call_status="server_busy"} 1`, `fn_lb_call_latency_sum{call_status="errors"} 2000`,
		"fn_lb_runner_sched_latency_sum 5", "fn_lb_runner_exec_latency_sum 25", "fn_lb_runner_exec_latency_count 1",
		"tine_definition_failures_total 3", "tine_definition_stale_uses_total 7", "tine_definition_source_up 0")
	stats.Reachable = true
	want(t, scrape(t, registry), "tine_definition_source_up 1")
}
