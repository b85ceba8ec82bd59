package config

import (
	"strings"
	"testing"
	"time"
)

func TestSettingsOfLoadBalancers(t *testing.T) {
	c, warnings := load(t, "FN_NODE_TYPE=lb", "FN_RUNNER_API_URL=https://api.example.com:8443/v2/?x",
		"FN_EXECUTION_HEADROOM=-1", "FN_STALE_DEFINITIONS=0", "FN_RUNNER_API_RETRIES=0", "FN_SHUTDOWN_DELAY=5s")
	if len(warnings) != 0 {
		t.Errorf("warnings: %q", warnings)
	}
	for name, ok := range map[string]bool{
		"node type":        c.NodeType == NodeLB,
		"URL without path": c.LB.APIURL == "https://api.example.com:8443",
		"no limit":         c.LB.Headroom == 0,
		"never stale":      c.LB.StaleFor == 0,
		"retries":          c.LB.APIRetries == 0,
		"delay":            c.ShutdownDelay == 5*time.Second,
	} {
		if !ok {
			t.Errorf("%s: %+v", name, c.LB)
		}
	}
	for _, wrong := range []string{"api:8080", "ftp://api", "http://", "http://user:sesame@api"} {
		if _, _, err := Load([]string{"FN_RUNNER_API_URL=" + wrong}, noFiles, "/"); err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: got %v", wrong, err)
		}
	}
}
