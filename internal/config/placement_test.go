package config

import (
	"slices"
	"testing"
	"time"
)

func TestSettingsOfPlacement(t *testing.T) {
	c, warnings := load(t, "FN_RUNNER_ADDRESSES=a.example:9190, 192.0.2.1:9190 _fn._tcp.example.com", "FN_RUNNER_FILE=/etc/runners", "FN_PLACER=CH",
		"FN_PLACER_LOAD_FACTOR=2", "FN_PLACER_TIMEOUT=2m", "FN_RUNNER_STATUS_INTERVAL=0", "FN_LB_MAX_KEPT_BODY=1")
	p := c.Placement
	if !slices.Equal(p.Addresses, []string{"a.example:9190", "192.0.2.1:9190", "_fn._tcp.example.com"}) || p.File != "/etc/runners" ||
		p.Placer != PlacerRing || p.LoadFactor != 2 || p.Timeout != 2*time.Minute || p.ProbeInterval != 0 || p.MaxKeptBody != 1 || len(warnings) > 0 {
		t.Errorf("%+v, %v", p, warnings)
	}
	for _, wrong := range []string{
		"FN_RUNNER_ADDRESSES=a.example", "FN_PLACER=best", "FN_PLACER_LOAD_FACTOR=1", "FN_PLACER_LOAD_FACTOR=NaN", "FN_PLACER_LOAD_FACTOR=Inf",
		"FN_PLACER_TIMEOUT=0", "FN_PLACER_RETRY_DELAY=0s", "FN_RUNNER_LOOKUP_INTERVAL=-1s", "FN_LB_MAX_KEPT_BODY=0", "FN_LB_MAX_KEPT_BODIES=x",
	} {
		if _, _, err := Load([]string{wrong}, noFiles, "/"); err == nil {
			t.Errorf("%s is accepted", wrong)
		}
	}
}
