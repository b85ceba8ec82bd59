//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// Limits are what the processes of a group may use together. Zero values are
// no limit.
type Limits struct {
	MemoryBytes int64 // without swap, which they get none of
	MilliCPU    int64 // thousandths of a processor; see minQuota
	Processes   int64 // threads count
	Weight      int64 // share of processors if they are short, 1 to 10000; 0 is DefaultWeight
}

// DefaultWeight is the weight of groups that have none, as the kernel has it.
const DefaultWeight = 100

const (
	maxWeight = 10_000 // the kernel's

	// period is the time, in microseconds, in which a group may use its quota
	// of processor time: the kernel's default, so that it need not be written
	// with version 1.
	period = 100_000
	// minQuota is the smallest quota that the kernel takes, in microseconds: a
	// hundredth of a processor. Less counts as this.
	minQuota = 1_000

	swapLimitV1 = "memory.memsw.limit_in_bytes" // of memory and swap together
	unlimited   = "-1"                          // in files of version 1
	unlimitedV2 = "max"                         // in files of version 2, and of pids in both
)

// Set puts limits into effect. It writes only what is different from before,
// and is meant to be called while somebody waits. Limits of memory below what
// is in use: version 1 refuses them, version 2 ends processes.
func (g *Group) Set(limits Limits) error {
	if limits.MemoryBytes < 0 || limits.MilliCPU < 0 || limits.Processes < 0 || limits.Weight < 0 || limits.Weight > maxWeight {
		return fmt.Errorf("limits %+v of control group %s: they are 0 or above, the weight is at most %d", limits, g.path(), maxWeight)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range g.writes(limits) {
		err := write(g.dir(w.controller), w.file, w.value)
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("limit control group %s: its processes use more memory than that: %w", g.path(), err)
		}
		if err != nil {
			return fmt.Errorf("limit control group %s: %w", g.path(), err)
		}
	}
	g.set = limits
	return nil
}

// order is what is written to a file of a controller.
type order struct{ controller, file, value string }

// writes are the steps from the limits in effect to others.
func (g *Group) writes(limits Limits) []order {
	var orders []order
	add := func(controller, file, value string) { orders = append(orders, order{controller, file, value}) }
	isV2 := g.manager.tree.mode == V2
	number := func(n int64, none string) string {
		if n == 0 {
			return none
		}
		return strconv.FormatInt(n, 10)
	}
	if limits.MemoryBytes != g.set.MemoryBytes {
		switch bytes := number(limits.MemoryBytes, unlimited); {
		case isV2:
			add("memory", "memory.max", number(limits.MemoryBytes, unlimitedV2))
		case !g.manager.swap:
			add("memory", "memory.limit_in_bytes", bytes)
		case g.set.MemoryBytes != 0 && (limits.MemoryBytes == 0 || limits.MemoryBytes > g.set.MemoryBytes):
			// The limit of both may never be below that of memory alone.
			add("memory", swapLimitV1, bytes)
			add("memory", "memory.limit_in_bytes", bytes)
		default:
			add("memory", "memory.limit_in_bytes", bytes)
			add("memory", swapLimitV1, bytes)
		}
	}
	if limits.MilliCPU != g.set.MilliCPU {
		quota := limits.MilliCPU * period / 1000
		if quota > 0 {
			quota = max(quota, minQuota)
		}
		if isV2 {
			add("cpu", "cpu.max", number(quota, unlimitedV2)+" "+strconv.Itoa(period))
		} else {
			add("cpu", "cpu.cfs_quota_us", number(quota, unlimited))
		}
	}
	if limits.Weight != g.set.Weight {
		weight := limits.Weight
		if weight == 0 {
			weight = DefaultWeight
		}
		if isV2 {
			add("cpu", "cpu.weight", strconv.FormatInt(weight, 10))
		} else {
			add("cpu", "cpu.shares", strconv.FormatInt(sharesOf(weight), 10))
		}
	}
	if limits.Processes != g.set.Processes {
		add("pids", "pids.max", number(limits.Processes, unlimitedV2))
	}
	return orders
}

// sharesOf is a weight in the unit of version 1, where 1024 is the default and
// 2 the least.
func sharesOf(weight int64) int64 { return max(2, weight*1024/DefaultWeight) }
