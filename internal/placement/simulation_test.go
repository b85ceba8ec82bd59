package placement

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"text/tabwriter"
	"time"

	"github.com/tinefn/tine/invoke"
)

// machine simulates a runner: it has room for some instances, each of which
// executes one call at a time and stays until another function needs its room.
// Calls without an instance stand in line.
type machine struct {
	address string
	room    int
	slow    float64 // how many times longer everything takes

	mu       sync.Mutex
	idle     map[string]int
	lastUse  map[string]time.Time
	used     int // instances, busy or idle
	line     []chan struct{}
	pulled   map[string]time.Time // when a function's image is there
	launches int
	pulls    int
	calls    int
	depth    int // in line or executing, now
	deepest  int
}

// What things take on a machine that is not slow.
const (
	simPull   = time.Second
	simLaunch = 150 * time.Millisecond
	simLine   = 64
)

func newMachine(address string, room int, slow float64) *machine {
	return &machine{address: address, room: room, slow: slow, idle: map[string]int{}, lastUse: map[string]time.Time{}, pulled: map[string]time.Time{}}
}

func (m *machine) Address() string             { return m.address }
func (m *machine) Close(context.Context) error { return nil }

func (m *machine) takes(d time.Duration) time.Duration { return time.Duration(float64(d) * m.slow) }

// acquire waits for an instance and returns how long it takes to be ready.
func (m *machine) acquire(fnID string) (time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.line) >= simLine {
		return 0, false
	}
	m.calls++
	m.depth++
	m.deepest = max(m.deepest, m.depth)
	for {
		switch {
		case m.idle[fnID] > 0:
			m.idle[fnID]--
			return 0, true
		case m.used < m.room:
			m.used++
			return m.launchLocked(fnID), true
		}
		oldest := ""
		for other, n := range m.idle {
			if n > 0 && (oldest == "" || m.lastUse[other].Before(m.lastUse[oldest])) {
				oldest = other
			}
		}
		if oldest != "" {
			m.idle[oldest]--
			return m.launchLocked(fnID), true
		}
		turn := make(chan struct{})
		m.line = append(m.line, turn)
		m.mu.Unlock()
		<-turn
		m.mu.Lock()
	}
}

func (m *machine) launchLocked(fnID string) time.Duration {
	m.launches++
	there, known := m.pulled[fnID]
	if !known {
		m.pulls++
		there = time.Now().Add(m.takes(simPull))
		m.pulled[fnID] = there
	}
	return max(time.Until(there), 0) + m.takes(simLaunch)
}

func (m *machine) release(fnID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.idle[fnID]++
	m.lastUse[fnID] = time.Now()
	m.depth--
	if len(m.line) > 0 {
		close(m.line[0])
		m.line = m.line[1:]
	}
}

type workKey struct{}

func (m *machine) Invoke(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
	wait, ok := m.acquire(call.Fn.ID)
	if !ok {
		return nil, errNoRoom
	}
	time.Sleep(wait + m.takes(ctx.Value(workKey{}).(time.Duration)))
	m.release(call.Fn.ID)
	return &invoke.Response{Body: invoke.HoldBody(nil)}, nil
}

// traffic is a load: calls of functions whose popularity is Zipf's, at random
// times, that take random times with a mean.
type traffic struct {
	functions int
	skew      float64 // Zipf's exponent
	rate      float64 // calls in a second
	work      time.Duration
	length    time.Duration
}

// result is what a simulation found.
type result struct {
	latencies []time.Duration // sorted
	failed    int
	machines  []*machine
}

func (r *result) at(q float64) time.Duration {
	return r.latencies[min(int(q*float64(len(r.latencies))), len(r.latencies)-1)]
}

func (r *result) mean() time.Duration {
	var sum time.Duration
	for _, l := range r.latencies {
		sum += l
	}
	return sum / time.Duration(len(r.latencies))
}

func (r *result) launches() (n int) {
	for _, m := range r.machines {
		n += m.launches
	}
	return n
}

func (r *result) pulls() (n int) {
	for _, m := range r.machines {
		n += m.pulls
	}
	return n
}

// simulate runs a load through a placer in a bubble of its own time. After a part
// of the load a further machine may join.
func simulate(t *testing.T, policy Policy, load traffic, machines []*machine, joins *machine, seed uint64) *result {
	pool := &fixed{}
	for _, m := range machines {
		pool.runners = append(pool.runners, m)
	}
	p := New(Options{Pool: pool, Policy: policy, Timeout: 10 * time.Second})
	random := rand.New(rand.NewPCG(seed, 1))
	zipf := rand.NewZipf(random, load.skew, 1, uint64(load.functions-1))
	r := &result{machines: machines}
	if joins != nil {
		r.machines = append(slices.Clone(machines), joins)
		time.AfterFunc(load.length/2, func() { pool.set(append(slices.Clone(pool.runners), joins)...) })
	}
	var mu sync.Mutex
	var calls sync.WaitGroup
	for end := time.Now().Add(load.length); time.Now().Before(end); {
		fnID := fmt.Sprintf("fn-%d", zipf.Uint64())
		work := time.Duration(random.ExpFloat64() * float64(load.work))
		calls.Go(func() {
			began := time.Now()
			_, err := p.Invoke(context.WithValue(t.Context(), workKey{}, work), callOf(fnID))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				r.failed++
				return
			}
			r.latencies = append(r.latencies, time.Since(began))
		})
		time.Sleep(time.Duration(random.ExpFloat64() / load.rate * float64(time.Second)))
	}
	calls.Wait()
	slices.Sort(r.latencies)
	return r
}

