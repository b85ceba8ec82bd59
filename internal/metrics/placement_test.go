package metrics

import (
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tinefn/tine/internal/placement"
)

func TestPlacementIsCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	p := NewPlacement(registry)
	p.PoolAsked(3, nil)
	p.PoolAsked(0, nil)
	p.PoolAsked(0, errors.New("no answer"))
	p.NotPlaced(true)
	p.NotPlaced(true)
	p.NotPlaced(false)
	for outcome := placement.PlacedOK; outcome <= placement.Refused; outcome++ {
		p.Over(outcome, 2, 20*time.Millisecond)
	}
	p.Over(placement.PlacedOK, 1, 0)
	RegisterRunners(registry, func() []placement.Level {
		return []placement.Level{{Address: "a", State: "ready", InFlight: 2}, {Address: "b", State: "failing", InFlight: 5}, {Address: "c", State: "ready"}}
	})
	want(t, scrape(t, registry),
		"fn_lb_placer_rp_error_count 1", "fn_lb_placer_rp_empty_count 2",
		"fn_lb_placer_retry_busy_count 2", "fn_lb_placer_retry_error_count 1",
		"fn_lb_placer_placed_ok_count 2", "fn_lb_placer_placed_error_count 1", "fn_lb_placer_placed_abort_count 1",
		"fn_lb_placer_client_cancelled_count 1", "fn_lb_placer_client_timeout_count 1", "fn_lb_placer_timeout_count 1",
		"fn_lb_placer_attempt_count_count 9", "fn_lb_placer_attempt_count_sum 17", "fn_lb_placer_latency_sum 160",
		`tine_lb_runners{state="ready"} 2`, `tine_lb_runners{state="busy"} 0`, `tine_lb_runners{state="failing"} 1`,
		"tine_lb_calls 7", "tine_lb_runner_calls_max 5")
}
