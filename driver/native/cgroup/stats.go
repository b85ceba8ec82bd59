//go:build linux

package cgroup

import (
	"fmt"
	"math"
	"time"
)

// Stats is what the processes of a group use, and what they used in all.
type Stats struct {
	MemoryBytes uint64        // now, with what the kernel keeps of files for them
	CPU         time.Duration // in all, of all processors
	Processes   uint64        // now; threads count
}

// HeldMemory is what the group's processes, and the kernel for them, hold of memory in
// bytes: all that counts against the limit but copies of files, which the kernel drops
// before it runs into it. Files in memory, such as those in /tmp, do count.
func (g *Group) HeldMemory() (int64, error) {
	file := "memory.current"
	if g.manager.tree.mode != V2 {
		file = "memory.usage_in_bytes"
	}
	held, err := readNumber(g.dir("memory"), file)
	if err == nil {
		// Version 1 has fields total_… beside them, for the groups below, of which there are none.
		for _, name := range []string{"inactive_file", "active_file"} {
			var copies uint64
			if copies, err = readField(g.dir("memory"), "memory.stat", name); err != nil {
				break
			}
			held -= min(copies, held) // they were read at different times
		}
	}
	if err != nil {
		return 0, fmt.Errorf("read what memory control group %s holds: %w", g.path(), err)
	}
	return int64(min(held, math.MaxInt64)), nil
}

// Stats reads what the group uses.
func (g *Group) Stats() (Stats, error) {
	memory, cpu, unit := "memory.current", uint64(0), time.Microsecond
	if g.manager.tree.mode != V2 {
		memory = "memory.usage_in_bytes"
	}
	var s Stats
	var err error
	if s.MemoryBytes, err = readNumber(g.dir("memory"), memory); err == nil {
		s.Processes, err = readNumber(g.dir("pids"), "pids.current")
	}
	if err == nil {
		if g.manager.tree.mode == V1 {
			cpu, err = readNumber(g.dir("cpuacct"), "cpuacct.usage")
			unit = time.Nanosecond
		} else { // Linux 4.15 and newer count it in each group of version 2
			cpu, err = readField(g.core(), "cpu.stat", "usage_usec")
		}
	}
	if err != nil {
		return Stats{}, fmt.Errorf("read what control group %s uses: %w", g.path(), err)
	}
	s.CPU = time.Duration(cpu) * unit
	return s, nil
}

// OutOfMemory is how many processes the kernel has killed because the group
// had reached its limit of memory.
func (g *Group) OutOfMemory() (kills uint64, err error) {
	file := "memory.events"
	if g.manager.tree.mode != V2 {
		file = "memory.oom_control"
	}
	if kills, err = readField(g.dir("memory"), file, "oom_kill"); err != nil {
		return 0, fmt.Errorf("read how often control group %s was out of memory: %w", g.path(), err)
	}
	return kills, nil
}
