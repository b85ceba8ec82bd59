package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

// warmRow compares the latency of calls that find everything ready.
func warmRow(ctx context.Context, b *bench) ([]line, error) {
	l := load{clients: 1, warmUp: 200 * time.Millisecond, duration: choose(b, time.Second, 500*time.Millisecond)}
	tine, nginx, err := b.compareCalls(ctx, l, choose(b, 10, 2), 1)
	if err != nil {
		return nil, err
	}
	server, yardstick := summarize(milliseconds(tine.served)), summarize(milliseconds(nginx.served))
	return []line{
		loadLine("nginx", nginx),
		loadLine("tine", tine,
			atMost("p50", server.median/yardstick.median, 1.3, "x"),
			atMost("p99", server.p99/yardstick.p99, 3, "x")),
	}, nil
}

// throughputRow compares what a number of clients get through.
func throughputRow(clients int) func(context.Context, *bench) ([]line, error) {
	return func(ctx context.Context, b *bench) ([]line, error) {
		l := load{clients: clients, warmUp: 300 * time.Millisecond, duration: choose(b, 2*time.Second, 500*time.Millisecond)}
		tine, nginx, err := b.compareCalls(ctx, l, choose(b, 6, 2), instances)
		if err != nil {
			return nil, err
		}
		return []line{
			loadLine("nginx", nginx),
			loadLine("tine", tine, atLeast("throughput", tine.perSecond()/nginx.perSecond(), 0.8, "x")),
		}, nil
	}
}

// compareCalls applies load to a node and to nginx, which call the same
// instances of a function in turn. The node does not freeze them, because nginx
// could not use them then; under load it would find no time to.
func (b *bench) compareCalls(ctx context.Context, l load, rounds, count int) (tine, nginx outcome, err error) {
	n, err := b.startNode(ctx, map[string]string{"FN_FREEZE_IDLE_MSECS": "-1"})
	if err != nil {
		return tine, nginx, err
	}
	defer func() { err = errors.Join(err, n.stop()) }()
	fnID, err := n.oneFn(ctx)
	if err != nil {
		return tine, nginx, err
	}
	if err := n.launch(ctx, fnID, count); err != nil {
		return tine, nginx, err
	}
	sockets, err := n.sockets()
	if err != nil {
		return tine, nginx, err
	}
	y, err := b.startYardstick(ctx, sockets)
	if err != nil {
		return tine, nginx, err
	}
	defer func() { err = errors.Join(err, y.stop()) }()
	b.progress.show("%d rounds", rounds)
	outcomes, err := l.alternate(ctx, rounds,
		callTarget(n.address, "/invoke/"+fnID, echoHeader, echoBody),
		callTarget(y.address, yardstickPath, echoHeader, echoBody))
	if err != nil {
		return tine, nginx, err
	}
	return outcomes[0], outcomes[1], nil
}

// Freezing happens this long after a call, well before the next one. Between two calls
// of a node there are those of the others, which do not fall together with its freezing.
const (
	freezeAfter = 50 * time.Millisecond
	freezePause = 150 * time.Millisecond
)

// freezeVariants are nodes of which each second one does not freeze.
var freezeVariants = []struct {
	name     string
	after    string // value of FN_FREEZE_IDLE_MSECS
	settings map[string]string
}{
	{"docker, without freezing", "-1", nil},
	{"docker, frozen after 50 ms", fmt.Sprint(freezeAfter.Milliseconds()), nil},
	{"native, without freezing", "-1", nativeSettings(0)},
	{"native, frozen after 50 ms", fmt.Sprint(freezeAfter.Milliseconds()), nativeSettings(1)},
}

// freezeRow finds out what thawing adds to a call.
func freezeRow(ctx context.Context, b *bench) (lines []line, err error) {
	callers := make([]*caller, len(freezeVariants))
	requests := make([][]byte, len(freezeVariants))
	for i, variant := range freezeVariants {
		settings := map[string]string{"FN_FREEZE_IDLE_MSECS": variant.after}
		maps.Copy(settings, variant.settings)
		n, err := b.startNode(ctx, settings)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, n.stop()) }()
		fnID, err := n.oneFn(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := n.call(ctx, fnID, echoHeader, echoBody); err != nil {
			return nil, err
		}
		if variant.after != "-1" {
			if err := n.awaitFrozen(ctx, 1); err != nil {
				return nil, err
			}
		}
		callers[i] = newCaller(n.address)
		defer callers[i].close()
		requests[i] = buildRequest("POST", "/invoke/"+fnID, echoHeader, echoBody)
	}
	latencies := make([][]time.Duration, len(freezeVariants))
	count := choose(b, 60, 6)
	for round := range count + 1 { // the first one makes the connections
		b.progress.show("call %d of %d", round, count)
		for i := range freezeVariants {
			if err := pause(ctx, freezePause/time.Duration(len(freezeVariants))); err != nil {
				return nil, err
			}
			began := time.Now()
			got, err := callers[i].do(ctx, requests[i], nil)
			took := time.Since(began)
			if err != nil {
				return nil, err
			}
			if got.status != 200 {
				return nil, fmt.Errorf("a call got status %d", got.status)
			}
			if round > 0 {
				latencies[i] = append(latencies[i], took)
			}
		}
	}
	for i, variant := range freezeVariants {
		l := latencyLine(variant.name, latencies[i])
		if i%2 == 1 {
			never := summarize(milliseconds(latencies[i-1])).median
			l.Checks = []check{atMost("median +", l.Median-never, 1, "ms")}
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// awaitFrozen waits until the node says that so many instances are frozen.
func (n *node) awaitFrozen(ctx context.Context, count int) error {
	err := poll(ctx, 100*time.Millisecond, startLimit, func() (bool, error) {
		frozen, err := n.metric(ctx, "fn_container_paused_total")
		n.bench.progress.show("%.0f of %d frozen", frozen, count)
		return frozen >= float64(count), err
	})
	if err != nil {
		return fmt.Errorf("wait until %d instances are frozen: %w", count, err)
	}
	return nil
}
