package pool

import (
	"log/slog"
	"math"
	"slices"

	"github.com/tinefn/tine/internal/capacity"
)

// This file is about the instances that functions keep whether they are called
// or not, their stock, and about functions that exist no more.

// stocks are the functions that keep instances.
type stocks struct {
	groups []*group        // in order of arrival
	held   capacity.Amount // by all of them together
}

// Keep makes the pool keep as many instances of a function as its spec says,
// from now on until Keep is called with a newer definition, or Retire. Calls
// alone do not do that: they may come with a definition that is no longer true.
func (p *Pool) Keep(spec *Spec) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	g := p.groupLocked(spec)
	if !g.kept && !g.superseded {
		g.kept = true
		p.stocked.groups = append(p.stocked.groups, g)
		p.shareStockLocked()
	}
	p.fillLocked()
	p.dropIfUnusedLocked(g)
}

// Retire ends the instances of a function that exists no more, busy ones when
// their callers are done.
func (p *Pool) Retire(fnID string) { p.retire(p.fns, fnID, "its function was deleted") }

// Reject does so for a function whose present definition this node refuses, until Keep
// or a call comes with a newer one.
func (p *Pool) Reject(fnID string) { p.retire(p.fns, fnID, "its definition changed") }

// RetireApp does so for all functions of an app.
func (p *Pool) RetireApp(appID string) { p.retire(p.apps, appID, "its app was deleted") }

func (p *Pool) retire(of shares, id, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if of[id] == nil {
		return
	}
	for g := range of[id].groups {
		g.superseded = true
		p.endIdleLocked(g, why)
	}
	p.shareStockLocked()
	for g := range of[id].groups {
		p.dropIfUnusedLocked(g)
		if of[id] == nil {
			break // it was the last
		}
	}
	p.fillLocked()
}

// shareStockLocked says how many instances each function keeps: as many as it
// wants, in order of arrival, as long as there is room in the part of the
// machine that is set aside for it. Without that bound, functions that keep
// instances could shut out all others.
func (p *Pool) shareStockLocked() {
	left := p.stockLimit()
	p.stocked.held = capacity.Amount{}
	for _, g := range p.stocked.groups {
		before := g.stock
		g.stock = 0
		if want := g.wantedStock(); want > 0 {
			g.stock = min(want, timesIn(g.spec.Need, left))
			held := times(g.spec.Need, g.stock)
			left = lessOf(left, held)
			p.stocked.held = sum(p.stocked.held, held)
			if g.stock < want && g.stock != before {
				p.log.Warn("minimum instances do not all fit; lower them or raise FN_MIN_INSTANCES_PERCENT",
					slog.String("fn_id", g.spec.FnID), slog.Int("wanted", want), slog.Int("kept", g.stock))
			}
		}
		g.update()
	}
}

// wantedStock is what the definition says.
func (g *group) wantedStock() int {
	if !g.kept || g.superseded || g.pool.closed {
		return 0
	}
	scale := g.spec.Scale
	if scale.MaxInstances > 0 {
		return min(scale.MinInstances, scale.MaxInstances)
	}
	return scale.MinInstances
}

// unstockLocked forgets a group, which keeps nothing any more.
func (p *Pool) unstockLocked(g *group) {
	if i := slices.Index(p.stocked.groups, g); i >= 0 {
		p.stocked.groups = slices.Delete(p.stocked.groups, i, i+1)
	}
}

func (p *Pool) stockLimit() capacity.Amount {
	total := p.ledger.Total()
	part := float64(p.opts.StockPercent) / 100
	return capacity.Amount{MemoryBytes: int64(float64(total.MemoryBytes) * part), MilliCPU: int64(float64(total.MilliCPU) * part)}
}

// timesIn is how often an amount fits.
func timesIn(need, room capacity.Amount) int {
	n := int64(math.MaxInt32)
	if need.MemoryBytes > 0 {
		n = min(n, room.MemoryBytes/need.MemoryBytes)
	}
	if need.MilliCPU > 0 {
		n = min(n, room.MilliCPU/need.MilliCPU)
	}
	return int(n)
}

func times(a capacity.Amount, n int) capacity.Amount {
	return capacity.Amount{MemoryBytes: a.MemoryBytes * int64(n), MilliCPU: a.MilliCPU * int64(n)}
}
