package prefork

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// results counts what those who asked got.
type results struct {
	noObserver
	mu     sync.Mutex
	asked  map[Result]int
	paused []string
}

func (r *results) Asked(result Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked == nil {
		r.asked = map[Result]int{}
	}
	r.asked[result]++
}

func (r *results) Paused(shortOf string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = append(r.paused, shortOf)
}

// drain leases until there is nothing more for a tenant.
func drain(p *Pool, tenant string) (leases []*Lease) {
	for {
		lease := p.Lease(tenant, nil)
		if lease == nil {
			return leases
		}
		leases = append(leases, lease)
	}
}

func TestOneAppCannotDrainThePool(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		seen := &results{}
		p := start(t, newMaker(), Options{Min: 8, Max: 100, Observer: seen})
		time.Sleep(2 * time.Second)
		if got := len(drain(p, "greedy")); got != 6 { // alone, it leaves a quarter of the minimum
			t.Errorf("it got %d of 8", got)
		}
		if seen.asked[Capped] != 1 || seen.asked[Miss] != 0 {
			t.Errorf("results: %v", seen.asked)
		}
		if got := len(drain(p, "modest")); got != 2 {
			t.Errorf("the other one got %d of 2", got)
		}
		if seen.asked[Miss] != 1 {
			t.Errorf("results: %v", seen.asked)
		}
	})
}

func TestAppWithLessThanAFairShareGetsTheLastOne(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := start(t, newMaker(), Options{Min: 8, Max: 100, UseOnce: true})
		time.Sleep(2 * time.Second)
		// It takes all the time, and the other one now and then.
		for range 60 {
			for _, lease := range drain(p, "greedy") {
				lease.Release()
			}
			mustLease(t, p, "modest").Release()
			time.Sleep(10 * time.Second)
		}
		wants := p.total(Ready)
		greedy := len(drain(p, "greedy"))
		if left := wants - greedy; left < wants/4 {
			t.Errorf("of %d it leaves %d", wants, left)
		}
		if modest := len(drain(p, "modest")); greedy+modest != wants {
			t.Errorf("%d and %d of %d", greedy, modest, wants)
		}
	})
}

func TestAppThatHoldsMostLeavesTheRestToOthers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := start(t, newMaker(), Options{Min: 8, Max: 20})
		held := 0
		for range 100 { // slowly, so that there is always one ready
			held += len(drain(p, "greedy"))
			time.Sleep(10 * time.Second)
		}
		time.Sleep(time.Hour) // what it took is long ago, and it still has it
		held += len(drain(p, "greedy"))
		if held != 18 {
			t.Errorf("it holds %d of 20, and should leave 2", held)
		}
		if got := len(drain(p, "modest")); got != 2 {
			t.Errorf("the other one got %d", got)
		}
	})
}

func TestEveryAppGetsAllIfThereIsNoCap(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := start(t, newMaker(), Options{Min: 8, Max: 100, AppShare: 100})
		time.Sleep(2 * time.Second)
		if got := len(drain(p, "greedy")); got != 8 {
			t.Errorf("it got %d of 8", got)
		}
	})
}

func TestTwoAppsCannotDrainThePoolTogether(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := start(t, newMaker(), Options{Min: 8, Max: 100, UseOnce: true})
		time.Sleep(2 * time.Second)
		for range 10 {
			one, two := p.Lease("one", nil), p.Lease("two", nil)
			for one != nil || two != nil {
				one, two = p.Lease("one", nil), p.Lease("two", nil)
			}
			mustLease(t, p, "quiet").Release()
			time.Sleep(time.Minute)
		}
	})
}

// Whatever an app does, another one that has been quiet finds something ready.
func TestQuietAppIsNeverShutOut(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		least := rapid.IntRange(4, 12).Draw(rt, "min")
		opts := Options{
			Min: least, Max: least + rapid.IntRange(0, 20).Draw(rt, "more"), UseOnce: rapid.Bool().Draw(rt, "use once"),
			AppShare: rapid.IntRange(1, 75).Draw(rt, "share"),
		}
		steps := rapid.SliceOfN(rapid.IntRange(0, 999), 1, 60).Draw(rt, "steps")
		var failure string
		synctest.Test(t, func(t *testing.T) {
			opts.Maker = newMaker()
			p := New(opts)
			time.Sleep(10 * time.Second)
			var held []*Lease
			for _, step := range steps {
				switch what, which := step%4, step/4; what {
				case 0, 1:
					for range which%10 + 1 {
						if lease := p.Lease("noisy", nil); lease != nil {
							held = append(held, lease)
						}
					}
				case 2:
					if len(held) > 0 {
						held[which%len(held)].Release()
					}
				case 3:
					time.Sleep(time.Duration(which) * 100 * time.Millisecond)
				}
			}
			if p.Lease("quiet", nil) == nil {
				failure = fmt.Sprintf("%d ready, %d leased of %d", p.total(Ready), p.total(Leased), opts.Max)
			}
			if err := p.Close(t.Context()); err != nil {
				failure = err.Error()
			}
		})
		if failure != "" {
			rt.Fatal(failure)
		}
	})
}

func TestForgottenAppsTakeNoMemory(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var s shares
		for i := range 100_000 {
			s.took(fmt.Sprint("app", i))
			time.Sleep(time.Second)
		}
		if len(s.taken) > 1000 { // those of five minutes, and twice as many before they are looked at
			t.Errorf("%d apps are remembered", len(s.taken))
		}
	})
}
