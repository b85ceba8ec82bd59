package placement

import (
	"cmp"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tinefn/tine/invoke"
)

// What it costs to begin something at a runner, in calls that are in flight
// there: to use a runner with so many calls fewer is worth it. Found with
// simulation_test.go, where half as much and twice as much differ by a few percent.
// A larger instanceCost makes fewer cold starts, and loads that differ by so much
// for good: some runners have a line then while others have room.
const (
	instanceCost = 1 // another instance where the function has some
	pendingCost  = 5 // the same, where the first has not been answered yet
	runnerCost   = 8 // the first instance, for which there may not even be an image

	// What it is worth to begin a function where all load balancers would.
	homeBonus = 2
)

// firstRunners is how many runners a function may be cold on at one time, at
// first: calls that come together wait for few launches of images, not for one on
// each machine. Where it has been answered on more, so many more may be added.
//
// It is a limit only for runners that have fewer than coldCalls of the function, as
// each call needs an instance of its own, and that have not kept their first caller
// waiting for coldPatience: it may be a function that takes long to answer.
const (
	firstRunners = 2
	coldCalls    = 16
	coldPatience = 10 * time.Second
)

// choices chooses the cheaper of two runners that know the function, or one more
// that does not.
type choices struct {
	mu        sync.Mutex // guards the rest
	random    func(n int) int
	functions map[string]*spread
	cleaned   time.Time
}

// spread is where a function's calls are and were.
type spread struct {
	runs []*run // in the order in which they began
	idle time.Duration
}

// run is what a function does at one member.
type run struct {
	member   *Member
	rank     uint64 // of the member for the function
	busy     int    // calls
	most     int    // calls at one time, so probably instances, within the idle timeout
	mostAt   time.Time
	beganAt  time.Time // when the first call did
	lastAt   time.Time // when a call began or ended
	answered bool
}

// warm reports whether there is probably an instance that nobody uses.
func (r *run) warm() bool { return r.answered && r.most > r.busy }

// cost is what it costs to begin another call.
func (r *run) cost() int {
	switch {
	case r.warm():
		return 0
	case r.answered:
		return instanceCost
	}
	return pendingCost
}

// NewChoices returns the policy of two choices by live load. Of the runners that
// have executed a function within its idle timeout two are compared by their
// load and by whether an instance probably waits there, and with them the next
// one that has not, if those are so busy that a cold start is worth it. That one
// is the function's next by rendezvous hashing, so that functions spread evenly
// without all of them turning to a runner that is new and idle. The others follow, in the order of what they cost.
func NewChoices() Policy { return &choices{random: rand.IntN, functions: map[string]*spread{}} }

// candidate is a member with what it would cost.
type candidate struct {
	member *Member
	cost   int
	rank   uint64
}

// better orders by cost, then by rank, so that a function with little to do stays
// on few runners.
func better(a, b candidate) int {
	return cmp.Or(cmp.Compare(a.cost, b.cost), cmp.Compare(b.rank, a.rank))
}

func (c *choices) Order(call *invoke.Call, among []*Member) iter.Seq[*Member] {
	return func(yield func(*Member) bool) {
		if len(among) == 0 {
			return
		}
		first := among[0]
		if len(among) > 1 {
			first = c.choose(call, among)
		}
		if !yield(first) {
			return
		}
		rest := c.costs(call, among)
		slices.SortFunc(rest, better)
		for _, other := range rest {
			if other.member != first && !yield(other.member) {
				return
			}
		}
	}
}

// choose returns the member to try first.
func (c *choices) choose(call *invoke.Call, among []*Member) *Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	s := c.functions[call.Fn.ID]
	var known, warm []candidate
	pending, answered := 0, 0
	if s != nil {
		s.expire(now)
		for _, r := range s.runs {
			if !slices.Contains(among, r.member) {
				continue
			}
			one := candidate{r.member, r.member.Load(), r.rank}
			one.cost += r.cost()
			switch {
			case r.warm():
				answered++
				warm = append(warm, one)
				continue
			case r.answered:
				answered++
			case r.busy < coldCalls && now.Sub(r.beganAt) < coldPatience:
				pending++
			}
			known = append(known, one)
		}
	}
	best := c.pick(warm, c.pick(known, candidate{}))
	if best.member != nil && (best.cost <= runnerCost || pending >= max(firstRunners, answered) || len(warm)+len(known) == len(among)) {
		return best.member
	}
	return c.pick([]candidate{next(call.Fn.ID, s, among)}, best).member
}

