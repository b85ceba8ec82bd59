package prefork

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tinefn/tine/driver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// maker makes namespaces that take makeDelay to make.
type maker struct {
	mu      sync.Mutex
	err     map[string]error // of attempts, by network
	probe   map[string]error // of probes, by namespace; "" of all
	removal error            // of removals
	onMade  func(id string)  // nil: nothing
	made    []*space
	tries   map[string][]time.Time // when attempts were made, by network
}

const makeDelay = 200 * time.Millisecond

func newMaker() *maker {
	return &maker{err: map[string]error{}, probe: map[string]error{}, tries: map[string][]time.Time{}}
}

func (m *maker) Make(ctx context.Context, name, network string) (Item, error) {
	m.mu.Lock()
	m.tries[network] = append(m.tries[network], time.Now())
	m.mu.Unlock()
	select {
	case <-time.After(makeDelay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.err[network]; err != nil {
		return nil, err
	}
	s := &space{maker: m, name: name, network: network}
	m.made = append(m.made, s)
	if m.onMade != nil {
		m.onMade(name)
	}
	return s, nil
}

// living lists the namespaces that exist.
func (m *maker) living() (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.made {
		if !s.removed {
			names = append(names, s.name)
		}
	}
	return names
}

// attempts tells when namespaces were to be made in a network.
func (m *maker) attempts(network string) []time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.tries[network])
}

func (m *maker) set(do func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	do()
}

type space struct {
	maker         *maker
	name, network string
	removed       bool
}

func (s *space) ID() string { return s.name }

func (s *space) Probe(context.Context) error {
	s.maker.mu.Lock()
	defer s.maker.mu.Unlock()
	if err := s.maker.probe[""]; err != nil {
		return err
	}
	return s.maker.probe[s.name]
}

func (s *space) Remove(context.Context) error {
	time.Sleep(50 * time.Millisecond)
	s.maker.mu.Lock()
	defer s.maker.mu.Unlock()
	if s.maker.removal != nil {
		return s.maker.removal
	}
	s.removed = true
	return nil
}

// start makes a pool that is closed, and has to have left nothing, at the end.
func start(t *testing.T, m *maker, opts Options) *Pool {
	t.Helper()
	opts.Maker = m
	p := New(opts)
	t.Cleanup(func() {
		if err := p.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if left := m.living(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		for it := range p.items {
			t.Errorf("the pool keeps %s, %v", it.name, it.state)
		}
	})
	return p
}

func (p *Pool) total(states ...State) int {
	sum := 0
	for _, level := range p.Levels() {
		for _, state := range states {
			sum += level.Count[state]
		}
	}
	return sum
}

// failures is how many the first network has had in a row.
func (p *Pool) failures() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.networks[0].failures
}

func mustLease(t *testing.T, p *Pool, tenant string) *Lease {
	t.Helper()
	lease := p.Lease(tenant, nil)
	if lease == nil {
		t.Fatal("there is none")
	}
	return lease
}

func inBubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

func TestPoolIsFilledToItsMinimum(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMaker()
		p := start(t, m, Options{Min: 4, Max: 10, Networks: []string{"a", "b"}})
		time.Sleep(3 * makeDelay)
		for _, level := range p.Levels() {
			if level.Count[Ready] != 2 {
				t.Errorf("%s: %v", level.Network, level.Count)
			}
		}
		time.Sleep(time.Hour)
		if made := len(m.attempts("a")) + len(m.attempts("b")); made != 4 {
			t.Errorf("made %d", made)
		}
	})
}

func TestBurstMakesThePoolLargerForAWhile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMaker()
		p := start(t, m, Options{Min: 2, Max: 40, UseOnce: true})
		burst := func() (hits int) {
			var leases []*Lease
			for range 20 {
				if lease := p.Lease("app", nil); lease != nil {
					hits++
					leases = append(leases, lease)
				}
			}
			time.Sleep(time.Second)
			for _, lease := range leases {
				lease.Release()
			}
			return hits
		}
		time.Sleep(time.Second)
		if hits := burst(); hits != 2 {
			t.Errorf("%d hits of the first burst", hits)
		}
		time.Sleep(time.Minute)
		if hits := burst(); hits < 16 {
			t.Errorf("%d hits of the next one", hits)
		}
		time.Sleep(2 * time.Hour)
		if ready, living := p.total(Ready), len(m.living()); ready != 2 || living != 2 {
			t.Errorf("%d are ready after a quiet time, %d exist", ready, living)
		}
	})
}

