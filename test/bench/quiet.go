package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"time"
)

// The machine is quiet when its processors are idle for so large a part of such
// a time. One that is never quiet is measured all the same.
const (
	quietShare = 0.9
	quietTime  = 300 * time.Millisecond
	quietLimit = 10 * time.Second
	quickLimit = time.Second // of a quick run, whose figures mean little
)

// awaitQuiet waits until the kernel and the engine have cleared away what was
// measured last: the end of network namespaces takes them a while, and would
// slow down whatever comes next.
func (b *bench) awaitQuiet(ctx context.Context) error {
	for deadline := time.Now().Add(choose(b, quietLimit, quickLimit)); time.Now().Before(deadline); {
		before, err := machineTime()
		if err != nil {
			return err
		}
		if err := pause(ctx, quietTime); err != nil {
			return err
		}
		after, err := machineTime()
		if err != nil {
			return err
		}
		if idle, all := after.idle-before.idle, after.all-before.all; all > 0 && float64(idle) >= quietShare*float64(all) {
			return nil
		}
	}
	return nil
}

// ticks are how the processors have spent their time, in units of clockTick.
type ticks struct{ idle, all int64 }

func machineTime() (ticks, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return ticks{}, err
	}
	return parseMachineTime(text)
}

// parseMachineTime reads the first line of /proc/stat: "cpu", then the times in
// user mode, user mode at low priority, kernel mode, idle, waiting for disks, and
// others.
func parseMachineTime(text []byte) (t ticks, err error) {
	first, _, _ := bytes.Cut(text, []byte("\n"))
	fields := bytes.Fields(first)
	if len(fields) < 6 || string(fields[0]) != "cpu" {
		return t, fmt.Errorf("%w: %q", errProcfs, first)
	}
	for i, field := range fields[1:] {
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return t, fmt.Errorf("%w: %q", errProcfs, first)
		}
		t.all += n
		if i == 3 || i == 4 {
			t.idle += n
		}
	}
	return t, nil
}