// pick returns the better of the best so far and two of some candidates: that of
// the highest rank, and a random one of the others.
func (c *choices) pick(some []candidate, best candidate) candidate {
	if len(some) == 0 {
		return best
	}
	top := 0
	for i := range some {
		if some[i].rank > some[top].rank {
			top = i
		}
	}
	two := []candidate{some[top]}
	if len(some) > 1 {
		two = append(two, some[(top+1+c.random(len(some)-1))%len(some)])
	}
	for _, one := range two {
		if best.member == nil || better(one, best) < 0 {
			best = one
		}
	}
	return best
}

// next returns which member is next among those that do not know the function:
// that of the highest rank, or the second if it has less to do. There must be one.
func next(fnID string, s *spread, among []*Member) candidate {
	key := hash(fnID)
	var one, two candidate
	for _, m := range among {
		if s != nil && s.at(m) != nil {
			continue
		}
		c := candidate{m, m.Load() + runnerCost, mix(key, m.hash)}
		switch {
		case one.member == nil || c.rank > one.rank:
			one, two = c, one
		case two.member == nil || c.rank > two.rank:
			two = c
		}
	}
	if two.member != nil && two.cost+homeBonus < one.cost {
		return two
	}
	return one
}

// costs returns what each member would cost.
func (c *choices) costs(call *invoke.Call, among []*Member) []candidate {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.functions[call.Fn.ID]
	key := hash(call.Fn.ID)
	all := make([]candidate, 0, len(among))
	for _, m := range among {
		cost := runnerCost
		if s != nil {
			if r := s.at(m); r != nil {
				cost = r.cost()
			}
		}
		all = append(all, candidate{m, m.Load() + cost, mix(key, m.hash)})
	}
	return all
}

// at returns what the function does at a member, nil if nothing.
func (s *spread) at(m *Member) *run {
	for _, r := range s.runs {
		if r.member == m {
			return r
		}
	}
	return nil
}

// expire forgets runners where the function's instances have probably ended.
func (s *spread) expire(now time.Time) {
	s.runs = slices.DeleteFunc(s.runs, func(r *run) bool { return r.busy == 0 && now.Sub(r.lastAt) > s.idle })
	for _, r := range s.runs {
		if r.most > r.busy && now.Sub(r.mostAt) > s.idle {
			r.most, r.mostAt = r.busy, now
		}
	}
}

// cleanEvery is how often all functions are looked through for those that are not
// called any more.
const cleanEvery = time.Minute

func (c *choices) cleanLocked(now time.Time) {
	if now.Sub(c.cleaned) < cleanEvery {
		return
	}
	c.cleaned = now
	for id, s := range c.functions {
		if s.expire(now); len(s.runs) == 0 {
			delete(c.functions, id)
		}
	}
}

// Began counts a call at a member.
func (c *choices) Began(call *invoke.Call, m *Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.cleanLocked(now) // here, as not every call is one that is chosen for
	s := c.functions[call.Fn.ID]
	if s == nil {
		s = &spread{}
		c.functions[call.Fn.ID] = s
	}
	s.idle = time.Duration(call.Fn.IdleTimeout) * time.Second
	r := s.at(m)
	if r == nil {
		r = &run{member: m, rank: mix(hash(call.Fn.ID), m.hash), beganAt: now}
		s.runs = append(s.runs, r)
	}
	r.busy++
	r.lastAt = now
	if r.busy >= r.most {
		r.most, r.mostAt = r.busy, now
	}
}

// Answered notes that the function runs at a member.
func (c *choices) Answered(call *invoke.Call, m *Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.functions[call.Fn.ID]; s != nil {
		if r := s.at(m); r != nil {
			r.answered = true
		}
	}
}

// Ended takes a call away from a member. One that was refused has started
// nothing there.
func (c *choices) Ended(call *invoke.Call, m *Member, refused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.functions[call.Fn.ID]
	if s == nil {
		return
	}
	r := s.at(m)
	if r == nil {
		return
	}
	r.busy--
	r.lastAt = time.Now()
	switch {
	case refused && r.busy == 0 && !r.answered:
		s.runs = slices.DeleteFunc(s.runs, func(other *run) bool { return other == r })
	case refused:
		r.most = max(r.busy, r.most-1)
	}
}

// Lost forgets what ran at a member.
func (c *choices) Lost(m *Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.functions {
		s.runs = slices.DeleteFunc(s.runs, func(r *run) bool { return r.member == m && r.busy == 0 })
		if r := s.at(m); r != nil {
			r.answered, r.most, r.beganAt = false, r.busy, time.Now()
		}
	}
}
