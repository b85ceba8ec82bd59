package main

import (
	"context"
	"time"

	"github.com/moby/moby/client"
)

// row is one subject of measurement.
type row struct {
	name      string
	what      string
	yardstick bool // it needs nginx
	run       func(ctx context.Context, b *bench) ([]line, error)
}

// rows are all there are, in the order in which they run.
var rows = []row{
	{"server", "size of the binary, start to the first /version, memory when idle", false, serverRow},
	{"warm", "sequential calls of a 100 byte echo; against nginx", true, warmRow},
	{"throughput16", "16 clients, the node sized for 16 instances; against nginx with 16 copies", true, throughputRow(16)},
	{"throughput64", "the same with 64 clients", true, throughputRow(64)},
	{"freeze", "calls after pauses of 150 ms; against a node that does not freeze", false, freezeRow},
	{"cold", "first call of a function that was never called, image local; Docker with and without the prefork pool, and the native driver", false, coldRow},
	{"burst", "30 functions that were never called, at the same time; likewise", false, burstRow},
	{"pool", "what each network namespace of the prefork pool takes: memory, and time to make it", false, poolRow},
	{"engine", "create, start and remove of a container by the driver; likewise", false, engineRow},
	{"overload", "ten times more clients than capacity; against the peak of the same node", false, overloadRow},
	{"memory", "the server's peak memory with 64 MB responses through 8 clients", false, memoryRow},
	{"idle", "processor time and memory that 80 frozen instances cost the server", false, idleRow},
	{"admin", "definitions in SQLite: create and get with 16 clients, pages of a list of 10 000", false, adminRow},
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
	dir      string // removed at the end
	server   string // path of the server's program
	function string // path of the test function's program, which is in the image too
	image    string // of the test function
	nginx    string // path of its program; set if a row needs it
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