func TestNeverMoreThanTheMaximum(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMaker()
		p := start(t, m, Options{Min: 3, Max: 5})
		for range 50 {
			p.Lease("app", nil)
			time.Sleep(makeDelay / 2)
			if living := len(m.living()); living > 5 {
				t.Fatalf("%d at once", living)
			}
		}
		if leased := p.total(Leased); leased != 5 {
			t.Errorf("%d leased", leased)
		}
	})
}

func TestNamespaceIsUsedAgainByTheSameAppAloneAndAfterAQuarantine(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMaker()
		p := start(t, m, Options{Min: 1, Max: 10})
		time.Sleep(time.Second)
		first := mustLease(t, p, "app")
		time.Sleep(time.Second)
		first.Release()
		if id := mustLease(t, p, "app").ID(); id == first.ID() {
			t.Error("used again without a quarantine")
		}
		time.Sleep(DefaultQuarantine + time.Second)
		if id := mustLease(t, p, "other").ID(); id == first.ID() {
			t.Error("another app got it")
		}
		again := mustLease(t, p, "app")
		if again.ID() != first.ID() {
			t.Error("it is not used again")
		}
		again.Release()
		time.Sleep(DefaultQuarantine + DefaultKeepUsed + time.Second)
		if slices.Contains(m.living(), first.ID()) {
			t.Error("it is kept for ever")
		}
	})
}

func TestNoQuarantineIfNoneIsWanted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMaker()
		p := start(t, m, Options{Min: 1, Max: 10, Quarantine: -1})
		time.Sleep(time.Second)
		first := mustLease(t, p, "app")
		first.Release()
		time.Sleep(time.Millisecond)
		if again := mustLease(t, p, "app"); again.ID() != first.ID() {
			t.Error("it is not used again at once")
		}
	})
}

func TestNamespaceIsUsedOnceIfThatIsSetOrThereIsNoApp(t *testing.T) {
	for name, tt := range map[string]struct {
		useOnce bool
		tenant  string
	}{
		"set":    {true, "app"},
		"no app": {false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				m := newMaker()
				p := start(t, m, Options{Min: 1, Max: 10, UseOnce: tt.useOnce})
				time.Sleep(time.Second)
				lease := mustLease(t, p, tt.tenant)
				lease.Release()
				time.Sleep(time.Second)
				if slices.Contains(m.living(), lease.ID()) {
					t.Error("it lives on")
				}
			})
		})
	}
}

func TestLateReleaseDoesNotEndTheNextLease(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMaker()
		p := start(t, m, Options{Min: 1, Max: 3})
		time.Sleep(time.Second)
		first := mustLease(t, p, "app")
		first.Release()
		time.Sleep(DefaultQuarantine + time.Second)
		second := mustLease(t, p, "app")
		if second.ID() != first.ID() {
			t.Fatal("it is not the same namespace, so this shows nothing")
		}
		first.Release()
		first.Broken()
		if leased := p.total(Leased); leased != 1 {
			t.Errorf("%d leased", leased)
		}
		second.Release()
		if leased := p.total(Leased); leased != 0 {
			t.Errorf("%d leased", leased)
		}
	})
}

func TestUsedOnesGiveWayToNewOnesWhereThePoolIsFull(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMaker()
		p := start(t, m, Options{Min: 2, Max: 3})
		time.Sleep(time.Second)
		a, b := mustLease(t, p, "app"), mustLease(t, p, "app")
		a.Release()
		time.Sleep(time.Millisecond)
		b.Release()
		time.Sleep(3 * time.Second)
		if ready, kept := p.total(Ready), p.total(Quarantined); ready != 2 || kept != 1 {
			t.Errorf("%d ready, %d in quarantine", ready, kept)
		}
		if slices.Contains(m.living(), a.ID()) || !slices.Contains(m.living(), b.ID()) {
			t.Error("the younger one gave way")
		}
	})
}

