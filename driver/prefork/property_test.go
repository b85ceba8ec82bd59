package prefork

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestPoolKeepsItsPromises does anything in any order: it leases, gives back
// once and twice, kills, breaks and repairs networks. Whatever happens, no
// namespace is used by two at a time or by two apps, none is lost, there are
// never too many, and the pool gets back to its target.
func TestPoolKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		min := rapid.IntRange(0, 6).Draw(rt, "min")
		opts := Options{
			Min: min, Max: min + rapid.IntRange(1, 8).Draw(rt, "more"), Networks: []string{"a", "b"},
			UseOnce: rapid.Bool().Draw(rt, "use once"), Parallel: rapid.IntRange(1, 4).Draw(rt, "parallel"),
		}
		// The bubble has no place for rapid's own failures.
		steps := rapid.SliceOfN(rapid.IntRange(0, 999), 1, 120).Draw(rt, "steps")
		var failure string
		synctest.Test(t, func(t *testing.T) { failure = play(t, opts, steps) })
		if failure != "" {
			rt.Fatal(failure)
		}
	})
}

// play goes through steps, each a number that says what to do and with what.
func play(t *testing.T, opts Options, steps []int) (failure string) {
	m := newMaker()
	opts.Maker = m
	p := New(opts)
	owner := map[string]string{} // apps of namespaces, for good
	var held []*Lease
	drained := map[string]int{}
	tenants := []string{"x", "y", ""}
	for _, step := range steps {
		what, which := step%10, step/10
		switch what {
		case 0, 1, 2, 3:
			tenant := tenants[which%len(tenants)]
			id := "" // known when drain is called
			lease := p.Lease(tenant, func() { drained[id]++ })
			if lease == nil {
				break
			}
			id = lease.ID()
			for _, other := range held {
				if other.ID() == id {
					return "leased twice"
				}
			}
			if before, used := owner[id]; used && (before != tenant || tenant == "" || opts.UseOnce) {
				return "used by " + before + " and then by " + tenant
			}
			owner[id] = tenant
			held = append(held, lease)
		case 4, 5:
			if len(held) > 0 {
				i := which % len(held)
				held[i].Release()
				defer held[i].Release() // far too late
				held = append(held[:i], held[i+1:]...)
			}
		case 6:
			if len(held) > 0 {
				i := which % len(held)
				held[i].Broken()
				held = append(held[:i], held[i+1:]...)
			}
		case 7:
			if living := m.living(); len(living) > 0 {
				p.Died(living[which%len(living)])
			}
		case 8:
			m.set(func() {
				if network := opts.Networks[which%2]; m.err[network] == nil {
					m.err[network] = errors.New("exchange full")
				} else {
					delete(m.err, network)
				}
			})
		case 9:
			time.Sleep(time.Duration(which) * 100 * time.Millisecond)
		}
		synctest.Wait()
		if living := len(m.living()); living > opts.Max {
			return "more than the maximum"
		}
		for id, times := range drained {
			if times > 1 {
				return "drained twice: " + id
			}
		}
	}
	for _, lease := range held {
		lease.Release()
	}
	m.set(func() { clear(m.err) })
	time.Sleep(3 * time.Hour) // pauses, quarantines and demand are over
	if ready, all := p.total(Ready), len(m.living()); ready != opts.Min || all != opts.Min {
		return "the pool does not come back to its target"
	}
	if err := p.Close(context.Background()); err != nil {
		return err.Error()
	}
	if len(m.living()) > 0 || len(p.items) > 0 {
		return "namespaces are lost"
	}
	return ""
}
