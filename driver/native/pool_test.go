//go:build linux

package native_test

import (
	"context"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