func TestDeadHolderDrainsWhoUsesTheNamespace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMaker()
		p := start(t, m, Options{Min: 2, Max: 10})
		time.Sleep(time.Second)
		drained := 0
		lease := p.Lease("app", func() { drained++ })
		p.Died("stranger")
		p.Died(lease.ID())
		p.Died(lease.ID())
		if drained != 1 || p.total(Leased) != 1 {
			t.Errorf("drained %d times, %d leased", drained, p.total(Leased))
		}
		lease.Release()
		time.Sleep(time.Second)
		if slices.Contains(m.living(), lease.ID()) {
			t.Error("it was kept")
		}

		// One that nobody uses is replaced.
		p.Died(m.living()[0])
		time.Sleep(3 * time.Second) // those that died young count against the network
		if ready := p.total(Ready); ready != 2 {
			t.Errorf("%d ready", ready)
		}
	})
}

func TestBrokenNamespaceIsFoundByItsNextProbe(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMaker()
		p := start(t, m, Options{Min: 2, Max: 10})
		time.Sleep(time.Second)
		var drained atomic.Bool
		lease := p.Lease("app", func() { drained.Store(true) })
		victim := m.living()[0]
		if victim == lease.ID() {
			victim = m.living()[1]
		}
		m.set(func() { m.probe[victim], m.probe[lease.ID()] = errors.New("no route"), errors.New("no route") })
		time.Sleep(DefaultProbeEvery + time.Second)
		if slices.Contains(m.living(), victim) || !drained.Load() {
			t.Errorf("living %v, drained %t", m.living(), drained.Load())
		}
	})
}

func TestEngineWithoutAnswerCostsNoNamespace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMaker()
		p := start(t, m, Options{Min: 3, Max: 10})
		time.Sleep(time.Second)
		before := m.living()
		m.set(func() { m.probe[""], m.err[""] = driver.ErrUnavailable, driver.ErrUnavailable })
		p.ProbeAll()
		time.Sleep(time.Hour)
		if after := m.living(); !slices.Equal(before, after) {
			t.Errorf("%v became %v", before, after)
		}
	})
}

func TestNetworkThatFailsIsLeftAloneLongerAndLonger(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMaker()
		m.err["bad"] = errors.New("exchange full")
		p := start(t, m, Options{Min: 6, Max: 10, Networks: []string{"bad", "good"}})
		time.Sleep(5 * time.Second)
		if ready := p.total(Ready); ready != 6 {
			t.Errorf("%d ready: the good network has to do", ready)
		}
		mustLease(t, p, "app") // so that one is wanted from now on
		m.set(func() { m.err["good"] = errors.New("exchange full") })
		time.Sleep(time.Hour)
		for _, network := range []string{"good", "bad"} {
			tries := m.attempts(network)
			if len(tries) > 100 {
				t.Errorf("%s was tried %d times", network, len(tries))
			}
			last := tries[len(tries)-1].Sub(tries[len(tries)-2])
			if network == "good" && (last < lastNetworkPause/2 || last > lastNetworkPause+time.Second) {
				t.Errorf("%s: the last pause was %v", network, last)
			}
		}
		m.set(func() { clear(m.err) })
		time.Sleep(2 * lastNetworkPause)
		if ready := p.total(Ready); ready != 6 {
			t.Errorf("%d ready after it works again", ready)
		}
	})
}

func TestHoldersThatDieSoonAreNotMadeWithoutEnd(t *testing.T) {
	for name, lives := range map[string]time.Duration{"at once": 0, "soon": 20 * time.Millisecond, "later": 2 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				m := newMaker()
				p := start(t, m, Options{Min: 2, Max: 10})
				m.set(func() { // the first is not made yet
					m.onMade = func(id string) { time.AfterFunc(lives, func() { p.Died(id) }) }
				})
				time.Sleep(time.Hour)
				if tries := len(m.attempts("")); tries > 200 {
					t.Errorf("%d were made in an hour", tries)
				}
				m.set(func() { m.onMade = nil })
				time.Sleep(2 * lastNetworkPause)
				if ready := p.total(Ready); ready != 2 {
					t.Errorf("%d are ready after they live", ready)
				}
			})
		})
	}
}

// All holders die at one moment when an engine is started again.
func TestHoldersThatDieTogetherAreOneFailure(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMaker()
		p := start(t, m, Options{Min: 12, Max: 20, Parallel: 12})
		time.Sleep(time.Second)
		for _, id := range m.living() {
			p.Died(id)
		}
		if failures := p.failures(); failures != 1 {
			t.Errorf("%d failures in a row", failures)
		}
		time.Sleep(firstNetworkPause + provenAge + 2*makeDelay)
		if ready := p.total(Ready); ready != 12 {
			t.Errorf("%d are ready after they live", ready)
		}
	})
}

