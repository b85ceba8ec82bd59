package prefork

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// machine is short of whatever a test says.
type machine struct {
	processors, memory atomic.Bool
	asked              atomic.Int32
}

func (m *machine) short() (processors, memory bool) {
	m.asked.Add(1)
	return m.processors.Load(), m.memory.Load()
}

func TestNothingIsMadeWhileTheMachineIsShortOfProcessorTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m, seen := &machine{}, &results{}
		p := start(t, newMaker(), Options{Min: 4, Max: 20, AppShare: 100, Short: m.short, Observer: seen})
		time.Sleep(2 * time.Second)
		m.processors.Store(true)
		mustLease(t, p, "app")
		time.Sleep(time.Minute)
		if ready := p.total(Ready); ready != 3 {
			t.Errorf("%d are ready: those that are stay, and none is made", ready)
		}
		if lease := drain(p, "app"); len(lease) != 3 {
			t.Errorf("%d were handed out", len(lease))
		}
		m.processors.Store(false)
		time.Sleep(shortagePause + 2*time.Second)
		if ready := p.total(Ready); ready < 4 {
			t.Errorf("%d are ready when there is time again", ready)
		}
		if !slices.Equal(seen.paused, []string{shortOfProcessors}) {
			t.Errorf("pauses: %v", seen.paused)
		}
	})
}

func TestWhatIsAboveTheMinimumGoesWhileMemoryIsShort(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m, seen, made := &machine{}, &results{}, newMaker()
		p := start(t, made, Options{Min: 2, Max: 40, AppShare: 100, Short: m.short, Observer: seen, Quarantine: -1})
		time.Sleep(time.Second)
		for range 10 { // which asks for more
			p.Lease("app", nil)
		}
		time.Sleep(5 * time.Second)
		used := mustLease(t, p, "other")
		used.Release() // is kept for its app
		time.Sleep(time.Second)
		if ready := p.total(Ready); ready < 8 {
			t.Fatalf("%d are ready, so this shows nothing", ready)
		}
		m.memory.Store(true)
		time.Sleep(time.Minute) // the pool wakes up as the demand gets less
		if ready, leased := p.total(Ready), p.total(Leased); ready != 2 || leased != 2 {
			t.Errorf("%d ready, %d leased", ready, leased)
		}
		if slices.Contains(made.living(), used.ID()) {
			t.Error("what is kept for an app stays")
		}
		m.memory.Store(false)
		time.Sleep(shortagePause + 3*time.Second)
		if ready := p.total(Ready); ready < 6 {
			t.Errorf("%d are ready when there is memory again", ready)
		}
		if !slices.Equal(seen.paused, []string{shortOfMemory}) {
			t.Errorf("pauses: %v", seen.paused)
		}
	})
}

func TestIdlePoolDoesNotLookAround(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := &machine{}
		start(t, newMaker(), Options{Min: 4, Max: 20, Short: m.short})
		time.Sleep(time.Minute)
		before := m.asked.Load()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if before != 4 || m.asked.Load() != before {
			t.Errorf("it looked %d times, and %d times in a day of rest", before, m.asked.Load()-before)
		}
	})
}

func TestPoolClosesInTheMiddleOfAShortage(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := &machine{}
		m.memory.Store(true)
		p := start(t, newMaker(), Options{Min: 4, Max: 20, Short: m.short})
		time.Sleep(time.Minute)
		synctest.Wait()
		if all := p.total(Creating, Probing, Ready); all != 0 {
			t.Errorf("%d are there", all)
		}
		if asked := m.asked.Load(); asked > 2*30+2 {
			t.Errorf("it looked %d times in a minute", asked)
		}
	})
}
