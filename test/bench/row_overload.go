package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The load of row overload. A refused client comes back after a short pause
// instead of the one that Retry-After asks for, so that the pressure stays.
const (
	overloadFactor    = 10
	overloadQueue     = 64
	overloadBackOff   = 50 * time.Millisecond
	overloadSleepMs   = 10 // of the function in each call
	maxRefusalMs      = 50
	minGoodputOfPeak  = 0.9
	overloadWarmUp    = time.Second
	peakWarmUp        = 500 * time.Millisecond
	peakPartOfOverall = 4 // each measurement of the peak is so much shorter than the overload
)

// overloadRow finds out whether a node under ten times the load that it can
// take serves as much as at its peak, and refuses the rest quickly. The peak is
// measured before and after, because machines get slower and faster.
func overloadRow(ctx context.Context, b *bench) (lines []line, err error) {
	n, err := b.startNode(ctx, map[string]string{"FN_QUEUE_SIZE": fmt.Sprint(overloadQueue)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.stop()) }()
	fnID, err := n.oneFn(ctx)
	if err != nil {
		return nil, err
	}
	if err := n.launch(ctx, fnID, instances); err != nil {
		return nil, err
	}
	created := b.countCreations(ctx, n.tag)
	peak, over, err := b.peakAndOverload(ctx, callTarget(n.address, "/invoke/"+fnID, delayHeader(overloadSleepMs), echoBody))
	count, countErr := created.stop()
	if err := errors.Join(err, countErr); err != nil {
		return nil, err
	}
	if len(over.refused) == 0 {
		return nil, errors.New("the node refused no call, so it was not overloaded")
	}
	refused := summarize(milliseconds(over.refused))
	return []line{
		loadLine(fmt.Sprintf("peak, %d clients", instances), peak),
		loadLine(fmt.Sprintf("served, %d clients", overloadFactor*instances), over,
			atLeast("goodput", over.perSecond()/peak.perSecond(), minGoodputOfPeak, "x")),
		latencyLine("refused with 503", over.refused,
			atMost("p99", refused.p99, maxRefusalMs, "ms"),
			atMost("max", refused.max, maxRefusalMs, "ms"),
			atMost("without Retry-After", float64(over.withoutRetryAfter), 0, "")),
		valuesLine("containers created meanwhile", "", []float64{float64(count)}),
	}, nil
}

func (b *bench) peakAndOverload(ctx context.Context, to target) (peak, over outcome, err error) {
	steady := load{clients: instances, warmUp: peakWarmUp, duration: b.overload / peakPartOfOverall}
	b.progress.show("peak, before")
	if peak, err = steady.apply(ctx, to); err != nil {
		return peak, over, err
	}
	b.progress.show("%d clients for %v", overloadFactor*instances, b.overload)
	storm := load{clients: overloadFactor * instances, warmUp: overloadWarmUp, duration: b.overload, backOff: overloadBackOff}
	if over, err = storm.apply(ctx, to); err != nil {
		return peak, over, err
	}
	b.progress.show("peak, after")
	after, err := steady.apply(ctx, to)
	peak.add(after)
	return peak, over, err
}
