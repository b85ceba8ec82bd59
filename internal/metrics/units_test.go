package metrics

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/pool"
	"github.com/tinefn/tine/internal/runner"
	"github.com/tinefn/tine/invoke"
)

// TestTimesAreInTheUnitThatTheyClaim has a second and a half of everything. Own
// metrics are in seconds, as their names say. Fn's are in milliseconds, also
// those whose names say otherwise: dashboards know them, and the help says it.
func TestTimesAreInTheUnitThatTheyClaim(t *testing.T) {
	const took = 1500 * time.Millisecond
	registry := prometheus.NewRegistry()

	calls := NewCalls(registry)
	calls.Over(&runner.Report{Timing: invoke.Timing{FirstByte: took / 2, Body: took / 2, Total: took}})
	calls.Over(&runner.Report{Timing: invoke.Timing{Cold: true, Total: took}})

	w := NewInstances(registry).Watch(&pool.Spec{})
	for state := range stateNames {
		w.Moved(state, pool.Ending, took)
	}
	w.Starved(took)
	w.Launched(pool.Launch{Image: took, Create: took, Start: took, Init: took}, nil)
	w.Waited(took, nil)
	w.Froze(took, nil)
	w.Thawed(took, nil)

	NewEngine(registry).Request("docker_start_container", took, nil)
	NewRequests(registry).Ended(edge.Outcome{}, took)

	help, sums := map[string]string{}, 0
	for _, line := range scrape(t, registry) {
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, text, _ := strings.Cut(rest, " ")
			help[name] = text
		}
		series, value, _ := strings.Cut(line, " ")
		name, _, _ := strings.Cut(series, "{")
		if i := strings.LastIndex(line, "} "); i >= 0 {
			value = line[i+2:]
		}
		name, isSum := strings.CutSuffix(name, "_sum")
		if !isSum {
			continue
		}
		sums++
		want := "1.5"
		if strings.HasPrefix(name, "fn_") {
			want = "1500"
			if !strings.HasPrefix(help[name], "Milliseconds") {
				t.Errorf("%s does not tell its unit: %s", name, help[name])
			}
		} else if !strings.HasSuffix(name, "_seconds") {
			t.Errorf("%s does not tell its unit", name)
		}
		if value != want {
			t.Errorf("%s is %s, want %s", series, value, want)
		}
	}
	if sums != 18 {
		t.Errorf("%d metrics of times", sums)
	}
}
