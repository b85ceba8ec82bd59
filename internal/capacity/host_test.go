package capacity

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// files builds a file system from name and content pairs.
func files(pairs ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		fsys[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return fsys
}

const (
	meminfo8GiB = "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\nBuffers:           65536 kB\n"

	mountsV1 = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n" +
		"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n" +
		"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
	mountsV2     = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	mountsHybrid = mountsV1 + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"

	noLimitV1 = "9223372036854771712\n"
)

func TestHost(t *testing.T) {
	tests := map[string]struct {
		files  fstest.MapFS
		cpus   int
		limits Limits
		want   Amount
		memory string // part of the explanation
		cpu    string
	}{
		"no control groups": {
			files: files("proc/meminfo", meminfo8GiB), cpus: 4,
			want:   Amount{MemoryBytes: 8*gibibyte - 8*gibibyte/10, MilliCPU: 4000},
			memory: "8.0 GiB available by /proc/meminfo less 819 MiB headroom", cpu: "number of processors: 4",
		},
		"kernel without MemAvailable": {
			files: files("proc/meminfo", "MemTotal: 16777216 kB\nMemFree: 1048576 kB\nBuffers: 1048576 kB\nCached: 2097152 kB\n"), cpus: 1,
			want:   Amount{MemoryBytes: 4*gibibyte - 4*gibibyte/10, MilliCPU: 1000},
			memory: "4.0 GiB available", cpu: "number of processors: 1",
		},
		"headroom has a lower bound": {
			files: files("proc/meminfo", "MemAvailable: 1048576 kB\n"), cpus: 1,
			want:   Amount{MemoryBytes: 768 * mebibyte, MilliCPU: 1000},
			memory: "256 MiB headroom", cpu: "number of processors: 1",
		},
		"headroom has an upper bound": {
			files: files("proc/meminfo", "MemAvailable: 104857600 kB\n"), cpus: 1,
			want:   Amount{MemoryBytes: 95 * gibibyte, MilliCPU: 1000},
			memory: "5.0 GiB headroom", cpu: "number of processors: 1",
		},
		"caps": {
			files: files("proc/meminfo", meminfo8GiB), cpus: 4, limits: Limits{MaxMemoryBytes: gibibyte, MaxMilliCPU: 1500},
			want:   Amount{MemoryBytes: gibibyte, MilliCPU: 1500},
			memory: "FN_MAX_TOTAL_MEMORY_BYTES, below 8.0 GiB", cpu: "FN_MAX_TOTAL_CPU_MCPUS, below number of processors: 4",
		},
		"caps above what there is": {
			files: files("proc/meminfo", "MemAvailable: 1048576 kB\n"), cpus: 2, limits: Limits{MaxMemoryBytes: gibibyte, MaxMilliCPU: 4000},
			want:   Amount{MemoryBytes: 768 * mebibyte, MilliCPU: 2000},
			memory: "1.0 GiB available", cpu: "number of processors: 2",
		},
		"version 1, nested, the parent is tighter": {
			files: files(
				"proc/meminfo", meminfo8GiB, "proc/self/mountinfo", mountsV1,
				"proc/self/cgroup", "5:cpuacct,cpu:/a\n4:memory:/a/b\n1:name=systemd:/\n",
				"sys/fs/cgroup/memory/memory.limit_in_bytes", noLimitV1,
				"sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1073741824\n",
				"sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "2147483648\n",
				"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n",
				"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n",
				"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "150000\n",
				"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n",
			), cpus: 4,
			want:   Amount{MemoryBytes: 768 * mebibyte, MilliCPU: 1500},
			memory: "1.0 GiB allowed by /sys/fs/cgroup/memory/a/memory.limit_in_bytes",
			cpu:    "allowed by /sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us",
		},
		"version 1 without limits": {
			files: files(
				"proc/meminfo", meminfo8GiB, "proc/self/mountinfo", mountsV1, "proc/self/cgroup", "4:memory:/\n",
				"sys/fs/cgroup/memory/memory.limit_in_bytes", noLimitV1,
			), cpus: 4,
			want:   Amount{MemoryBytes: 8*gibibyte - 8*gibibyte/10, MilliCPU: 4000},
			memory: "/proc/meminfo", cpu: "number of processors: 4",
		},
		"version 1 in a container that sees the host's names": {
			files: files(
				"proc/meminfo", meminfo8GiB,
				"proc/self/mountinfo", "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro master:17 - cgroup cgroup rw,memory\n",
				"proc/self/cgroup", "4:memory:/docker/abc\n",
				"sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n",
			), cpus: 1,
			want:   Amount{MemoryBytes: 768 * mebibyte, MilliCPU: 1000},
			memory: "/sys/fs/cgroup/memory/memory.limit_in_bytes", cpu: "number of processors: 1",
		},
		"version 2, nested": {
			files: files(
				"proc/meminfo", meminfo8GiB, "proc/self/mountinfo", mountsV2, "proc/self/cgroup", "0::/system.slice/tine.service\n",
				"sys/fs/cgroup/system.slice/memory.max", "1073741824\n",
				"sys/fs/cgroup/system.slice/cpu.max", "max 100000\n",
				"sys/fs/cgroup/system.slice/tine.service/memory.max", "max\n",
				"sys/fs/cgroup/system.slice/tine.service/cpu.max", "50000 100000\n",
			), cpus: 4,
			want:   Amount{MemoryBytes: 768 * mebibyte, MilliCPU: 500},
			memory: "/sys/fs/cgroup/system.slice/memory.max", cpu: "/sys/fs/cgroup/system.slice/tine.service/cpu.max",
		},
		"version 2 in a container with its own namespace": {
			files: files(
				"proc/meminfo", meminfo8GiB, "proc/self/mountinfo", mountsV2, "proc/self/cgroup", "0::/\n",
				"sys/fs/cgroup/memory.max", "1073741824\n",
				"sys/fs/cgroup/cpu.max", "200000 100000\n",
			), cpus: 8,
			want:   Amount{MemoryBytes: 768 * mebibyte, MilliCPU: 2000},
			memory: "/sys/fs/cgroup/memory.max", cpu: "/sys/fs/cgroup/cpu.max",
		},
		"group outside the namespace": {
			files: files(
				"proc/meminfo", meminfo8GiB, "proc/self/mountinfo", mountsV2, "proc/self/cgroup", "0::/../other\n",
				"sys/fs/cgroup/memory.max", "1073741824\n", "sys/fs/cgroup/other/memory.max", "536870912\n",
			), cpus: 1,
			want:   Amount{MemoryBytes: 768 * mebibyte, MilliCPU: 1000},
			memory: "/sys/fs/cgroup/memory.max", cpu: "number of processors: 1",
		},
		"hybrid": {
			files: files(
				"proc/meminfo", meminfo8GiB, "proc/self/mountinfo", mountsHybrid,
				"proc/self/cgroup", "5:cpu,cpuacct:/\n4:memory:/a\n0::/user.slice\n",
				"sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1073741824\n",
				"sys/fs/cgroup/unified/user.slice/cpu.max", "300000 100000\n",
			), cpus: 4,
			want:   Amount{MemoryBytes: 768 * mebibyte, MilliCPU: 3000},
			memory: "/sys/fs/cgroup/memory/a/memory.limit_in_bytes", cpu: "/sys/fs/cgroup/unified/user.slice/cpu.max",
		},
		"no mount table": {
			files: files(
				"proc/meminfo", meminfo8GiB, "proc/self/cgroup", "0::/a\n",
				"sys/fs/cgroup/a/memory.max", "1073741824\n",
			), cpus: 1,
			want:   Amount{MemoryBytes: 768 * mebibyte, MilliCPU: 1000},
			memory: "/sys/fs/cgroup/a/memory.max", cpu: "number of processors: 1",
		},
		"mount point with a space": {
			files: files(
				"proc/meminfo", meminfo8GiB, "proc/self/cgroup", "0::/\n",
				"proc/self/mountinfo", `30 23 0:26 / /my\040groups rw - cgroup2 cgroup2 rw`+"\n",
				"my groups/memory.max", "1073741824\n",
			), cpus: 1,
			want:   Amount{MemoryBytes: 768 * mebibyte, MilliCPU: 1000},
			memory: "/my groups/memory.max", cpu: "number of processors: 1",
		},
		"not Linux": {
			files: files(), cpus: 3,
			want:   Amount{MemoryBytes: 2 * gibibyte, MilliCPU: 3000},
			memory: "2.0 GiB, a guess", cpu: "number of processors: 3",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Host(test.files, test.cpus, test.limits)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got.Total); diff != "" {
				t.Errorf("total (-want +got)\n%s", diff)
			}
			if !strings.Contains(got.Explanation, test.memory) || !strings.Contains(got.Explanation, test.cpu) {
				t.Errorf("explanation %q, want %q and %q in it", got.Explanation, test.memory, test.cpu)
			}
		})
	}
}

