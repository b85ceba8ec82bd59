package capacity

import (
	"io/fs"
	"strconv"
	"strings"
)

// Pressure finds out whether the machine is short of processor time or memory. It
// keeps nothing, and may be used by several goroutines.
type Pressure struct {
	System fs.FS // the root of the machine's file system
	CPUs   int   // processors of the machine
	Limits PressureLimits
}

// PressureLimits say when the machine is short of something.
type PressureLimits struct {
	// CPUPercent and MemoryPercent are parts of the last ten seconds in which some
	// process waited for a processor, or for memory; 100 is never.
	CPUPercent, MemoryPercent int

	// MinFreeBytes of memory are to be available.
	MinFreeBytes int64
}

// loadPerCPU takes the place of CPUPercent where the kernel does not count pressure:
// processes that ran or wanted to in the last minute, for each processor.
const loadPerCPU = 2

// Short reports what the machine is short of. It reads three files of the kernel; one
// that is missing or strange says nothing.
func (p Pressure) Short() (processors, memory bool) {
	return p.isShortOfCPU(), p.isShortOfMemory()
}

func (p Pressure) isShortOfCPU() bool {
	if stalled, ok := p.stalled("cpu"); ok {
		return p.Limits.CPUPercent < 100 && stalled >= float64(p.Limits.CPUPercent)
	}
	text, err := fs.ReadFile(p.System, "proc/loadavg") // "0.08 1.43 2.61 1/106 14253"
	if err != nil || p.Limits.CPUPercent >= 100 {
		return false
	}
	load, _, _ := strings.Cut(string(text), " ")
	running, err := strconv.ParseFloat(load, 64)
	return err == nil && running >= float64(loadPerCPU*max(p.CPUs, 1))
}

func (p Pressure) isShortOfMemory() bool {
	if available, err := availableMemory(p.System); err == nil && available < p.Limits.MinFreeBytes {
		return true
	}
	stalled, ok := p.stalled("memory")
	return ok && p.Limits.MemoryPercent < 100 && stalled >= float64(p.Limits.MemoryPercent)
}

// stalled is the percentage of the last ten seconds in which some process waited for
// a resource. Source: Documentation/accounting/psi.rst of the kernel.
func (p Pressure) stalled(resource string) (percent float64, ok bool) {
	text, err := fs.ReadFile(p.System, "proc/pressure/"+resource)
	if err != nil {
		return 0, false // a kernel without it, or one that has it turned off
	}
	return someAverage(string(text))
}

// someAverage reads the average of ten seconds from a text like
//
//	some avg10=0.36 avg60=0.78 avg300=11.85 total=8987447374
//	full avg10=0.00 avg60=0.00 avg300=0.00 total=0
func someAverage(text string) (percent float64, ok bool) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "some" {
			continue
		}
		value, found := strings.CutPrefix(fields[1], "avg10=")
		percent, err := strconv.ParseFloat(value, 64)
		return percent, found && err == nil && percent >= 0 && percent <= 100
	}
	return 0, false
}
