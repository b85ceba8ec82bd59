package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// memoryRow finds out whether the server's memory grows with the bodies that
// pass through it.
func memoryRow(ctx context.Context, b *bench) (lines []line, err error) {
	const clients = 8
	n, err := b.startNode(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.stop()) }()
	fnID, err := n.oneFn(ctx)
	if err != nil {
		return nil, err
	}
	if err := n.launch(ctx, fnID, clients); err != nil {
		return nil, err
	}
	// From small to large: the peak is that of the process's life so far.
	for _, variant := range []struct {
		name  string
		size  int
		extra string // header lines
	}{
		{"1 KB responses", 1 << 10, ""},
		{"64 MB responses", 64 * mebibyte, ""},
		{"64 MB, unknown length", 64 * mebibyte, "Testfn-Chunked: 1\r\n"},
	} {
		b.progress.show("%s", variant.name)
		header := fmt.Sprintf("Testfn-Mode: bytes\r\nTestfn-Size: %d\r\n%s", variant.size, variant.extra)
		l := load{clients: clients, duration: choose(b, 8*time.Second, time.Second)}
		if _, err := l.apply(ctx, callTarget(n.address, "/invoke/"+fnID, header, nil)); err != nil {
			return nil, fmt.Errorf("%s: %w", variant.name, err)
		}
		peak, err := memoryPeak(n.pid())
		if err != nil {
			return nil, err
		}
		size := inMebibytes(peak)
		lines = append(lines, valuesLine(variant.name+", peak", "MB", []float64{size}))
		if variant.size >= mebibyte {
			lines[len(lines)-1].Checks = []check{atMost("peak", size, 60, "MB")}
		}
	}
	return lines, nil
}

// Row idle starts with few instances, so that what the first ones of all cost
// is not counted.
const idleFirst = 2

// idleRow finds out what frozen instances cost when nothing happens. Each is of
// a function of its own, which costs the most.
func idleRow(ctx context.Context, b *bench) (lines []line, err error) {
	const memoryMiB = 64
	count := choose(b, 80, 8)
	n, err := b.startNode(ctx, map[string]string{"FN_MAX_TOTAL_MEMORY_BYTES": fmt.Sprint((count + 1) * memoryMiB * mebibyte)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.stop()) }()
	appID, err := n.createApp(ctx)
	if err != nil {
		return nil, err
	}
	idle := choose(b, 20*time.Second, 2*time.Second)
	var before, after int64
	if err := n.launchEach(ctx, appID, 0, idleFirst, memoryMiB); err != nil {
		return nil, err
	}
	if _, before, err = n.watchIdle(ctx, idle/4); err != nil {
		return nil, err
	}
	if err := n.launchEach(ctx, appID, idleFirst, count, memoryMiB); err != nil {
		return nil, err
	}
	if err := n.awaitFrozen(ctx, count); err != nil {
		return nil, err
	}
	percent, after, err := n.watchIdle(ctx, idle)
	if err != nil {
		return nil, err
	}
	growth := inMebibytes(after-before) / float64(count-idleFirst)
	return []line{
		valuesLine(fmt.Sprintf("processor, %d instances", count), "%", []float64{percent}, atMost("of a core", percent, 0.3, "%")),
		valuesLine(fmt.Sprintf("memory, %d instances", count), "MB", []float64{inMebibytes(after)}),
		valuesLine("memory per instance", "MB", []float64{growth}, atMost("growth", growth, 0.1, "MB")),
	}, nil
}

// launchEach makes functions from number first to before last, and calls each.
func (n *node) launchEach(ctx context.Context, appID string, first, last, memoryMiB int) error {
	errs := make([]error, launchStep)
	numbers := make(chan int)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for number := range numbers {
				if errs[i] != nil {
					continue // one error is enough
				}
				fnID, err := n.createFn(ctx, appID, fmt.Sprintf("fn%d", number), memoryMiB)
				if err == nil {
					_, err = n.call(ctx, fnID, echoHeader, echoBody)
				}
				errs[i] = err
			}
		})
	}
	for number := first; number < last; number++ {
		n.bench.progress.show("instance %d of %d", number, last)
		numbers <- number
	}
	close(numbers)
	wg.Wait()
	return errors.Join(errs...)
}

// watchIdle lets the server alone for a while and returns its processor time in
// percent of a core, and its memory at the end.
func (n *node) watchIdle(ctx context.Context, d time.Duration) (percent float64, memory int64, err error) {
	n.bench.progress.show("idle for %v", d)
	before, err := processorTime(n.pid())
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := pause(ctx, d); err != nil {
		return 0, 0, err
	}
	after, err := processorTime(n.pid())
	if err != nil {
		return 0, 0, err
	}
	percent = 100 * float64(after-before) / float64(time.Since(began))
	memory, err = memoryNow(n.pid())
	return percent, memory, err
}

// settleTime is how long a server that was just started is left alone before
// its memory counts as that of an idle one.
const settleTime = time.Second

// serverRow measures the program itself.
func serverRow(ctx context.Context, b *bench) ([]line, error) {
	info, err := os.Stat(b.server)
	if err != nil {
		return nil, err
	}
	var starts []time.Duration
	var memory []float64
	count := choose(b, 10, 2)
	for i := range count {
		b.progress.show("start %d of %d", i+1, count)
		took, resident, err := b.startOnce(ctx)
		if err != nil {
			return nil, err
		}
		starts = append(starts, took)
		memory = append(memory, inMebibytes(resident))
	}
	size := inMebibytes(info.Size())
	return []line{
		valuesLine("binary", "MB", []float64{size}, atMost("size", size, 45, "MB")),
		latencyLine("start to /version, new database", starts, atMost("p50", summarize(milliseconds(starts)).median, 80, "ms")),
		valuesLine("memory when idle", "MB", memory, atMost("p50", summarize(memory).median, 40, "MB")),
	}, nil
}

// startOnce starts a server, and returns how long it took and what memory it
// has at rest.
func (b *bench) startOnce(ctx context.Context) (took time.Duration, resident int64, err error) {
	began := time.Now()
	n, err := b.launchNode(nil)
	if err != nil {
		return 0, 0, err
	}
	if err := n.awaitServing(ctx, time.Millisecond); err != nil {
		return 0, 0, errors.Join(err, n.abandon())
	}
	took = time.Since(began)
	defer func() { err = errors.Join(err, n.stop()) }()
	if err := pause(ctx, settleTime); err != nil {
		return 0, 0, err
	}
	resident, err = memoryNow(n.pid())
	return took, resident, err
}
