package placement

import (
	"cmp"
	"iter"
	"math"
	"slices"

	"github.com/tinefn/tine/invoke"
)

// DefaultLoadFactor is how many times the mean load a runner may have before the
// consistent hash goes on to the next. Source: Mirrokni, Thorup, Zadimoghaddam:
// Consistent Hashing with Bounded Loads, 2016, where it is 1 + epsilon; 1.25 is
// what was found good in proxies.
const DefaultLoadFactor = 1.25

// ring is a consistent hash with bounded loads.
type ring struct{ factor float64 }

// NewRing returns a policy that begins at the runner which the function's
// identifier is hashed to, and goes on to its neighbours in the order of
// addresses. Runners with more than factor times the mean load, which this call
// is counted in, come after those with less. A factor of 1 or less gets the default.
func NewRing(factor float64) Policy {
	if factor <= 1 {
		factor = DefaultLoadFactor
	}
	return ring{factor}
}

func (r ring) Order(call *invoke.Call, among []*Member) iter.Seq[*Member] {
	return func(yield func(*Member) bool) {
		if len(among) == 0 {
			return
		}
		members := slices.Clone(among)
		slices.SortFunc(members, func(a, b *Member) int { return cmp.Compare(a.Address(), b.Address()) })
		first := jump(hash(call.Fn.ID), len(members))
		total := 1
		for _, m := range members {
			total += m.Load()
		}
		bound := int(math.Ceil(r.factor * float64(total) / float64(len(members))))
		var over []*Member
		for i := range members {
			m := members[(first+i)%len(members)]
			switch {
			case m.Load()+1 > bound:
				over = append(over, m)
			case !yield(m):
				return
			}
		}
		for _, m := range over {
			if !yield(m) {
				return
			}
		}
	}
}
