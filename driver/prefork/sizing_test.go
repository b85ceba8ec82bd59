package prefork

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// swift makes things in the time that a sandbox takes.
type swift struct{}

// swiftDelay is about what a sandbox takes to be made, and to be removed.
const swiftDelay = 7 * time.Millisecond

func (swift) Make(ctx context.Context, name, _ string) (Item, error) {
	select {
	case <-time.After(swiftDelay):
		return swiftItem(name), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type swiftItem string

func (s swiftItem) ID() string                 { return string(s) }
func (swiftItem) Probe(context.Context) error  { return nil }
func (swiftItem) Remove(context.Context) error { time.Sleep(swiftDelay); return nil }

// TestSizeFollowsDemand plays shapes of demand to a pool as the native driver has it
// and holds what the pool does against what docs/performance.md says: how many of
// those who ask find one ready, and how many wait for nothing on average.
func TestSizeFollowsDemand(t *testing.T) {
	bursts := func(times int, every time.Duration, size func() int) func(ask func()) {
		return func(ask func()) {
			for range times {
				for range size() {
					ask()
					time.Sleep(time.Millisecond)
				}
				time.Sleep(every)
			}
		}
	}
	always := func(n int) func() int { return func() int { return n } }
	chance := func() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) } //nolint:gosec // the same each time
	for name, tt := range map[string]struct {
		demand func(ask func())
		hits   float64 // at least, a part of 1
		ready  float64 // at most, on average
	}{
		"two a second": {func(ask func()) {
			for range 1200 {
				ask()
				time.Sleep(time.Second / 2)
			}
		}, 1, 8},
		"ten a second, by chance": {func(ask func()) {
			chance := chance()
			for range 3000 {
				ask()
				time.Sleep(time.Duration(chance.ExpFloat64() * float64(time.Second/10)))
			}
		}, 0.99, 9},
		"ever more, up to 20 a second": {func(ask func()) {
			for second := range 600 {
				for range second/30 + 1 {
					ask()
					time.Sleep(time.Second / time.Duration(second/30+1))
				}
			}
		}, 0.99, 9},
		"30 at once, every minute": {bursts(60, time.Minute, always(30)), 0.90, 25},
		"10 to 50 at once, every minute": {func(ask func()) {
			chance := chance()
			bursts(60, time.Minute, func() int { return 10 + chance.IntN(41) })(ask)
		}, 0.87, 31},
		"30 at once, every 10 minutes":     {bursts(20, 10*time.Minute, always(30)), 0.55, 18},
		"100 at once, and an hour of rest": {bursts(1, time.Hour, always(100)), 0.32, 17},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				p := New(Options{Maker: swift{}, Min: 8, Max: 1000, MaxReady: 128, UseOnce: true})
				time.Sleep(time.Second)
				done, sum, samples := make(chan struct{}), 0, 0
				go func() {
					for {
						select {
						case <-done:
							return
						case <-time.After(time.Second):
							sum += p.total(Ready)
							samples++
						}
					}
				}()
				asked, hits := 0, 0
				tt.demand(func() {
					asked++
					if lease := p.Lease("app", nil); lease != nil {
						hits++
						time.AfterFunc(10*time.Second, lease.Release)
					}
				})
				close(done)
				synctest.Wait()
				part, ready := float64(hits)/float64(asked), float64(sum)/float64(samples)
				t.Logf("%.1f %% found one ready, %.1f were ready on average", 100*part, ready)
				if part < tt.hits || ready > tt.ready {
					t.Errorf("want %.0f %% and %.1f", 100*tt.hits, tt.ready)
				}
				time.Sleep(time.Minute) // leases end
				if err := p.Close(context.WithoutCancel(t.Context())); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
