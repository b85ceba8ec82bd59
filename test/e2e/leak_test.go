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

// cycles is how many containers the test is to start and stop.
func cycles(t *testing.T) int {
	t.Helper()
	text := os.Getenv("TINE_TEST_CYCLES")
	if text == "" {
		return defaultCycles
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("TINE_TEST_CYCLES is %q, not a number of cycles", text)
	}
	return n
}

// leakClients is how many calls are made at a time: engines have been seen to lock up
// under many starts.
const leakClients = 4

// oneEach are functions with a container for each call.
var oneEach = object{"annotations": object{"tine/max-calls": 1}}

// callEach makes so many calls, each of which has to be answered.
func (n *node) callEach(t *testing.T, id string, calls int) {
	t.Helper()
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	for range leakClients {
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
	if failed.Load() != 0 {
		t.Errorf("%d calls failed", failed.Load())
	}
}

// TestNothingLeaksWhenContainersComeAndGo counts what the whole machine holds,
// and therefore keeps the tests of other processes from the engine.
func TestNothingLeaksWhenContainersComeAndGo(t *testing.T) {
	image.Alone(t)
	cycles := cycles(t)
	before := measureMachine(t)
	n := startNode(t, map[string]string{"FN_LOG_LEVEL": "info", "FN_MAX_TOTAL_MEMORY_BYTES": strconv.Itoa(512 << 20)})
	id := n.fn(oneEach)
	began := time.Now()
	settled := func() resources {
		transport.CloseIdleConnections()
		eventually(t, 30*time.Second, func() bool { return len(n.containers(t)) == 0 }, func() string { return "left behind: " + leftovers(t, n) })
		time.Sleep(time.Second) // connections to the engine and their goroutines
		return n.resources(t)
	}
	n.callEach(t, id, min(20, cycles)) // warms the server and the engine
	atRest := settled()
	n.callEach(t, id, cycles)
	after := settled()
	t.Logf("%d cycles in %v; the server at rest: before %+v, after %+v", cycles, time.Since(began).Round(time.Second), atRest, after)
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
