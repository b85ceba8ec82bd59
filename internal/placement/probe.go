package placement

import (
	"context"
	"fmt"
	"time"
)

// Lister is a [Pool] whose runners are the same for all calls. A placer asks them
// how they are before there is a call.
type Lister interface {
	All() []Runner // nil once it is closed
}

// Start begins to ask runners that are a [Prober] how they are. Close ends it.
func (p *Placer) Start() {
	if p.opts.ProbeInterval < 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	p.wg.Go(func() { p.monitor(ctx) })
}

// current returns the runners of the pool or, if they depend on the call, those that
// the latest was placed among.
func (p *Placer) current() []*Member {
	if lister, ok := p.opts.Pool.(Lister); ok {
		return p.membersOf(lister.All())
	}
	if latest := p.latest.Load(); latest != nil {
		return latest.members
	}
	return nil
}

// toAsk returns the runners that are asked how they are: also those that the pool named
// for other calls than the latest, as no call tries one that says itself how it is.
func (p *Placer) toAsk() []*Member {
	if _, ok := p.opts.Pool.(Lister); ok {
		return p.current()
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	var members []*Member
	for _, m := range p.members {
		if now.Sub(m.lastSeen) <= memberMemory {
			members = append(members, m)
		}
	}
	return members
}

// monitor asks runners how they are. One that takes its time to answer does not
// keep others from being asked.
func (p *Placer) monitor(ctx context.Context) {
	ticker := time.NewTicker(p.opts.ProbeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		for _, m := range p.toAsk() {
			if prober, ok := m.runner.(Prober); ok && m.probing.CompareAndSwap(false, true) {
				m.asked.Store(true)
				p.wg.Go(func() {
					defer m.probing.Store(false)
					p.probe(ctx, m, prober)
				})
			}
		}
	}
}

func (p *Placer) probe(ctx context.Context, m *Member, prober Prober) {
	bounded, cancel := context.WithTimeout(ctx, p.opts.ProbeTimeout)
	defer cancel()
	began := time.Now()
	report, err := prober.Probe(bounded)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		p.failing(m, m.failed(began, time.Now(), p.opts.MaxBackoff), fmt.Errorf("ask it how it is: %w", err))
	default:
		m.others.Store(max(int64(report.Active)-m.inFlight.Load(), 0))
		p.recovered(m, m.well(began))
	}
}

// Level is how a runner stands.
type Level struct {
	Address  string
	State    string // "ready", "busy" or "failing"
	InFlight int    // calls of this placer
}

// Levels returns how the runners stand: those of the pool or, if they depend on the
// call, those that the latest was placed among.
func (p *Placer) Levels() []Level {
	now := time.Now()
	var levels []Level
	for _, m := range p.current() {
		levels = append(levels, Level{m.Address(), m.state(now), m.InFlight()})
	}
	return levels
}

func (m *Member) state(now time.Time) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.health.failing:
		return "failing"
	case now.Before(m.health.busyUntil):
		return "busy"
	}
	return "ready"
}
