package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// sandboxesFirst is the size of the pool that a larger one is compared with, so that
// what the first of all sandboxes cost is not counted.
const sandboxesFirst = 2

// sandboxesRow finds out what the sandboxes that wait in the pool of the native driver
// take, and how long they take to be made.
//
// Memory is counted twice. The control groups of the sandboxes count what their processes
// hold and what the kernel allocates for these; to that comes what the server's process
// has grown by. What the kernel keeps of namespaces, network interfaces and the groups
// themselves is counted for nobody or, with version 1, for whoever made them: the second
// figure is by how much all that the machine holds has grown.
func sandboxesRow(ctx context.Context, b *bench) (lines []line, err error) {
	size, rounds := choose(b, 30, 4), choose(b, 3, 1)
	var took, counted, machine []float64
	for round := range rounds {
		b.progress.show("round %d of %d", round+1, rounds)
		few, err := b.measureSandboxes(ctx, sandboxesFirst)
		if err != nil {
			return nil, err
		}
		many, err := b.measureSandboxes(ctx, sandboxesFirst+size)
		if err != nil {
			return nil, err
		}
		took = append(took, many.each)
		counted = append(counted, inMebibytes(many.groups-few.groups+many.server-few.server)/float64(size))
		machine = append(machine, inMebibytes(many.machine-few.machine)/float64(size))
	}
	each := summarize(counted).median
	return []line{
		valuesLine("time to make one, two at once", "ms", took),
		valuesLine(fmt.Sprintf("memory of each of %d, groups and server", size), "MB", counted, atMost("median", each, 1.5, "MB")),
		valuesLine("memory of each, whole machine", "MB", machine),
	}, nil
}

// poolSize is what a pool of sandboxes took.
type poolSize struct {
	each                    float64 // milliseconds to make one
	groups, server, machine int64   // bytes
}

// measureSandboxes starts a node whose pool has so many sandboxes, and ends it again.
func (b *bench) measureSandboxes(ctx context.Context, size int) (got poolSize, err error) {
	if err := b.awaitQuiet(ctx); err != nil {
		return got, err
	}
	n, err := b.startNode(ctx, with(nativeSettings(0), "FN_SANDBOX_MIN", fmt.Sprint(size)))
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, n.stop()) }()
	if err := (coldNode{n, size}).awaitPool(ctx); err != nil {
		return got, err
	}
	made, err := n.metric(ctx, "tine_prefork_create_seconds_count", `result="ok"`)
	if err != nil {
		return got, err
	}
	seconds, err := n.metric(ctx, "tine_prefork_create_seconds_sum", `result="ok"`)
	if err != nil {
		return got, err
	}
	got.each = 1000 * seconds / made
	if err := pause(ctx, settleTime); err != nil {
		return got, err
	}
	if err := b.awaitQuiet(ctx); err != nil {
		return got, err
	}
	if got.server, err = memoryNow(n.pid()); err != nil {
		return got, err
	}
	if got.groups, err = n.groupMemory(size); err != nil {
		return got, err
	}
	got.machine, err = heldMemory()
	return got, err
}

// groupMemory adds up what the control groups of the node's sandboxes count. There must
// be at least so many.
func (n *node) groupMemory(atLeast int) (sum int64, err error) {
	instance, err := os.ReadFile(filepath.Join(n.dir, "data", "native", "instance"))
	if err != nil {
		return 0, err
	}
	group := "tine/" + strings.TrimSpace(string(instance))
	var files []string
	for _, pattern := range []string{"/sys/fs/cgroup/memory/" + group + "/*/memory.usage_in_bytes", "/sys/fs/cgroup/" + group + "/*/memory.current"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return 0, err
		}
		files = append(files, found...)
	}
	if len(files) < atLeast {
		return 0, fmt.Errorf("there are %d control groups of %s, not %d", len(files), group, atLeast)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		bytes, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			return 0, err
		}
		sum += bytes
	}
	return sum, nil
}
