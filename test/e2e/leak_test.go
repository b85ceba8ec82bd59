package e2e

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tinefn/tine/test/image"
)

// defaultCycles is how many containers start and stop; the variable
// TINE_TEST_CYCLES sets another number (.ci/run and make leak do).
const defaultCycles = 100

// engineCollects is how long Docker may keep the names of network namespaces that
// have ended: it looks once a minute, and leaves those for the next time that it
// has just learned of.
const engineCollects = 150 * time.Second

// TestNothingLeaksWhenContainersComeAndGo counts what the whole machine holds,
// and therefore keeps the tests of other processes from the engine.
func TestNothingLeaksWhenContainersComeAndGo(t *testing.T) {
	image.Alone(t)
	cycles := defaultCycles
	if text := os.Getenv("TINE_TEST_CYCLES"); text != "" {
		var err error
		if cycles, err = strconv.Atoi(text); err != nil || cycles < 1 {
			t.Fatalf("TINE_TEST_CYCLES is %q, not a number of cycles", text)
		}
	}
	before := measureMachine(t)
	n := startNode(t, map[string]string{"FN_LOG_LEVEL": "info", "FN_MAX_TOTAL_MEMORY_BYTES": strconv.Itoa(512 << 20)})
	id := n.fn(object{"annotations": object{"tine/max-calls": 1}}) // a container for each call
	warmUp, began := min(20, cycles), time.Now()
	var atRest resources
	var next, failed atomic.Int64
	const clients = 4 // engines have been seen to lock up under many starts at a time
	run := func(calls int) {
		var wg sync.WaitGroup
		next.Store(0)
		for range clients {
			wg.Go(func() {
				for i := next.Add(1); i <= int64(calls); i = next.Add(1) {
					body := strconv.FormatInt(i, 10)
					got, err := n.do(n.request("POST", "/invoke/"+id, body, mode("reply")))
					if err != nil || got.status != 200 || got.body != body {
						failed.Add(1)
						t.Logf("call %d: %v, %d %q", i, err, got.status, got.body)
					}
				}
			})
		}
		wg.Wait()
	}
	settled := func() resources {
		transport.CloseIdleConnections()
		eventually(t, 30*time.Second, func() bool { return len(n.containers(t)) == 0 }, func() string { return "left behind: " + leftovers(t, n) })
		time.Sleep(time.Second) // connections to the engine and their goroutines
		return n.resources(t)
	}
	run(warmUp)
	atRest = settled()
	run(cycles)
	after := settled()
	t.Logf("%d cycles in %v; the server at rest: before %+v, after %+v", cycles, time.Since(began).Round(time.Second), atRest, after)
	if failed.Load() != 0 {
		t.Errorf("%d calls failed", failed.Load())
	}
	// The transport to the engine keeps a few connections for a while.
	if after.goroutines > atRest.goroutines+8 || after.descriptors > atRest.descriptors+4 || after.socketDirs > atRest.socketDirs {
		t.Errorf("the server at rest: before %+v, after %+v", atRest, after)
	}
	n.stopClean(t)
	var now machine
	eventually(t, engineCollects, func() bool { now = measureMachine(t); return now.within(before) }, func() string {
		return fmt.Sprintf("the machine: before %+v, after %+v", before, now)
	})
}

// within reports whether nothing is more than it was.
func (m machine) within(before machine) bool {
	return m.containers <= before.containers && m.cgroups <= before.cgroups && m.mounts <= before.mounts &&
		m.namespaces <= before.namespaces && m.interfaces <= before.interfaces
}
