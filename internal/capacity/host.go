package capacity

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
)

const (
	mebibyte = 1 << 20
	gibibyte = 1 << 30
)

// Headroom is what stays free for the server, the engine and everything else:
// a tenth of the memory within these bounds.
const (
	minHeadroomBytes = 256 * mebibyte
	maxHeadroomBytes = 5 * gibibyte
)

// minUsableBytes must be exceeded by the memory that a machine has to offer.
const minUsableBytes = 256 * mebibyte

// unknownHostBytes is the total where the system does not tell its memory.
const unknownHostBytes = 2 * gibibyte

// Below these totals many functions with default settings do not fit.
const (
	scarceMemoryBytes = 256 * mebibyte
	scarceMilliCPU    = 1000
)

// Limits are the operator's caps; zero is no cap.
type Limits struct {
	MaxMemoryBytes int64
	MaxMilliCPU    int64
}

// Sizing is how much containers may use of a machine, and why.
type Sizing struct {
	Total       Amount
	Explanation string   // where the numbers come from, for the log
	Warnings    []string // about scarcity and guesses

	spareBytes int64 // memory that a cap leaves unused
}

// Reserve takes memory for something else than containers: what a cap leaves
// unused at first.
func (s *Sizing) Reserve(bytes int64, purpose string) {
	if bytes <= 0 {
		return
	}
	fromSpare := min(bytes, s.spareBytes)
	s.spareBytes -= fromSpare
	s.Total.MemoryBytes = max(0, s.Total.MemoryBytes-(bytes-fromSpare))
	s.Explanation += fmt.Sprintf("; %s of it for %s", size(bytes), purpose)
}

// Host measures the machine that the server runs on. The file system is the
// machine's root; cpus is the number of processors that the runtime sees.
//
// Memory is what is available now, or what the server's own control group and
// those above it allow if that is less, without headroom. Processor time is
// bounded by the processors and by the quotas of the same groups. The caps
// lower both.
func Host(fsys fs.FS, cpus int, limits Limits) (Sizing, error) {
	var s Sizing
	groups := ownGroups(fsys)
	memory, err := s.sizeMemory(fsys, groups, limits.MaxMemoryBytes)
	if err != nil {
		return Sizing{}, err
	}
	cpu := s.sizeCPU(fsys, groups, cpus, limits.MaxMilliCPU)
	s.Explanation = "memory: " + memory + "; processor time: " + cpu
	return s, nil
}

// sizeMemory sets the total of memory and returns where it comes from.
func (s *Sizing) sizeMemory(fsys fs.FS, groups []group, limit int64) (because string, err error) {
	available, err := availableMemory(fsys)
	if err != nil {
		s.Total.MemoryBytes = unknownHostBytes
		because = size(unknownHostBytes) + ", a guess"
		if !errors.Is(err, fs.ErrNotExist) { // which is normal on systems other than Linux
			s.warn("the available memory cannot be read (%v); %s are assumed, set FN_MAX_TOTAL_MEMORY_BYTES to what there is", err, size(unknownHostBytes))
		}
	} else {
		source := "available by /proc/meminfo"
		if allowed, file := lowestMemoryLimit(fsys, groups); allowed < available {
			available, source = allowed, "allowed by "+file
		}
		if available <= minUsableBytes {
			return "", fmt.Errorf("too little memory to run functions: %s %s, more than %s are needed",
				size(available), source, size(minUsableBytes))
		}
		headroom := min(max(available/10, minHeadroomBytes), maxHeadroomBytes)
		s.Total.MemoryBytes = max(0, available-headroom)
		because = fmt.Sprintf("%s %s less %s headroom", size(available), source, size(headroom))
	}
	if limit > 0 && limit < s.Total.MemoryBytes {
		s.spareBytes = s.Total.MemoryBytes - limit
		s.Total.MemoryBytes = limit
		because = "FN_MAX_TOTAL_MEMORY_BYTES, below " + because
	}
	if s.Total.MemoryBytes < scarceMemoryBytes {
		s.warn("functions get only %s of memory together (%s)", size(s.Total.MemoryBytes), because)
	}
	return because, nil
}

// sizeCPU sets the total of processor time and returns where it comes from.
func (s *Sizing) sizeCPU(fsys fs.FS, groups []group, cpus int, limit int64) (because string) {
	s.Total.MilliCPU = int64(max(cpus, 1)) * 1000
	because = fmt.Sprintf("number of processors: %d", max(cpus, 1))
	if quota, file := lowestCPUQuota(fsys, groups); quota < s.Total.MilliCPU {
		s.Total.MilliCPU = quota
		because = "allowed by " + file
	}
	if limit > 0 && limit < s.Total.MilliCPU {
		s.Total.MilliCPU = limit
		because = "FN_MAX_TOTAL_CPU_MCPUS, below " + because
	}
	if s.Total.MilliCPU < scarceMilliCPU {
		s.warn("functions get only %d thousandths of a processor together (%s)", s.Total.MilliCPU, because)
	}
	return because
}

func (s *Sizing) warn(format string, args ...any) {
	s.Warnings = append(s.Warnings, fmt.Sprintf(format, args...))
}

// availableMemory is what the kernel can hand out without swapping, in bytes.
func availableMemory(fsys fs.FS) (int64, error) {
	text, err := fs.ReadFile(fsys, "proc/meminfo")
	if err != nil {
		return 0, err
	}
	fields := map[string]int64{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		number, isKiB := strings.CutSuffix(strings.TrimSpace(rest), " kB")
		kibibytes, err := strconv.ParseInt(number, 10, 64)
		if err != nil || !isKiB || kibibytes < 0 || kibibytes > math.MaxInt64/4096 {
			continue
		}
		fields[name] = kibibytes * 1024
	}
	if available, ok := fields["MemAvailable"]; ok {
		return available, nil
	}
	// Kernels before 3.14, and some that only pretend to be Linux.
	free, ok := fields["MemFree"]
	if !ok {
		return 0, errors.New("/proc/meminfo has neither MemAvailable nor MemFree")
	}
	return free + fields["Buffers"] + fields["Cached"], nil
}

// size writes bytes for people.
func size(n int64) string {
	if n >= gibibyte {
		return fmt.Sprintf("%.1f GiB", float64(n)/gibibyte)
	}
	return fmt.Sprintf("%.0f MiB", float64(n)/mebibyte)
}
