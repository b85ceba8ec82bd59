package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPreforkSettings(t *testing.T) {
	usual := Prefork{Min: 5, Max: PreforkAuto, Command: []string{"tail", "-f", "/dev/null"}, Quarantine: time.Minute, KeepUsed: 5 * time.Minute}
	for name, tt := range map[string]struct {
		environ []string
		want    func(p *Prefork)
	}{
		"Fn's names": {
			[]string{
				"FN_EXPERIMENTAL_PREFORK_POOL_SIZE=12", "FN_EXPERIMENTAL_PREFORK_IMAGE=busybox", "FN_EXPERIMENTAL_PREFORK_CMD=sleep  1d",
				"FN_EXPERIMENTAL_PREFORK_USE_ONCE=1", "FN_EXPERIMENTAL_PREFORK_NETWORKS=a b",
			},
			func(p *Prefork) {
				p.Min, p.Image, p.Command, p.UseOnce, p.Networks = 12, "busybox", []string{"sleep", "1d"}, true, []string{"a", "b"}
			},
		},
		"Fn's way to turn it off": {
			[]string{"FN_EXPERIMENTAL_PREFORK_POOL_SIZE=0", "FN_EXPERIMENTAL_PREFORK_USE_ONCE=0"},
			func(p *Prefork) { p.Min, p.Max = 0, 0 },
		},
		"the better names": {
			[]string{
				"FN_PREFORK_MIN=3", "FN_PREFORK_MAX=9", "FN_PREFORK_NETWORKS=x,y", "FN_PREFORK_USE_ONCE=true", "FN_PREFORK_QUARANTINE=2m",
				"FN_PREFORK_KEEP=10", "FN_PREFORK_IMAGE=pause", "FN_PREFORK_CMD=/pause",
			},
			func(p *Prefork) {
				*p = Prefork{
					Min: 3, Max: 9, Networks: []string{"x", "y"}, UseOnce: true, Quarantine: 2 * time.Minute, KeepUsed: 10 * time.Second,
					Image: "pause", Command: []string{"/pause"},
				}
			},
		},
		"the better names win": {
			[]string{"FN_PREFORK_MIN=3", "FN_EXPERIMENTAL_PREFORK_POOL_SIZE=12", "FN_EXPERIMENTAL_PREFORK_IMAGE=busybox", "FN_PREFORK_IMAGE=pause"},
			func(p *Prefork) { p.Min, p.Image = 3, "pause" },
		},
		"the better names turn it on again": {
			[]string{"FN_EXPERIMENTAL_PREFORK_POOL_SIZE=0", "FN_PREFORK_MIN=3"},
			func(p *Prefork) { p.Min = 3 },
		},
		"off":  {[]string{"FN_PREFORK_MAX=0"}, func(p *Prefork) { p.Max = 0 }},
		"auto": {[]string{"FN_PREFORK_MAX=auto"}, func(*Prefork) {}},
	} {
		t.Run(name, func(t *testing.T) {
			c, warnings := load(t, tt.environ...)
			want := usual
			tt.want(&want)
			if diff := cmp.Diff(want, c.Engine.Prefork); diff != "" || len(warnings) > 0 {
				t.Errorf("(-want +got)\n%s\nwarnings %q", diff, warnings)
			}
		})
	}
	for _, wrong := range []string{"FN_PREFORK_MAX=many", "FN_PREFORK_MIN=1001", "FN_EXPERIMENTAL_PREFORK_POOL_SIZE=-1", "FN_EXPERIMENTAL_PREFORK_USE_ONCE=yes"} {
		if _, _, err := Load([]string{wrong}, noFiles, "/"); err == nil {
			t.Errorf("%s is accepted", wrong)
		}
	}
}
