package main

import (
	"context"
	"errors"
	"fmt"
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

// Freezing happens this long after a call, well before the next one.
const (
	freezeAfter = 50 * time.Millisecond
	freezePause = 150 * time.Millisecond
)

// freezeRow finds out what thawing adds to a call.
func freezeRow(ctx context.Context, b *bench) (lines []line, err error) {
	var nodes [2]*node
	var fns [2]string
	for i, setting := range []string{fmt.Sprint(freezeAfter.Milliseconds()), "-1"} {
		nodes[i], err = b.startNode(ctx, map[string]string{"FN_FREEZE_IDLE_MSECS": setting})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, nodes[i].stop()) }()
		if fns[i], err = nodes[i].oneFn(ctx); err != nil {
			return nil, err
		}
		if err := nodes[i].launch(ctx, fns[i], 1); err != nil {
			return nil, err
		}
	}
	if err := nodes[0].awaitFrozen(ctx, 1); err != nil {
		return nil, err
	}
	var latencies [2][]time.Duration
	var callers [2]*caller
	var requests [2][]byte
	for i, n := range nodes {
		callers[i] = newCaller(n.address)
		defer callers[i].close()
		requests[i] = buildRequest("POST", "/invoke/"+fns[i], echoHeader, echoBody)
	}
	count := choose(b, 60, 6)
	for round := range count + 1 { // the first one makes the connections
		b.progress.show("call %d of %d", round, count)
		for i := range nodes {
			if err := pause(ctx, freezePause); err != nil {
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
	frozen, never := summarize(milliseconds(latencies[0])), summarize(milliseconds(latencies[1]))
	return []line{
		latencyLine("without freezing", latencies[1]),
		latencyLine("frozen after 50 ms", latencies[0], atMost("median +", frozen.median-never.median, 1, "ms")),
	}, nil
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
