package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// leakPool is how many sandboxes the pool has at rest and at most, those in use
// included, so that some calls also find none ready.
const leakPool = 6

// nativeHoldings is what a node with the native driver has on the machine at rest.
type nativeHoldings struct {
	resources
	processes  int // below the server
	namespaces int // of these and of the server
	groups     int // control groups, in all hierarchies
	ports      int // of the bridge, which are network interfaces
	mounts     int // below its directories
	files      int // of the driver on disk, images included
	heap       int // of the server, in bytes, after a collection
	memory     int // of the server's process, in bytes
}

func (n *node) nativeHoldings(t *testing.T) (h nativeHoldings) {
	t.Helper()
	h.resources = n.resources(t)
	server := n.cmd.Process.Pid
	pids := append(descendants(t, server), server)
	h.processes = len(pids) - 1
	seen := map[string]bool{}
	for _, pid := range pids {
		links, err := filepath.Glob(fmt.Sprintf("/proc/%d/ns/*", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links {
			if name, err := os.Readlink(link); err == nil { // otherwise it has ended
				seen[name] = true
			}
		}
	}
	h.namespaces = len(seen)
	for _, group := range n.groups(t) {
		h.groups += countDirs(t, group)
	}
	h.ports = countEntries(t, "/sys/class/net/"+n.setting("FN_SANDBOX_BRIDGE")+"/brif", "")
	h.mounts = n.mounts(t)
	err := filepath.WalkDir(filepath.Join(n.dir, "data", "native"), func(_ string, _ fs.DirEntry, err error) error {
		h.files++
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	h.heap = n.heap(t)
	h.memory = residentMemory(t, server)
	return h
}

// descendants are a process's children, and theirs. Those that end meanwhile may be
// among them.
func descendants(t *testing.T, of int) (pids []int) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", of))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for _, word := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(append(pids, pid), descendants(t, pid)...)
		}
	}
	return pids
}

func countDirs(t *testing.T, root string) (count int) {
	t.Helper()
	// One that ends while it is read is not there.
	_ = filepath.WalkDir(root, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			count++
		}
		return nil
	})
	return count
}

// heap is what lives on the server's heap after a collection.
func (s *server) heap(t *testing.T) (bytes int) {
	t.Helper()
	got := s.send("GET", "/debug/pprof/heap?debug=1&gc=1", "", nil)
	_, rest, found := strings.Cut(got.body, "\n# HeapAlloc = ")
	if _, err := fmt.Sscan(rest, &bytes); !found || err != nil {
		t.Fatalf("got %d without the size of the heap: %v", got.status, err)
	}
	return bytes
}

func residentMemory(t *testing.T, pid int) (bytes int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nVmRSS:")
	if _, err := fmt.Sscan(rest, &bytes); err != nil {
		t.Fatal(err)
	}
	return bytes << 10
}

// within reports whether nothing is more than it was. Numbers of goroutines and
// descriptors depend on how many connections are open just now.
func (h nativeHoldings) within(before nativeHoldings) bool {
	return h.goroutines <= before.goroutines+4 && h.descriptors <= before.descriptors+4 && h.socketDirs <= before.socketDirs &&
		h.processes <= before.processes && h.namespaces <= before.namespaces && h.groups <= before.groups &&
		h.ports <= before.ports && h.mounts <= before.mounts && h.files <= before.files
}

// What the server's memory may grow by, in bytes: what lives on its heap, and what its
// process has, of which the runtime gives back when it likes. The race detector takes
// some for itself, and gives back none.
const (
	heapGrowth   = 4 << 20
	memoryGrowth = 64 << 20
)

// TestNothingLeaksWhenSandboxesComeAndGo counts only what belongs to the server, so that
// it can run beside others.
func TestNothingLeaksWhenSandboxesComeAndGo(t *testing.T) {
	cycles := cycles(t)
	n := startNative(t, map[string]string{
		"FN_LOG_LEVEL": "info", "FN_SANDBOX_MIN": strconv.Itoa(leakPool), "FN_SANDBOX_MAX": strconv.Itoa(leakPool),
	})
	id := n.fn(oneEach)
	began := time.Now()
	settled := func() nativeHoldings {
		transport.CloseIdleConnections()
		for state, want := range map[string]int{"ready": leakPool, "creating": 0, "probing": 0, "leased": 0, "retiring": 0} {
			n.awaitMetric(t, `tine_prefork_namespaces{network="egress",state="`+state+`"}`, strconv.Itoa(want))
		}
		n.awaitMetric(t, "fn_util_mem_used", "0")
		return n.nativeHoldings(t)
	}
	n.callEach(t, id, min(100, cycles)) // fills the caches and the heap
	atRest := settled()
	if atRest.processes < leakPool || atRest.namespaces < leakPool || atRest.groups < leakPool || atRest.ports < leakPool {
		t.Fatalf("%d sandboxes are waiting, and this is all that is seen of them: %+v", leakPool, atRest)
	}
	n.callEach(t, id, cycles)
	var after nativeHoldings
	// Interfaces and network namespaces are taken down in the background.
	eventually(t, time.Minute, func() bool { after = settled(); return after.within(atRest) }, func() string {
		return fmt.Sprintf("the server at rest: before %+v, after %+v", atRest, after)
	})
	t.Logf("%d cycles in %v; the server at rest: before %+v, after %+v", cycles, time.Since(began).Round(time.Second), atRest, after)
	t.Logf("calls that found a sandbox ready: %s, of %d", n.metric(`tine_prefork_leases_total{result="hit"}`), cycles+min(100, cycles))
	if after.heap > atRest.heap+heapGrowth || !raceDetector && after.memory > atRest.memory+memoryGrowth {
		t.Errorf("the server's memory: before %+v, after %+v", atRest, after)
	}
	pids := descendants(t, n.cmd.Process.Pid)
	n.stopClean(t)
	if left := sandboxes(t, n); left != "" {
		t.Errorf("left: %s", left)
	}
	for _, pid := range pids {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
			t.Errorf("process %d of a sandbox is left", pid)
		}
	}
	if left := n.mounts(t); left > 0 {
		t.Errorf("%d mounts are left", left)
	}
}

// mounts counts those below the server's directories. Other servers have some too.
func (s *server) mounts(t *testing.T) (count int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, s.dir) || strings.Contains(line, s.setting("FN_IOFS_PATH")) {
			count++
		}
	}
	return count
}
