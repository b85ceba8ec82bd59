//go:build linux

package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fake is a manager whose hierarchies are empty directories.
func fake(t *testing.T, mode Mode) *Manager {
	t.Helper()
	root := t.TempDir()
	m := &Manager{tree: tree{mode: mode, core: root}, parent: "p", instance: "i", swap: true}
	if mode != V2 {
		m.tree.core = filepath.Join(root, "core")
		m.tree.v1 = map[string]string{}
		for _, controller := range limitControllers {
			m.tree.v1[controller] = filepath.Join(root, controller)
		}
	}
	if mode == V1 {
		m.tree.v1["freezer"] = m.tree.core
		m.tree.v1["cpuacct"] = m.tree.v1["cpu"]
		m.tree.v1["devices"] = filepath.Join(root, "devices")
	}
	return m
}

// put writes files into a directory, and makes it.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatLimitsWrite(t *testing.T) {
	const (
		memory = "memory memory.limit_in_bytes "
		both   = "memory memory.memsw.limit_in_bytes "
	)
	all := Limits{MemoryBytes: 1 << 20, MilliCPU: 250, Processes: 10, Weight: 300}
	tests := map[string]struct {
		mode     Mode
		withSwap bool // limits can be of swap
		from, to Limits
		want     []string
	}{
		"v1, all": {Hybrid, true, Limits{}, all, []string{
			memory + "1048576", both + "1048576", "cpu cpu.cfs_quota_us 25000", "cpu cpu.shares 3072", "pids pids.max 10",
		}},
		"v1, none again": {V1, true, all, Limits{}, []string{
			both + "-1", memory + "-1", "cpu cpu.cfs_quota_us -1", "cpu cpu.shares 1024", "pids pids.max max",
		}},
		"v1, more memory":    {V1, true, Limits{MemoryBytes: 1}, Limits{MemoryBytes: 2}, []string{both + "2", memory + "2"}},
		"v1, less memory":    {V1, true, Limits{MemoryBytes: 2}, Limits{MemoryBytes: 1}, []string{memory + "1", both + "1"}},
		"v1, swap uncounted": {V1, false, Limits{}, Limits{MemoryBytes: 1}, []string{memory + "1"}},
		"v2, all": {V2, true, Limits{}, all, []string{
			"memory memory.max 1048576", "cpu cpu.max 25000 100000", "cpu cpu.weight 300", "pids pids.max 10",
		}},
		"v2, none again": {V2, true, all, Limits{}, []string{
			"memory memory.max max", "cpu cpu.max max 100000", "cpu cpu.weight 100", "pids pids.max max",
		}},
		"the same":          {V2, true, all, all, nil},
		"very little":       {V2, true, Limits{}, Limits{MilliCPU: 1, Weight: 1}, []string{"cpu cpu.max 1000 100000", "cpu cpu.weight 1"}},
		"v1, little weight": {V1, true, Limits{}, Limits{Weight: 1}, []string{"cpu cpu.shares 10"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := fake(t, tt.mode)
			m.swap = tt.withSwap
			g := m.at("i", "g")
			g.set = tt.from
			var got []string
			for _, o := range g.writes(tt.to) {
				got = append(got, o.controller+" "+o.file+" "+o.value)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestSetOfVersion2(t *testing.T) {
	g := fake(t, V2).at("i", "g")
	put(t, g.core(), map[string]string{"memory.max": "max\n", "cpu.max": "max 100000\n", "cpu.weight": "100\n", "pids.max": "max\n"})
	if err := g.Set(Limits{MemoryBytes: 12345678, MilliCPU: 1500, Processes: 7777, Weight: 1000}); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"memory.max": "12345678", "cpu.max": "150000 100000", "cpu.weight": "1000", "pids.max": "7777"} {
		got, err := os.ReadFile(filepath.Join(g.core(), file))
		if err != nil || !strings.HasPrefix(string(got), want) {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
	if err := os.Remove(filepath.Join(g.core(), "pids.max")); err != nil {
		t.Fatal(err)
	}
	if err := g.Set(Limits{Processes: 1}); err == nil || exists(g.core(), "pids.max") {
		t.Errorf("made a file: %v", err)
	}
	for _, wrong := range []Limits{{MemoryBytes: -1}, {MilliCPU: -1}, {Processes: -1}, {Weight: -1}, {Weight: 10_001}} {
		if err := g.Set(wrong); err == nil {
			t.Errorf("took %+v", wrong)
		}
	}
}

func TestCountsOfBothVersions(t *testing.T) {
	want := Stats{MemoryBytes: 4096, CPU: 1234 * time.Microsecond, Processes: 3}
	for _, mode := range []Mode{V1, Hybrid, V2} {
		t.Run(mode.String(), func(t *testing.T) {
			g := fake(t, mode).at("i", "g")
			if _, err := g.Stats(); err == nil {
				t.Error("counts of nothing")
			}
			if _, err := g.HeldMemory(); err == nil {
				t.Error("memory of nothing")
			}
			put(t, g.core(), map[string]string{"cpu.stat": "usage_usec 1234\nuser_usec 1000\n"})
			put(t, g.dir("memory"), map[string]string{
				"memory.current": "4096\n", "memory.events": "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n",
				"memory.stat":           "anon 100\ninactive_file 96\nactive_file 1000\n",
				"memory.usage_in_bytes": "4096\n", "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
			})
			put(t, g.dir("pids"), map[string]string{"pids.current": "3\n"})
			put(t, g.dir("cpu"), map[string]string{"cpuacct.usage": "1234000\n"})
			if got, err := g.Stats(); err != nil || got != want {
				t.Errorf("got %+v, %v", got, err)
			}
			if held, err := g.HeldMemory(); err != nil || held != 3000 {
				t.Errorf("%d bytes held, %v", held, err)
			}
			put(t, g.dir("memory"), map[string]string{"memory.stat": "inactive_file 0\nactive_file 5000\n"})
			if held, err := g.HeldMemory(); err != nil || held != 0 {
				t.Errorf("%d bytes held, %v", held, err)
			}
			if kills, err := g.OutOfMemory(); err != nil || kills != 2 {
				t.Errorf("%d kills, %v", kills, err)
			}
		})
	}
}

func TestEmptyOfBothVersions(t *testing.T) {
	for mode, files := range map[Mode][3]string{
		V1: {"cgroup.procs", "1234\n", ""},
		V2: {"cgroup.events", "populated 1\nfrozen 0\n", "populated 0\nfrozen 0\n"},
	} {
		g := fake(t, mode).at("i", "g")
		if !g.Empty() {
			t.Errorf("%s: no group, but not empty", mode)
		}
		put(t, g.core(), map[string]string{files[0]: files[1]})
		if g.Empty() {
			t.Errorf("%s: empty with processes", mode)
		}
		put(t, g.core(), map[string]string{files[0]: files[2]})
		if !g.Empty() {
			t.Errorf("%s: not empty without processes", mode)
		}
	}
}
