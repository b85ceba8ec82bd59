package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func newRandom(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

func members(n int, loads ...int) []*Member {
	list := make([]*Member, n)
	for i := range list {
		list[i] = NewMember(&fake{address: fmt.Sprintf("192.0.2.%d:9190", i+1)})
		if i < len(loads) {
			list[i].inFlight.Store(int64(loads[i]))
		}
	}
	return list
}

// A new bucket takes keys from all others, and no key moves between those.
func TestJumpMovesOnlyWhatItMust(t *testing.T) {
	for n := 1; n < 40; n++ {
		moved := 0
		for key := range uint64(2000) {
			before, after := jump(mix(key, 1), n), jump(mix(key, 1), n+1)
			switch {
			case before < 0 || before >= n:
				t.Fatalf("bucket %d of %d", before, n)
			case after == before:
			case after != n:
				t.Fatalf("a key moved from %d to %d when %d was added", before, after, n)
			default:
				moved++
			}
		}
		if expected := 2000 / (n + 1); moved < expected/2 || moved > expected*2 {
			t.Errorf("%d buckets: %d keys moved, want about %d", n, moved, expected)
		}
	}
	// The key for which the divisor of Fn's form is zero.
	if got := jump(0, 10); got != 0 {
		t.Errorf("got bucket %d", got)
	}
}

// The vectors of the authors of SipHash have another key; this one is Fn's.
func TestHashIsStable(t *testing.T) {
	if a, b := hash("01ARZ3NDEKTSV4RRFFQ69G5FAV"), hash("01ARZ3NDEKTSV4RRFFQ69G5FAW"); a == b || a != hash("01ARZ3NDEKTSV4RRFFQ69G5FAV") {
		t.Error(a, b)
	}
}

func TestRingGoesOnWhereLoadIsTooHigh(t *testing.T) {
	policy := NewRing(1.25)
	call := callOf("f")
	idle := slices.Collect(policy.Order(call, members(5)))
	again := slices.Collect(policy.Order(call, members(5)))
	for i := range idle {
		if idle[i].Address() != again[i].Address() {
			t.Fatal("the order changes")
		}
	}
	// Five runners and 20 calls: up to ceil(1.25 * 21 / 5) = 6 each.
	list := members(5)
	index := func(m *Member) int {
		return slices.IndexFunc(list, func(o *Member) bool { return o.Address() == m.Address() })
	}
	home := index(idle[0])
	list[home].inFlight.Store(5)
	list[(home+1)%5].inFlight.Store(15)
	order := slices.Collect(policy.Order(call, list))
	if order[0] != list[home] || order[4] != list[(home+1)%5] || order[1] != list[(home+2)%5] {
		t.Errorf("the order is %v", order)
	}
	list[home].inFlight.Store(6)
	list[(home+1)%5].inFlight.Store(14)
	if order := slices.Collect(policy.Order(call, list)); order[0] != list[(home+2)%5] || order[3] != list[home] {
		t.Error("a runner above the bound is not avoided")
	}
}

// Every policy names every member once, whatever their loads, and however often
// it is asked.
func TestOrderIsComplete(t *testing.T) {
	for name, policy := range policies() {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				policy := policy()
				list := members(rapid.IntRange(0, 12).Draw(t, "members"), rapid.SliceOfN(rapid.IntRange(0, 100), 0, 12).Draw(t, "loads")...)
				for range 5 {
					call := callOf(rapid.StringMatching("[a-d]").Draw(t, "fn"))
					among := slices.DeleteFunc(slices.Clone(list), func(*Member) bool { return rapid.IntRange(0, 3).Draw(t, "gone") == 0 })
					order := slices.Collect(policy.Order(call, among))
					if len(order) != len(among) {
						t.Fatalf("%d of %d members", len(order), len(among))
					}
					for _, m := range among {
						if !slices.Contains(order, m) {
							t.Fatalf("%s is missing", m.Address())
						}
					}
					if tracker, ok := policy.(Tracker); ok && len(order) > 0 {
						tracker.Began(call, order[0])
						if rapid.Bool().Draw(t, "answered") {
							tracker.Answered(call, order[0])
						}
						if rapid.Bool().Draw(t, "ended") {
							tracker.Ended(call, order[0], rapid.Bool().Draw(t, "refused"))
						}
					}
				}
			})
		})
	}
}