func TestHostWarns(t *testing.T) {
	tests := map[string]struct {
		meminfo string
		limits  Limits
		want    string
	}{
		"little memory":       {"MemAvailable: 307200 kB\n", Limits{}, "only 44 MiB of memory"},
		"low memory cap":      {meminfo8GiB, Limits{MaxMemoryBytes: 255 * mebibyte}, "only 255 MiB of memory"},
		"low processor cap":   {meminfo8GiB, Limits{MaxMilliCPU: 999}, "only 999 thousandths"},
		"meminfo is unusable": {"MemTotal: many\n", Limits{}, "set FN_MAX_TOTAL_MEMORY_BYTES"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Host(files("proc/meminfo", test.meminfo), 2, test.limits)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], test.want) {
				t.Errorf("warnings %q, want one with %q", got.Warnings, test.want)
			}
		})
	}
}

func TestHostWithTooLittleMemoryIsAnError(t *testing.T) {
	_, err := Host(files("proc/meminfo", "MemAvailable: 262144 kB\n"), 1, Limits{})
	if err == nil || !strings.Contains(err.Error(), "256 MiB available by /proc/meminfo") {
		t.Errorf("got %v", err)
	}
}

func TestHostOfThisMachine(t *testing.T) {
	got, err := Host(os.DirFS("/"), runtime.NumCPU(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Total.MemoryBytes <= 0 || got.Total.MilliCPU <= 0 || got.Explanation == "" {
		t.Errorf("got %+v", got)
	}
	t.Logf("%+v", got)
}

func FuzzHost(f *testing.F) {
	f.Add(meminfo8GiB, "4:memory:/a/b\n0::/c\n", mountsHybrid, "1073741824\n", "50000 100000\n")
	f.Add("MemAvailable: 9223372036854775807 kB\n", "0::/..\n", mountsV2, "-1", "9223372036854775807 1")
	f.Fuzz(func(t *testing.T, meminfo, own, mounts, memory, cpu string) {
		got, err := Host(files(
			"proc/meminfo", meminfo, "proc/self/cgroup", own, "proc/self/mountinfo", mounts,
			"sys/fs/cgroup/memory.max", memory, "sys/fs/cgroup/cpu.max", cpu,
			"sys/fs/cgroup/memory/memory.limit_in_bytes", memory,
		), 4, Limits{})
		if err != nil {
			return
		}
		if got.Total.MemoryBytes <= 0 || got.Total.MilliCPU < 1 || got.Total.MilliCPU > 4000 {
			t.Errorf("got %+v", got)
		}
	})
}