func TestAttemptsThatFailTogetherAreOneFailure(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMaker()
		m.err[""] = errors.New("exchange full")
		p := start(t, m, Options{Min: 4, Max: 8, Parallel: 4})
		for want, wait := range []time.Duration{0, makeDelay, firstNetworkPause + makeDelay} {
			time.Sleep(wait + time.Millisecond)
			if failures := p.failures(); failures != want {
				t.Errorf("%d failures in a row, want %d", failures, want)
			}
		}
	})
}

// Items of a busy pool are used before they are old.
func TestItemsThatWereUsedProveTheirNetwork(t *testing.T) {
	const calls = 10 // between two failures, each of which lasts for less than provenAge
	for name, use := range map[string]time.Duration{"for a moment": 0, "for long": 2 * provenAge} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				m := newMaker()
				p := start(t, m, Options{Min: 2, Max: 40, UseOnce: true, AppShare: 100, Parallel: 1})
				time.Sleep(time.Second)
				for range 5 {
					m.set(func() { m.err[""] = errors.New("a passing hiccup") })
					mustLease(t, p, "a").Release()
					time.Sleep(makeDelay + 10*time.Millisecond)
					m.set(func() { m.err[""] = nil })
					if failures := p.failures(); failures != 1 {
						t.Errorf("%d failures in a row", failures)
					}
					for range calls {
						time.Sleep(2 * time.Second)
						if lease := p.Lease("a", nil); lease != nil {
							time.AfterFunc(use, lease.Release)
						}
					}
				}
				time.Sleep(2 * use)
			})
		})
	}
}

// A holder that died in use proves nothing.
func TestDeadItemDoesNotProveItsNetwork(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMaker()
		p := start(t, m, Options{Min: 1, Max: 1, UseOnce: true}) // no other one is made meanwhile
		m.set(func() { m.err[""] = errors.New("no") })
		time.Sleep(makeDelay + time.Millisecond)
		m.set(func() { m.err[""] = nil })
		time.Sleep(2 * time.Second)
		lease := mustLease(t, p, "a")
		p.Died(lease.ID())
		time.Sleep(2 * provenAge)
		lease.Release()
		if failures := p.failures(); failures == 0 {
			t.Error("the network is taken to work")
		}
	})
}

func TestNamespaceThatCannotBeProbedIsNotHandedOut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMaker()
		m.probe[""] = errors.New("no address")
		p := start(t, m, Options{Min: 3, Max: 10})
		for range 100 {
			if p.Lease("app", nil) != nil {
				t.Fatal("handed out")
			}
			time.Sleep(time.Second)
		}
		if tries := len(m.attempts("")); tries > 20 {
			t.Errorf("%d attempts", tries)
		}
	})
}

func TestCloseReportsWhatItCouldNotRemove(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMaker()
		p := New(Options{Maker: m, Min: 3, Max: 10})
		time.Sleep(time.Second)
		lease := mustLease(t, p, "app")
		broken := errors.New("device busy")
		m.set(func() { m.removal = broken })
		if err := p.Close(t.Context()); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		lease.Release() // too late, and no harm
		if p.Lease("app", nil) != nil {
			t.Error("a closed pool hands out")
		}
		m.set(func() { m.removal = nil })
		if err := p.Close(t.Context()); err != nil || len(m.living()) > 0 {
			t.Errorf("once more: %v, living %v", err, m.living())
		}
	})
}

func TestStatesHaveNames(t *testing.T) {
	for state := Creating; state <= gone; state++ {
		if state.String() == "" {
			t.Errorf("state %d", state)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("an illegal move passes")
		}
	}()
	p := &Pool{items: map[*item]struct{}{}}
	p.moveLocked(&item{network: &network{}, state: Ready}, Probing)
}

func TestLogNamesWhatWentWrong(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m := newMaker()
		var log bytes.Buffer
		p := start(t, m, Options{Min: 1, Max: 10, ProbeEvery: time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		time.Sleep(time.Second / 2)
		victim := m.living()[0]
		m.set(func() { m.probe[victim] = errors.New("it lost its route") })
		time.Sleep(2 * time.Second)
		synctest.Wait()
		p.mu.Lock() // as whoever logs has it
		defer p.mu.Unlock()
		if text := log.String(); strings.Contains(text, errHolderDied.Error()) || strings.Count(text, "it lost its route") != 2 {
			t.Errorf("the log of a probe that failed:\n%s", text)
		}
	})
}
