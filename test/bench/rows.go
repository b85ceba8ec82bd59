package main

import (
	"context"
	"time"

	"github.com/moby/moby/client"

	"github.com/tinefn/tine/test/functions"
)

// row is one subject of measurement.
type row struct {
	name      string
	what      string
	yardstick bool // it needs nginx
	languages bool // it needs node and python
	run       func(ctx context.Context, b *bench) ([]line, error)
}

// rows are all there are, in the order in which they run.
var rows = []row{
	{name: "server", what: "size of the binary, start to the first /version, memory when idle", run: serverRow},
	{name: "warm", what: "sequential calls of a 100 byte echo; against nginx", yardstick: true, run: warmRow},
	{name: "throughput16", what: "16 clients, the node sized for 16 instances; against nginx with 16 copies", yardstick: true, run: throughputRow(16)},
	{name: "throughput64", what: "the same with 64 clients", yardstick: true, run: throughputRow(64)},
	{name: "freeze", what: "calls after pauses of 150 ms, with each driver; against a node that does not freeze", run: freezeRow},
	{name: "cold", what: "first call of a function that was never called, image local; Docker with and without the prefork pool, the native driver with and without a sandbox ready, and a plain process", run: coldRow},
	{name: "burst", what: "30 functions that were never called, at the same time; Docker with and without the prefork pool, and the native driver", run: burstRow},
	{name: "standby", what: "first call of a function in Go, Node and Python, with and without an instance on standby, and what that holds of memory", languages: true, run: standbyRow},
	{name: "pool", what: "what each network namespace of the prefork pool takes: memory, and time to make it", run: poolRow},
	{name: "sandboxes", what: "what each waiting sandbox of the native driver takes: memory, and time to make it", run: sandboxesRow},
	{name: "engine", what: "create, start and remove of a container by the Docker driver, with and without the prefork pool", run: engineRow},
	{name: "overload", what: "ten times more clients than capacity; against the peak of the same node", run: overloadRow},
	{name: "lb", what: "calls through a load balancer and a runner; against a full node", run: lbRow},
	{name: "scale", what: "calls of a function that sleeps, with one to three runners of the same size", run: scaleRow},
	{name: "memory", what: "the server's peak memory with 64 MB responses through 8 clients", run: memoryRow},
	{name: "idle", what: "processor time and memory that 80 frozen instances cost the server", run: idleRow},
	{name: "admin", what: "definitions in SQLite: create and get with 16 clients, pages of a list of 10 000", run: adminRow},
}

// The size of nodes under test: so many instances of a function of this memory.
const (
	instances         = 16
	functionMemoryMiB = 128
)

const mebibyte = 1 << 20

// bench is what the rows share. Rows run one after the other, so that each has
// the machine to itself.
type bench struct {
	dir      string                        // removed at the end
	server   string                        // path of the server's program
	function string                        // path of the test function's program, which is in the image too
	image    string                        // of the test function
	nginx    string                        // path of its program; set if a row needs it
	examples map[functions.Language]string // their images; set if a row needs them
	engine   *client.Client

	quick    bool
	overload time.Duration
	progress *progress
	made     int // how many directories were made in dir
}

// choose returns the value for a full or a quick run.
func choose[T any](b *bench, full, quick T) T {
	if b.quick {
		return quick
	}
	return full
}

// label names the row of its lines.
func label(row string, lines []line) []line {
	for i := range lines {
		lines[i].Row = row
	}
	return lines
}
