package capacity

import "testing"

// TestQuotasThatMakeNoSense has what a kernel does not write, but a file system
// that stands for one may. They impose nothing.
func TestQuotasThatMakeNoSense(t *testing.T) {
	const all = 4000
	for name, test := range map[string]struct {
		quota string
		want  int64
	}{
		"no period":               {"50000 0\n", all},
		"negative period":         {"50000 -100000\n", all},
		"no quota":                {"0 100000\n", all},
		"beyond what numbers are": {"9223372036854775807 1\n", all},
		"too much to multiply":    {"9300000000000000 9300000000000000\n", all},
		"less than a thousandth":  {"1 100000\n", 1},
		"one number":              {"50000\n", all},
		"three numbers":           {"50000 100000 1\n", all},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Host(files("proc/meminfo", meminfo8GiB, "proc/self/cgroup", "0::/\n", "sys/fs/cgroup/cpu.max", test.quota), 4, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if got.Total.MilliCPU != test.want {
				t.Errorf("got %d, want %d", got.Total.MilliCPU, test.want)
			}
		})
	}
}

// TestMemoryBeyondAllBounds has sizes that are more bytes than a number holds.
func TestMemoryBeyondAllBounds(t *testing.T) {
	for _, kibibytes := range []string{"9223372036854775807", "9007199254740993"} {
		got, err := Host(files("proc/meminfo", "MemAvailable: "+kibibytes+" kB\n"), 1, Limits{})
		if err != nil || got.Total.MemoryBytes <= 0 || len(got.Warnings) == 0 {
			t.Errorf("%s KiB: %+v, %v", kibibytes, got, err)
		}
	}
}
