package placement

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/invoke"
)

// limited has room for some calls.
func limited(room int, d time.Duration) *fake {
	var used atomic.Int64
	return &fake{address: "a:1", invoke: func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
		if used.Add(1) > int64(room) {
			used.Add(-1)
			return nil, errNoRoom
		}
		response, err := takes(d)(ctx, call)
		used.Add(-1)
		return response, err
	}}
}

// Who waits gets freed room at once and in order of arrival, and a runner without
// room is not asked over and over.
func TestWaitingCallsAreServedInOrder(t *testing.T) {
	eachPolicy(t, func(t *testing.T, policy Policy) {
		synctest.Test(t, func(t *testing.T) {
			a := limited(1, 100*time.Millisecond)
			p := New(Options{Pool: poolOf(a), Policy: policy})
			var mu sync.Mutex
			var order []int
			var calls sync.WaitGroup
			began := time.Now()
			const n = 50
			for i := range n {
				calls.Go(func() {
					response, err := p.Invoke(t.Context(), callOf("f"))
					if err != nil {
						t.Error(err)
						return
					}
					response.Body.Close()
					mu.Lock()
					order = append(order, i)
					mu.Unlock()
				})
				time.Sleep(time.Millisecond)
			}
			calls.Wait()
			if took := time.Since(began); took > n*100*time.Millisecond+20*time.Millisecond {
				t.Errorf("took %v: room was not used at once", took)
			}
			for i, got := range order {
				if got != i {
					t.Fatalf("served in the order %v", order)
				}
			}
			if tries := a.calls.Load(); tries > 8*n {
				t.Errorf("%d tries for %d calls", tries, n)
			}
		})
	})
}

// Calls that keep coming do not starve one that waits.
func TestNobodyStarves(t *testing.T) {
	eachPolicy(t, func(t *testing.T, policy Policy) {
		synctest.Test(t, func(t *testing.T) {
			p := New(Options{Pool: poolOf(limited(4, 100*time.Millisecond)), Policy: policy, Timeout: 30 * time.Second})
			ctx, cancel := context.WithCancel(t.Context())
			var calls sync.WaitGroup
			calls.Go(func() { // half as many again as there is room for
				for ctx.Err() == nil {
					calls.Go(func() {
						response, err := p.Invoke(ctx, callOf("f"))
						if err == nil {
							response.Body.Close()
						}
					})
					time.Sleep(17 * time.Millisecond)
				}
			})
			time.Sleep(2 * time.Second)
			began := time.Now()
			response, err := p.Invoke(t.Context(), callOf("g"))
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it waited for %v", took)
			}
			cancel()
			calls.Wait()
		})
	})
}

// hooked is a pool that does something when it is asked.
type hooked struct {
	*fixed
	hook atomic.Pointer[func()]
}

func (h *hooked) Runners(ctx context.Context, call *invoke.Call) ([]Runner, error) {
	if hook := h.hook.Swap(nil); hook != nil {
		(*hook)()
	}
	return h.fixed.Runners(ctx, call)
}

// A call that was woken and then does not use the room leaves it to the next in line.
func TestWokenCallThatLeavesWakesTheNext(t *testing.T) {
	const patience = 3 * time.Hour
	for name, leave := range map[string]func(cancel func()){
		"its caller left":  func(cancel func()) { cancel() },
		"its time is over": func(func()) { time.Sleep(patience - time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pool := &hooked{fixed: poolOf()}
				p := New(Options{Pool: pool, Policy: NewNaive(), RetryDelay: 9 * time.Hour, MaxRetryDelay: 9 * time.Hour, Timeout: patience})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go p.Invoke(ctx, callOf("f"))
				time.Sleep(time.Minute)
				served := make(chan time.Time, 1)
				go func() {
					response, err := p.Invoke(t.Context(), callOf("f"))
					finish(t, response, err)
					served <- time.Now()
				}()
				synctest.Wait()
				var left time.Time
				pool.hook.Store(new(func() { // the first in line has been woken by now
					leave(cancel)
					pool.set(&fake{address: "a:1", invoke: answerWith("a")})
					left = time.Now()
				}))
				p.line.wakeFirst() // as at the end of a call
				if at := <-served; at != left {
					t.Errorf("the next was served %v after the first had left", at.Sub(left))
				}
			})
		})
	}
}
