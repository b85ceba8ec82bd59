package main

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryIsGivenBackOnceAtARest(t *testing.T) {
	for name, test := range map[string]struct {
		allocated []uint64 // kilobytes in each interval
		freed     int
	}{
		"never busy":         {[]uint64{0, 0, 0}, 0},
		"busy":               {[]uint64{9000, 9000, 9000}, 0},
		"rests":              {[]uint64{9000, 0, 0, 0}, 1},
		"rests twice":        {[]uint64{9000, 0, 9000, 9000, 0}, 2},
		"little, but often":  {[]uint64{9000, 0, 300, 0, 300, 0, 300, 0}, 1},
		"little, very often": {[]uint64{9000, 0, 300, 300, 300, 300, 0}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var (
					ctx, cancel = context.WithCancel(t.Context())
					wg          sync.WaitGroup
					total       atomic.Uint64
					freed       int
				)
				wg.Go(func() { giveBack(ctx, total.Load, func() { freed++ }) })
				synctest.Wait()
				for _, kilobytes := range test.allocated {
					total.Add(kilobytes << 10)
					time.Sleep(restInterval)
					synctest.Wait()
				}
				cancel()
				wg.Wait()
				if freed != test.freed {
					t.Errorf("given back %d times, want %d", freed, test.freed)
				}
			})
		})
	}
}

func TestAllocationsAreCounted(t *testing.T) {
	before := allocated()
	sink = make([]byte, 1<<20)
	if got := allocated() - before; got < 1<<20 {
		t.Errorf("%d bytes", got)
	}
}

var sink []byte
