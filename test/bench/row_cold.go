package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// coldVariant is a node that starts containers in a certain way.
type coldVariant struct {
	name     string
	pool     string            // setting of the size of its pool; empty: none
	settings map[string]string // others
}

// coldVariants are compared with the first.
var coldVariants = []coldVariant{
	{"docker, own network", "", nil},
	{"docker, prefork pool", "FN_PREFORK_MIN", nil},
	{"native, sandbox ready", "FN_SANDBOX_MIN", nativeSettings(0)},
}

// missVariant is what a call waits for if the pool has nothing ready.
var missVariant = coldVariant{"native, none ready", "", with(nativeSettings(1), "FN_SANDBOX_MAX", "0")}

func with(settings map[string]string, name, value string) map[string]string {
	settings[name] = value
	return settings
}

// coldNode is a node of a variant.
type coldNode struct {
	*node
	pool int // what is to be ready before a call
}

// startColdNodes starts a node for each variant, with room for so many instances
// and so much ready in the pool.
func (b *bench) startColdNodes(ctx context.Context, variants []coldVariant, room, pool int) (nodes []coldNode, stop func() error, err error) {
	stop = func() (err error) {
		for _, n := range nodes {
			err = errors.Join(err, n.stop())
		}
		return err
	}
	for _, variant := range variants {
		settings := map[string]string{
			// None must be evicted for another.
			"FN_MAX_TOTAL_MEMORY_BYTES": fmt.Sprint(room * functionMemoryMiB * mebibyte),
		}
		maps.Copy(settings, variant.settings)
		ready := 0
		if variant.pool != "" {
			ready = pool
			settings[variant.pool] = fmt.Sprint(pool)
			if variant.pool == "FN_PREFORK_MIN" {
				settings["FN_PREFORK_MAX"] = fmt.Sprint(room + pool)
			}
		}
		n, err := b.startNode(ctx, settings)
		if err != nil {
			return nil, nil, errors.Join(err, stop())
		}
		nodes = append(nodes, coldNode{n, ready})
	}
	return nodes, stop, nil
}

// awaitPool waits until the node has what it is to have ready, and makes nothing.
func (n coldNode) awaitPool(ctx context.Context) error {
	if n.pool == 0 {
		return nil
	}
	err := poll(ctx, 10*time.Millisecond, startLimit, func() (bool, error) {
		ready, err := n.metric(ctx, "tine_prefork_namespaces", `state="ready"`)
		if err != nil {
			return false, err
		}
		for _, state := range []string{"creating", "probing", "retiring"} {
			working, err := n.metric(ctx, "tine_prefork_namespaces", `state="`+state+`"`)
			if err != nil || working > 0 {
				return false, err
			}
		}
		return ready >= float64(n.pool), nil
	})
	if err != nil {
		return fmt.Errorf("wait until %d namespaces are ready: %w", n.pool, err)
	}
	return nil
}

// coldRow measures the first call of functions that were never called, and of the same
// program as a plain process of this machine.
func coldRow(ctx context.Context, b *bench) (lines []line, err error) {
	count := choose(b, 30, 2)
	variants := append(slices.Clone(coldVariants), missVariant)
	nodes, stop, err := b.startColdNodes(ctx, variants, count+2, 3)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	apps := make([]string, len(nodes))
	for i, n := range nodes {
		if apps[i], err = n.createApp(ctx); err != nil {
			return nil, err
		}
	}
	floor, err := b.openPlain()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, floor.close()) }()
	latencies := make([][]time.Duration, len(nodes)+1)
	// What is made in the background must not hit another node either.
	settle := func() error {
		for _, n := range nodes {
			if err := n.awaitPool(ctx); err != nil {
				return err
			}
		}
		return b.awaitQuiet(ctx)
	}
	for round := range count + 1 { // the first one warms the server and the engine
		b.progress.show("call %d of %d", round, count)
		for i := range latencies {
			var took time.Duration
			if i < len(nodes) {
				fnID, err := nodes[i].createFn(ctx, apps[i], fmt.Sprintf("fn%d", round), functionMemoryMiB)
				if err != nil {
					return nil, err
				}
				if err := settle(); err != nil {
					return nil, err
				}
				if took, err = nodes[i].call(ctx, fnID, echoHeader, echoBody); err != nil {
					return nil, err
				}
			} else {
				if err := settle(); err != nil {
					return nil, err
				}
				if took, err = floor.start(ctx); err != nil {
					return nil, err
				}
			}
			if round > 0 {
				latencies[i] = append(latencies[i], took)
			}
		}
	}
	lines = coldLines(latencies, 0.5)
	hit, process := summarize(milliseconds(latencies[2])), summarize(milliseconds(latencies[4]))
	base, miss := summarize(milliseconds(latencies[0])), summarize(milliseconds(latencies[3]))
	lines[2].Checks = []check{
		atMost("median", hit.median/base.median, 1.0/20, "x"), atMost("p95", hit.p95/base.p95, 1.0/10, "x"),
		atMost("median by plain process", hit.median/process.median, 3, "x"),
	}
	return append(lines,
		latencyLine(missVariant.name, latencies[3], atMost("median", miss.median/base.median, 1.0/12, "x"), note("p95", miss.p95/base.p95, "x")),
		latencyLine("plain process, no server", latencies[4])), nil
}

