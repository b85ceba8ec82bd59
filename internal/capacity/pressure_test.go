package capacity

import (
	"os"
	"runtime"
	"strings"
	"testing"
)

func psi(avg10 string) string {
	return "some avg10=" + avg10 + " avg60=99.00 avg300=99.00 total=1\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=0\n"
}

func TestPressure(t *testing.T) {
	limits := PressureLimits{CPUPercent: 80, MemoryPercent: 10, MinFreeBytes: 256 * mebibyte}
	const much, little = "MemAvailable: 1048576 kB\n", "MemAvailable: 262143 kB\n"
	for name, tt := range map[string]struct {
		files              []string
		change             func(*PressureLimits)
		processors, memory bool
	}{
		"calm":                    {files: []string{"proc/pressure/cpu", psi("79.99"), "proc/pressure/memory", psi("9.99"), "proc/meminfo", much}},
		"processors":              {files: []string{"proc/pressure/cpu", psi("80.00"), "proc/meminfo", much}, processors: true},
		"memory waits":            {files: []string{"proc/pressure/memory", psi("10.00"), "proc/meminfo", much}, memory: true},
		"memory is little":        {files: []string{"proc/pressure/memory", psi("0.00"), "proc/meminfo", little}, memory: true},
		"no pressure, load":       {files: []string{"proc/loadavg", "8.00 0.00 0.00 1/106 1\n", "proc/meminfo", much}, processors: true},
		"no pressure, less load":  {files: []string{"proc/loadavg", "7.99 9.00 9.00 1/106 1\n", "proc/meminfo", much}},
		"pressure wins over load": {files: []string{"proc/pressure/cpu", psi("1.00"), "proc/loadavg", "99.00 0.00 0.00 1/106 1\n"}},
		"strange":                 {files: []string{"proc/pressure/cpu", "some\n", "proc/pressure/memory", "some avg10=-1 x", "proc/loadavg", "", "proc/meminfo", "?"}},
		"nothing":                 {},
		"never": {
			files: []string{"proc/pressure/cpu", psi("100.00"), "proc/pressure/memory", psi("100.00"), "proc/meminfo", little},
			change: func(l *PressureLimits) {
				*l = PressureLimits{CPUPercent: 100, MemoryPercent: 100}
			},
		},
		"never by load": {
			files:  []string{"proc/loadavg", "99.00 0.00 0.00 1/106 1\n"},
			change: func(l *PressureLimits) { l.CPUPercent = 100 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := Pressure{System: files(tt.files...), CPUs: 4, Limits: limits}
			if tt.change != nil {
				tt.change(&p.Limits)
			}
			if processors, memory := p.Short(); processors != tt.processors || memory != tt.memory {
				t.Errorf("processors %t, memory %t", processors, memory)
			}
		})
	}
}

// The machine that the test runs on is short of all, or of nothing, as the limits are.
func TestPressureOfThisMachine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells")
	}
	p := Pressure{System: os.DirFS("/"), CPUs: runtime.NumCPU(), Limits: PressureLimits{CPUPercent: 0, MemoryPercent: 100, MinFreeBytes: 1 << 60}}
	if processors, memory := p.Short(); !memory || !processors && hasPressure(t) {
		t.Errorf("processors %t, memory %t, with limits that are always exceeded", processors, memory)
	}
	p.Limits = PressureLimits{CPUPercent: 100, MemoryPercent: 100}
	if processors, memory := p.Short(); processors || memory {
		t.Errorf("processors %t, memory %t, with limits that never are", processors, memory)
	}
}

func hasPressure(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/pressure/cpu")
	if err == nil && !strings.HasPrefix(string(text), "some avg10=") {
		t.Errorf("the kernel says %q", text)
	}
	return err == nil
}

func FuzzSomeAverage(f *testing.F) {
	f.Add(psi("1.50"))
	f.Add("some avg10=NaN")
	f.Add("full avg10=1.00\nsome avg60=1.00")
	f.Fuzz(func(t *testing.T, text string) {
		if percent, ok := someAverage(text); ok && !(percent >= 0 && percent <= 100) {
			t.Errorf("%v of %q", percent, text)
		}
	})
}

func BenchmarkPressure(b *testing.B) {
	p := Pressure{System: os.DirFS("/"), CPUs: runtime.NumCPU(), Limits: PressureLimits{CPUPercent: 80, MemoryPercent: 10, MinFreeBytes: 1}}
	for b.Loop() {
		p.Short()
	}
}
