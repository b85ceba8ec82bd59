package placement

import (
	"context"
	"fmt"
	"testing"

	"github.com/tinefn/tine/invoke"
)

// What placement adds to a call.
func BenchmarkPlacer(b *testing.B) {
	for name, policy := range policies() {
		for _, runners := range []int{3, 100} {
			b.Run(fmt.Sprintf("%s/%d", name, runners), func(b *testing.B) {
				fakes := fleet(runners)
				for _, f := range fakes {
					f.invoke = func(context.Context, *invoke.Call) (*invoke.Response, error) {
						return &invoke.Response{Body: invoke.HoldBody(nil)}, nil
					}
				}
				p := New(Options{Pool: poolOf(fakes...), Policy: policy()})
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					call := callOf("f")
					call.Body = invoke.HoldBody([]byte("hello"))
					for pb.Next() {
						if _, err := p.Invoke(b.Context(), call); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}
