//go:build linux

package native_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/native"
	"github.com/tinefn/tine/driver/prefork"
)

// leaseResults counts what those got who asked the pool.
type leaseResults struct {
	mu      sync.Mutex
	results map[prefork.Result]int
}

func (a *leaseResults) Asked(result prefork.Result) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.results[result]++
}
func (*leaseResults) Joined(time.Duration)                {}
func (*leaseResults) Made(string, time.Duration, error)   {}
func (*leaseResults) Ended(string, string, time.Duration) {}
func (*leaseResults) Paused(string)                       {}

// Nobody waits for the pool, and nobody fails for it.
func TestContainersStartWithoutThePool(t *testing.T) {
	var short atomic.Bool
	seen := &leaseResults{results: map[prefork.Result]int{}}
	d, _ := scarce(t, testParent(), func(o *native.Options) {
		o.Pool = native.Pool{Min: 4, Max: 20, AppShare: 50, Observer: seen, Short: func() (processors, memory bool) { return short.Load(), false }}
	})
	for deadline := time.Now().Add(patience); d.PoolLevels()[0].Count[prefork.Ready] < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the pool is not filled: %v", d.PoolLevels())
		}
	}
	short.Store(true) // what is taken stays taken
	for _, step := range []struct {
		tenant string
		want   map[prefork.Result]int // until now
	}{
		{"greedy", map[prefork.Result]int{prefork.Hit: 2, prefork.Capped: 2}},
		{"modest", map[prefork.Result]int{prefork.Hit: 3, prefork.Capped: 5}}, // the last one is for a third
	} {
		for range 4 {
			specs++
			c, err := d.Create(t.Context(), &driver.Spec{ID: "box-" + strconv.Itoa(specs), Image: testImage, Tenant: step.tenant})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(t.Context()); err != nil {
				t.Error(err)
			}
			t.Cleanup(func() {
				if err := c.Remove(context.WithoutCancel(t.Context())); err != nil {
					t.Error(err)
				}
			})
		}
		seen.mu.Lock()
		if !maps.Equal(seen.results, step.want) {
			t.Errorf("after %s: %v, want %v", step.tenant, seen.results, step.want)
		}
		seen.mu.Unlock()
	}
}

// The kernel may have ended sandboxes that waited, as the machine had no memory left:
// whoever comes before the pool has noticed gets another one.
func TestDeadSandboxIsGivenToNobody(t *testing.T) {
	const ready = 3
	var short atomic.Bool
	parent := testParent()
	d := open(t, func(o *native.Options) {
		o.Parent = parent
		o.Pool = native.Pool{Min: ready, Max: 20, AppShare: 100, Short: func() (processors, memory bool) { return short.Load(), false }}
	})
	defer closeNow(t, d)
	for deadline := time.Now().Add(patience); d.PoolLevels()[0].Count[prefork.Ready] < ready; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the pool is not filled: %v", d.PoolLevels())
		}
	}
	short.Store(true)
	found, err := filepath.Glob(filepath.Join("/sys/fs/cgroup/pids", parent, "*", "*", "cgroup.procs"))
	if len(found) == 0 {
		found, err = filepath.Glob(filepath.Join("/sys/fs/cgroup", parent, "*", "*", "cgroup.procs"))
	}
	if err != nil || len(found) != ready {
		t.Fatalf("groups: %v %v", found, err)
	}
	for _, name := range found {
		pids, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for text := range strings.FieldsSeq(string(pids)) {
			pid, err := strconv.Atoi(text)
			if err == nil {
				err = unix.Kill(pid, unix.SIGKILL)
			}
			if err != nil {
				t.Fatal(err)
			}
			for unix.Kill(pid, 0) == nil { // until the driver has waited for it
				time.Sleep(time.Millisecond)
			}
		}
	}
	specs++
	c, err := d.Create(t.Context(), &driver.Spec{ID: "box-" + strconv.Itoa(specs), Image: testImage})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Remove(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}