// scenario is a simulation that all policies go through.
type scenario struct {
	name     string
	load     traffic
	machines func() (at []*machine, joins *machine)
}

func equal(n, room int) []*machine {
	machines := make([]*machine, n)
	for i := range machines {
		machines[i] = newMachine(fmt.Sprintf("192.0.2.%d:9190", i+1), room, 1)
	}
	return machines
}

// The skew is that of few functions with most of the calls; the room is enough for
// what runs at one time, and not for an instance of each function everywhere.
var scenarios = []scenario{
	{"three runners", traffic{150, 1.1, 200, 50 * time.Millisecond, 0}, func() ([]*machine, *machine) { return equal(3, 48), nil }},
	{"three, with more to do", traffic{150, 1.1, 350, 50 * time.Millisecond, 0}, func() ([]*machine, *machine) { return equal(3, 48), nil }},
	{"one slow of three", traffic{150, 1.1, 200, 50 * time.Millisecond, 0}, func() ([]*machine, *machine) {
		machines := equal(3, 48)
		machines[1].slow = 5
		return machines, nil
	}},
	{"a third joins two", traffic{150, 1.1, 250, 50 * time.Millisecond, 0}, func() ([]*machine, *machine) {
		machines := equal(3, 48)
		return machines[:2], machines[2]
	}},
	{"twenty runners", traffic{300, 1.1, 600, 50 * time.Millisecond, 0}, func() ([]*machine, *machine) { return equal(20, 48), nil }},
}

// The default policy is the one that does best here. The table is that of
// docs/performance.md: TINE_SIMULATION=1 go test -v -run Simulated ./internal/placement
func TestSimulatedTraffic(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates minutes of traffic")
	}
	seeds, length := []uint64{1}, 20*time.Second
	if os.Getenv("TINE_SIMULATION") != "" {
		seeds, length = []uint64{1, 2, 3, 4, 5}, time.Minute
	}
	table := tabwriter.NewWriter(t.Output(), 0, 1, 2, ' ', 0)
	fmt.Fprintln(table, "scenario\tpolicy\tmean\tp50\tp95\tp99\tlaunches\timages\tcalls by runner\tfailed")
	means := map[string]time.Duration{}
	for _, s := range scenarios {
		found := map[string]*result{}
		for _, name := range []string{"naive", "ch", "p2c"} {
			all := &result{}
			for _, seed := range seeds {
				synctest.Test(t, func(t *testing.T) {
					machines, joins := s.machines()
					s.load.length = length
					r := simulate(t, policies()[name](), s.load, machines, joins, seed)
					all.latencies = append(all.latencies, r.latencies...)
					all.machines = append(all.machines, r.machines...)
					all.failed += r.failed
				})
			}
			slices.Sort(all.latencies)
			found[name] = all
			var shares []int
			for _, m := range all.machines[:min(len(all.machines)/len(seeds), 3)] {
				shares = append(shares, m.calls)
			}
			round := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
			fmt.Fprintf(table, "%s\t%s\t%v\t%v\t%v\t%v\t%d\t%d\t%v\t%d\n", s.name, name, round(all.mean()), round(all.at(.5)), round(all.at(.95)), round(all.at(.99)),
				all.launches()/len(seeds), all.pulls()/len(seeds), shares, all.failed)
		}
		for name, r := range found {
			means[name] += r.mean()
			if r.failed > 0 {
				t.Errorf("%s, %s: %d calls failed", s.name, name, r.failed)
			}
		}
		if found["p2c"].launches() > found["naive"].launches() {
			t.Errorf("%s: p2c starts more than naive", s.name)
		}
	}
	if means["p2c"] > means["naive"]*9/10 || means["p2c"] > means["ch"]*11/10 {
		t.Errorf("the default policy is not the best: %v", means)
	}
	if err := table.Flush(); err != nil {
		t.Error(err)
	}
}

// Three runners serve nearly three times as many calls of one function as one does,
// with as many clients as they have room for, and with more.
func TestThreeRunnersServeThreeTimes(t *testing.T) {
	const room, work = 8, 100 * time.Millisecond
	served := func(runners, clients int) (calls int) {
		synctest.Test(t, func(t *testing.T) {
			pool := &fixed{}
			for _, m := range equal(runners, room) {
				pool.runners = append(pool.runners, m)
			}
			p := New(Options{Pool: pool})
			ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), workKey{}, work), 20*time.Second)
			defer cancel()
			var mu sync.Mutex
			var all sync.WaitGroup
			for range clients {
				all.Go(func() {
					for ctx.Err() == nil {
						if _, err := p.Invoke(ctx, callOf("f")); err == nil {
							mu.Lock()
							calls++
							mu.Unlock()
						}
					}
				})
			}
			all.Wait()
		})
		return calls
	}
	for _, clients := range []int{room, room * 3 / 2, room * 2} { // for each runner
		one, three := served(1, clients), served(3, 3*clients)
		if ratio := float64(three) / float64(one); ratio < 2.7 {
			t.Errorf("%d clients for each runner: %d calls, and %d of three runners: %.2f times", clients, one, three, ratio)
		} else {
			t.Logf("%d clients for each runner: %.2f times", clients, ratio)
		}
	}
}
