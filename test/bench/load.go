package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// load says how a target is called: by a number of clients of which each sends
// its next request when it has the answer of the one before (a closed loop).
type load struct {
	clients  int
	warmUp   time.Duration // not measured; connections are made here
	duration time.Duration // measured; 0: until all requests are answered
	requests int           // all clients together, if duration is 0
	backOff  time.Duration // pause after 503; 0: that status is a fault
}

// outcome is what became of it. Only responses that ended in the measured time
// count.
type outcome struct {
	took              time.Duration
	served            []time.Duration // latencies of 200
	refused           []time.Duration // latencies of 503
	withoutRetryAfter int             // of those
}

// perSecond is how many requests were served.
func (o *outcome) perSecond() float64 { return float64(len(o.served)) / o.took.Seconds() }

func (o *outcome) add(other outcome) {
	o.took += other.took
	o.join(other)
}

// join adds what another client of the same time saw.
func (o *outcome) join(other outcome) {
	o.served = append(o.served, other.served...)
	o.refused = append(o.refused, other.refused...)
	o.withoutRetryAfter += other.withoutRetryAfter
}

// apply calls the target. The first fault ends the load.
func (l load) apply(ctx context.Context, to target) (outcome, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began := time.Now()
	p := &pressure{load: l, to: to, from: began.Add(l.warmUp)}
	if l.duration > 0 {
		p.until = p.from.Add(l.duration)
	}
	outcomes := make([]outcome, l.clients)
	var wg sync.WaitGroup
	for i := range l.clients {
		wg.Go(func() {
			if err := p.client(ctx, i, &outcomes[i]); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return outcome{}, err
	}
	total := outcome{took: l.duration}
	if l.duration == 0 {
		total.took = time.Since(began)
	}
	for _, one := range outcomes {
		total.join(one)
	}
	if len(total.served) == 0 {
		return outcome{}, fmt.Errorf("no request to %s was served in %v", to.address, total.took)
	}
	return total, nil
}

// pressure is load in progress.
type pressure struct {
	load
	to          target
	from, until time.Time    // what is measured
	sent        atomic.Int64 // requests of all clients, if they are counted
}

// client sends requests until it is time to end.
func (p *pressure) client(ctx context.Context, number int, seen *outcome) error {
	caller := newCaller(p.to.address)
	defer caller.close()
	for n := 0; ; n++ {
		began := time.Now()
		if p.duration > 0 && began.After(p.until) || p.duration == 0 && p.sent.Add(1) > int64(p.requests) {
			return nil
		}
		got, err := caller.do(ctx, p.to.request(number, n), nil)
		if err != nil {
			return fmt.Errorf("request to %s: %w", p.to.address, err)
		}
		ended := time.Now()
		measured := !ended.Before(p.from) && (p.duration == 0 || !ended.After(p.until))
		switch {
		case got.status == http.StatusOK:
			if measured {
				seen.served = append(seen.served, ended.Sub(began))
			}
		case got.status == http.StatusServiceUnavailable && p.backOff > 0:
			if measured {
				seen.refused = append(seen.refused, ended.Sub(began))
				if !got.retryAfter {
					seen.withoutRetryAfter++
				}
			}
			if err := pause(ctx, p.backOff); err != nil {
				return err
			}
		default:
			return fmt.Errorf("request to %s: status %d", p.to.address, got.status)
		}
	}
}

// alternate applies load to each target in turn, again and again, and pools
// what was measured of each: what disturbs the machine disturbs all of them.
func (l load) alternate(ctx context.Context, rounds int, targets ...target) ([]outcome, error) {
	pooled := make([]outcome, len(targets))
	for range rounds {
		for i, to := range targets {
			one, err := l.apply(ctx, to)
			if err != nil {
				return nil, err
			}
			pooled[i].add(one)
		}
	}
	return pooled, nil
}

// pause waits, or ends early with ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// poll asks until the answer is yes.
func poll(ctx context.Context, every, limit time.Duration, ready func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errTooLong)
	defer cancel()
	for {
		ok, err := ready()
		if ok || err != nil {
			return err
		}
		if err := pause(ctx, every); err != nil {
			return err
		}
	}
}

// errTooLong is what poll ends with when its time is over.
var errTooLong = errors.New("it took too long")
