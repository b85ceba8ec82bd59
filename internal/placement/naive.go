package placement

import (
	"iter"
	"math/rand/v2"

	"github.com/tinefn/tine/invoke"
)

// naive takes runners in turn from a random one on.
type naive struct{}

// NewNaive returns Fn's naive policy: each sweep begins at a random runner and
// goes on in the order of the pool.
func NewNaive() Policy { return naive{} }

func (naive) Order(_ *invoke.Call, among []*Member) iter.Seq[*Member] {
	return func(yield func(*Member) bool) {
		if len(among) == 0 {
			return
		}
		first := rand.IntN(len(among)) //nolint:gosec // not a secret
		for i := range among {
			if !yield(among[(first+i)%len(among)]) {
				return
			}
		}
	}
}
