package node

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tinefn/tine/driver/native"
	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/internal/config"
)

func TestSizeOfThePoolOfSandboxes(t *testing.T) {
	each := native.WaitingBytes()
	for name, tt := range map[string]struct {
		environ   []string
		memory    int64
		ready     int
		poolIsOff bool
	}{
		"much memory":       {nil, 1 << 40, sandboxesMost, false},
		"some memory":       {nil, each * poolMemoryShare * 20, 20, false},
		"little memory":     {nil, 1 << 20, 8, false}, // the minimum
		"a number":          {[]string{"FN_SANDBOX_READY_MAX=300"}, 1 << 20, 300, false},
		"more than at all":  {[]string{"FN_SANDBOX_READY_MAX=300", "FN_SANDBOX_MAX=100"}, 1 << 20, 100, false},
		"none may be ready": {[]string{"FN_SANDBOX_READY_MAX=0"}, 1 << 40, 0, true},
		"no pool":           {[]string{"FN_SANDBOX_MAX=0"}, 1 << 40, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, err := config.Load(tt.environ, nil, "/")
			if err != nil {
				t.Fatal(err)
			}
			n := &Node{config: c, log: slog.New(slog.DiscardHandler), registry: prometheus.NewRegistry()}
			pool := n.sandboxPool(capacity.Sizing{Total: capacity.Amount{MemoryBytes: tt.memory}})
			if pool.MaxReady != tt.ready || (pool.Max == 0) != tt.poolIsOff || pool.AppShare != 75 || pool.Short == nil {
				t.Errorf("got %+v", pool)
			}
		})
	}
}
