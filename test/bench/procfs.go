package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// clockTick is the unit of processor time in /proc, USER_HZ, which is 100 on
// every architecture that Go supports on Linux.
const clockTick = 10 * time.Millisecond

var errProcfs = errors.New("unexpected content in /proc")

// memoryNow returns a process's resident memory in bytes.
func memoryNow(pid int) (int64, error) { return memoryOf(pid, "VmRSS:") }

// memoryPeak returns the most that it has ever had.
func memoryPeak(pid int) (int64, error) { return memoryOf(pid, "VmHWM:") }

func memoryOf(pid int, field string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parseStatus(text, field)
}

// parseStatus finds a field in kB in /proc/PID/status or /proc/meminfo.
func parseStatus(text []byte, field string) (int64, error) {
	for row := range bytes.Lines(text) {
		words := bytes.Fields(row)
		if len(words) == 3 && string(words[0]) == field && string(words[2]) == "kB" {
			n, err := strconv.ParseInt(string(words[1]), 10, 53)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("%w: no %s", errProcfs, field)
}

// memoryFields are the parts of /proc/meminfo that programs and the kernel hold, as
// opposed to copies of files, which the kernel drops when it needs the memory.
var memoryFields = []string{"AnonPages:", "Shmem:", "Slab:", "KernelStack:", "PageTables:", "Percpu:"}

// heldMemory is what the whole machine cannot do without at the moment, in bytes.
func heldMemory() (sum int64, err error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for _, field := range memoryFields {
		n, err := parseStatus(text, field)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// processorTime returns what a process has used, in user and kernel mode.
func processorTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStat(text)
}

// parseStat adds utime and stime, fields 14 and 15 of /proc/PID/stat. Field 2
// is the program's name in parentheses, which may contain anything.
func parseStat(text []byte) (time.Duration, error) {
	end := bytes.LastIndexByte(text, ')')
	fields := bytes.Fields(text[end+1:]) // from field 3
	if end < 0 || len(fields) < 13 {
		return 0, fmt.Errorf("%w: %q", errProcfs, text)
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(string(field), 10, 48)
		if err != nil {
			return 0, fmt.Errorf("%w: %q", errProcfs, text)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

func inMebibytes(bytes int64) float64 { return float64(bytes) / mebibyte }