// coldLines compares the other variants of coldVariants with the first.
func coldLines(latencies [][]time.Duration, prefork float64) []line {
	base, pooled, native := summarize(milliseconds(latencies[0])), summarize(milliseconds(latencies[1])), summarize(milliseconds(latencies[2]))
	return []line{
		latencyLine(coldVariants[0].name, latencies[0]),
		latencyLine(coldVariants[1].name, latencies[1], atMost("median", pooled.median/base.median, prefork, "x"), note("p95", pooled.p95/base.p95, "x")),
		latencyLine(coldVariants[2].name, latencies[2], atMost("median", native.median/base.median, 1.0/20, "x"), note("p95", native.p95/base.p95, "x")),
	}
}

// burstRow measures how long it takes until many functions that were never
// called have answered, called at the same time.
func burstRow(ctx context.Context, b *bench) (lines []line, err error) {
	const burst = 30
	size, rounds := choose(b, burst, 3), choose(b, 5, 1)
	nodes, stop, err := b.startColdNodes(ctx, coldVariants, size, size)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	latencies := make([][]time.Duration, len(nodes))
	for _, n := range nodes { // the first call warms the server and the engine
		if _, err := n.burst(ctx, 1); err != nil {
			return nil, err
		}
	}
	for round := range rounds {
		for i, n := range nodes {
			b.progress.show("round %d of %d, %s", round+1, rounds, coldVariants[i].name)
			took, err := n.burst(ctx, size)
			if err != nil {
				return nil, err
			}
			latencies[i] = append(latencies[i], took)
		}
	}
	return coldLines(latencies, 0.6), nil
}

// burst calls so many new functions at once, waits for all answers, and removes
// everything again.
func (n coldNode) burst(ctx context.Context, size int) (took time.Duration, err error) {
	appID, err := n.createApp(ctx)
	if err != nil {
		return 0, err
	}
	fns := make([]string, size)
	for i := range fns {
		if fns[i], err = n.createFn(ctx, appID, fmt.Sprintf("fn%d", i), functionMemoryMiB); err != nil {
			return 0, err
		}
	}
	if err := n.awaitPool(ctx); err != nil {
		return 0, err
	}
	if err := n.bench.awaitQuiet(ctx); err != nil {
		return 0, err
	}
	errs := make([]error, size)
	var wg sync.WaitGroup
	began := time.Now()
	for i := range fns {
		wg.Go(func() { _, errs[i] = n.call(ctx, fns[i], echoHeader, echoBody) })
	}
	wg.Wait()
	took = time.Since(began)
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	if err := n.delete(ctx, "/v2/apps/"+appID); err != nil {
		return 0, err
	}
	if err := n.awaitEmpty(ctx); err != nil {
		return 0, err
	}
	return took, n.awaitPool(ctx)
}

// awaitEmpty waits until the node has no instances.
func (n coldNode) awaitEmpty(ctx context.Context) error {
	err := poll(ctx, 50*time.Millisecond, startLimit, func() (bool, error) {
		left, err := n.metric(ctx, "fn_util_mem_used")
		return left == 0, err
	})
	if err != nil {
		return fmt.Errorf("wait until the instances are gone: %w", err)
	}
	return nil
}
