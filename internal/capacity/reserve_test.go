package capacity

import (
	"strings"
	"testing"
)

func TestWhatIsReservedComesFromWhatACapLeavesUnused(t *testing.T) {
	const gib = gibibyte
	for name, tt := range map[string]struct {
		limit, reserve, want int64
	}{
		"no cap":              {0, gib, 0},
		"cap leaves enough":   {2 * gib, gib, 2 * gib},
		"cap leaves too much": {gib, 1, gib},
		"nothing":             {gib, 0, gib},
		"more than there is":  {0, 1 << 60, -1},
	} {
		t.Run(name, func(t *testing.T) {
			size, err := Host(files("proc/meminfo", "MemAvailable: 8388608 kB\n"), 4, Limits{MaxMemoryBytes: tt.limit})
			if err != nil {
				t.Fatal(err)
			}
			want := tt.want
			switch want {
			case 0:
				want = size.Total.MemoryBytes - tt.reserve
			case -1:
				want = 0
			}
			size.Reserve(tt.reserve, "tests")
			if size.Total.MemoryBytes != want {
				t.Errorf("%d are left, want %d", size.Total.MemoryBytes, want)
			}
			if said := strings.Contains(size.Explanation, "for tests"); said != (tt.reserve > 0) {
				t.Errorf("explanation %q", size.Explanation)
			}
		})
	}
	// A second reservation finds what the first one left.
	size, err := Host(files("proc/meminfo", "MemAvailable: 8388608 kB\n"), 4, Limits{MaxMemoryBytes: 7 * gib})
	if err != nil {
		t.Fatal(err)
	}
	before := size.Total.MemoryBytes + size.spareBytes
	size.Reserve(gib/8, "one")
	size.Reserve(gib, "two")
	if got := before - size.Total.MemoryBytes; got != gib+gib/8 {
		t.Errorf("%d are taken", got)
	}
}
