package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// heapFloorBytes counts when the garbage collector decides whether to run, and
// takes no memory, as it is never touched. Without it the collector runs for
// every few megabytes that calls throw away, because a server's live heap is
// small. Measured, that took a tenth of the processor time under load. More of it
// costs memory when much is started at once: what stays is strewn over all that was
// taken between two collections, which cannot be given back then.
const heapFloorBytes = 6 << 20

// A server that was busy keeps what its heap grew to, as the collector next
// runs after as much garbage again. So the memory goes back to the operating
// system once a server rests, which takes some milliseconds of a processor.
const (
	restInterval = 5 * time.Second
	// restBytes is what a server may allocate in an interval and count as one
	// that rests. A warm call takes a few kilobytes.
	restBytes = 1 << 20
	// worthBytes is how much must have been allocated since memory was given
	// back for it to be worth while.
	worthBytes = 1 << 20
)

// heapFloor returns what is to be kept until the server ends.
func heapFloor() []byte { return make([]byte, heapFloorBytes) }

// giveBackAtRest gives memory back until the function that it returns is called. It
// begins with what the start of the server has left: the collector takes that for a part
// of what the server needs, and would first run after as much garbage again. The largest
// part is buffers of the database's migrations, 12 MB, in a pool that the collector empties
// when it runs for the second time.
func giveBackAtRest() (done func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.GC()
		debug.FreeOSMemory()
		giveBack(ctx, allocated, debug.FreeOSMemory)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// giveBack calls free at the rests that are worth it, until ctx ends. Total is
// how many bytes were allocated since the start.
func giveBack(ctx context.Context, total func() uint64, free func()) {
	ticker := time.NewTicker(restInterval)
	defer ticker.Stop()
	last := total()
	freed := last
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := total()
		if now-last < restBytes && now-freed >= worthBytes {
			free()
			now = total() // free itself allocates
			freed = now
		}
		last = now
	}
}

func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
