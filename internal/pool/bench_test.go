package pool

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/model"
)

// The benchmarks measure what a warm call costs beside many other functions.

func benchPool(b *testing.B, memoryMiB int) *Pool {
	e := newEngine()
	e.script, e.root = fake.Script{}, b.TempDir()
	e.Engine = fake.New(fake.Options{Script: e.scriptOf, NoSocket: true, OnReady: e.isReady})
	p := New(Options{
		Driver: e, Sockets: e.makeSocketDir, Logger: slog.New(slog.DiscardHandler),
		Total:       capacity.Amount{MemoryBytes: int64(memoryMiB) * mib, MilliCPU: 1000},
		FreezeAfter: -1, YieldAfter: time.Hour, StockPercent: 90,
	})
	b.Cleanup(func() {
		_ = p.Close(context.Background())
		_ = e.Close(context.Background())
	})
	return p
}

// ownApp is a function in an app of its own that keeps its instances.
func ownApp(name string) *Spec {
	spec := fnSpec(name)
	spec.AppID, spec.IdleTimeout = name, time.Hour
	return spec
}

func benchAcquire(b *testing.B, p *Pool, spec *Spec) *Lease {
	lease, err := p.Acquire(context.Background(), spec)
	if err != nil {
		b.Fatal(err)
	}
	return lease
}

// beside runs a benchmark with different numbers of other functions.
func beside(b *testing.B, run func(b *testing.B, others int)) {
	for _, others := range []int{0, 100, 1000, 5000} {
		b.Run(strconv.Itoa(others), func(b *testing.B) { run(b, others) })
	}
}

func BenchmarkWarmCallBesideMinimumInstances(b *testing.B) {
	beside(b, func(b *testing.B, others int) {
		p := benchPool(b, 2*others+10)
		for i := range others {
			spec := ownApp("kept" + strconv.Itoa(i))
			spec.Scale = model.Scale{MinInstances: 1}
			p.Keep(spec)
		}
		for p.Stats().Idle < others {
			time.Sleep(10 * time.Millisecond)
		}
		warm := ownApp("warm")
		for b.Loop() {
			benchAcquire(b, p, warm).Release()
		}
	})
}

// BenchmarkWarmCallWhileALargeOneWaits has a large call that would be served if
// all instances but one of another function were idle.
func BenchmarkWarmCallWhileALargeOneWaits(b *testing.B) {
	beside(b, func(b *testing.B, others int) {
		p := benchPool(b, others+2)
		for i := range others {
			benchAcquire(b, p, ownApp("idle"+strconv.Itoa(i))).Release()
		}
		held, warm := benchAcquire(b, p, ownApp("held")), ownApp("warm")
		lease := benchAcquire(b, p, warm)
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(context.Background())
		wg.Go(func() { _, _ = p.Acquire(ctx, large(int64(others+2))) })
		for p.Stats().Waiting == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		for b.Loop() {
			lease.Release()
			lease = benchAcquire(b, p, warm)
		}
		cancel()
		wg.Wait()
		lease.Release()
		held.Release()
	})
}

func BenchmarkWarmCallWhileManyWait(b *testing.B) {
	beside(b, func(b *testing.B, others int) {
		p := benchPool(b, 2)
		warm := ownApp("warm")
		warm.Scale = model.Scale{MinInstances: 1} // or it were evicted for one that waits
		p.Keep(warm)
		held, lease := benchAcquire(b, p, ownApp("held")), benchAcquire(b, p, warm)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for i := range others {
			wg.Go(func() {
				if lease, err := p.Acquire(ctx, ownApp("waits"+strconv.Itoa(i))); err == nil {
					lease.Release()
				}
			})
		}
		for p.Stats().Waiting < others {
			time.Sleep(10 * time.Millisecond)
		}
		for b.Loop() {
			lease.Release()
			lease = benchAcquire(b, p, warm)
		}
		cancel()
		wg.Wait()
		lease.Release()
		held.Release()
	})
}
