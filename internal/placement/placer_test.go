package placement

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// What a pool without runners does to a call: its error, how it ends, and when.
func TestEmptyPool(t *testing.T) {
	userFault := &model.Error{Kind: model.ErrFunctionFailed, Message: "no runner for this function"}
	userFault500 := &model.Error{Kind: model.ErrFunctionFailed, Message: "odd", Status: 500}
	service := &model.Error{Kind: model.ErrServerBusy, Message: "discovery is down"}
	for _, tt := range []struct {
		name    string
		err     error
		want    error
		asked   int // 0: again and again, until the placer's time is up
		outcome Outcome
	}{
		{"none", nil, model.ErrServerBusy, 0, TimedOut},
		{"the user's fault", userFault, userFault, 1, PoolFailed},
		{"the user's fault, with another status", userFault500, userFault500, 0, TimedOut},
		{"the service's", service, service, 0, TimedOut},
		{"unknown", errLost, errLost, 0, TimedOut},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachPolicy(t, func(t *testing.T, policy Policy) {
				synctest.Test(t, func(t *testing.T) {
					pool, seen := &fixed{err: tt.err}, &outcomes{}
					p := New(Options{Pool: pool, Policy: policy, Observer: seen})
					began := time.Now()
					_, err := p.Invoke(t.Context(), callOf("f"))
					if !errors.Is(err, tt.want) {
						t.Errorf("got %v, want %v", err, tt.want)
					}
					took := time.Since(began)
					if tt.asked == 1 && (pool.asked != 1 || took != 0) {
						t.Errorf("asked %d times for %v", pool.asked, took)
					}
					if tt.asked == 0 && (pool.asked < 1000 || took != DefaultTimeout) {
						t.Errorf("asked %d times for %v", pool.asked, took)
					}
					seen.are(t, tt.outcome)
					if seen.asked != pool.asked {
						t.Errorf("the observer saw %d of %d", seen.asked, pool.asked)
					}
				})
			})
		})
	}
}

// What an attempt's error means: whether another runner is tried, and what the
// caller gets.
func TestErrorsOfAttempts(t *testing.T) {
	placed := func(kind model.Kind) error { return fmt.Errorf("runner a: %w", kind) }
	for _, tt := range []struct {
		name  string
		err   error
		again bool
	}{
		{"unreachable", errUnreachable, true},
		{"no room", errNoRoom, true},
		{"no room, in other words", fmt.Errorf("%w: %w", invoke.ErrNotPlaced, &model.Error{Kind: model.ErrFunctionFailed, Message: "full", Status: 503}), true},
		{"no room, proven otherwise", fmt.Errorf("%w: %w", invoke.ErrNotPlaced, model.ErrServerBusy), true},
		{"busy without proof", placed(model.ErrServerBusy), false},
		{"lost", errLost, false},
		{"timeout", placed(model.ErrCallTimeout), false},
		{"function failed", placed(model.ErrFunctionFailed), false},
		{"function's response", placed(model.ErrFunctionResponse), false},
		{"init timeout", placed(model.ErrContainerInitTimeout), false},
		{"too big", placed(model.ErrTooBigForNode), false},
		{"pull failed", &model.Error{Kind: model.ErrImagePullFailed, Message: "denied", Status: 404}, false},
		{"a deadline of the runner's own", context.DeadlineExceeded, false},
		{"canceled by the runner", context.Canceled, false},
		{"broken pipe", io.ErrClosedPipe, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachPolicy(t, func(t *testing.T, policy Policy) {
				synctest.Test(t, func(t *testing.T) {
					seen := &outcomes{}
					var tries atomic.Int64
					// Whichever is tried first fails, and the other would answer.
					either := func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
						if tries.Add(1) == 1 {
							return nil, tt.err
						}
						return answerWith("hello")(ctx, call)
					}
					p := New(Options{Pool: poolOf(&fake{address: "a:1", invoke: either}, &fake{address: "b:1", invoke: either}), Policy: policy, Observer: seen})
					response, err := p.Invoke(t.Context(), callOf("f"))
					if tt.again {
						if got := finish(t, response, err); got != "hello" || tries.Load() != 2 {
							t.Errorf("got %q after %d tries", got, tries.Load())
						}
						seen.are(t, PlacedOK)
						return
					}
					if !errors.Is(err, tt.err) || tries.Load() != 1 {
						t.Errorf("got %v after %d tries", err, tries.Load())
					}
					seen.are(t, PlacedError)
				})
			})
		})
	}
}

func TestPlacerTimeouts(t *testing.T) {
	for _, tt := range []struct {
		name     string
		detached bool
		options  Options
		want     time.Duration
	}{
		{"sync", false, Options{}, 360 * time.Second},
		{"detached", true, Options{}, 30 * time.Second},
		{"sync, set", false, Options{Timeout: 2 * time.Second, DetachedTimeout: time.Second}, 2 * time.Second},
		{"detached, set", true, Options{Timeout: 2 * time.Second, DetachedTimeout: time.Second}, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachPolicy(t, func(t *testing.T, policy Policy) {
				synctest.Test(t, func(t *testing.T) {
					seen := &outcomes{}
					a := &fake{address: "a:1", invoke: failWith(model.WithRetryAfter(errNoRoom, 7*time.Second))}
					b := &fake{address: "b:1", invoke: failWith(model.WithRetryAfter(errNoRoom, 4*time.Second))}
					tt.options.Pool, tt.options.Policy, tt.options.Observer = poolOf(a, b), policy, seen
					call := callOf("f")
					if tt.detached {
						call.Detached, call.OnStart = true, func() { t.Error("started") }
					}
					began := time.Now()
					_, err := New(tt.options).Invoke(t.Context(), call)
					if !errors.Is(err, model.ErrServerBusy) || !errors.Is(err, invoke.ErrNotPlaced) || model.Describe(err).Status != 503 {
						t.Errorf("got %v", err)
					}
					if model.RetryAfter(err) != 4*time.Second {
						t.Errorf("got Retry-After %v", model.RetryAfter(err))
					}
					if took := time.Since(began); took != tt.want {
						t.Errorf("took %v", took)
					}
					seen.are(t, TimedOut)
					tried := a.calls.Load() + b.calls.Load()
					if seen.busy != int(tried) || seen.attempts[0] != int(tried) {
						t.Errorf("%d tries, seen %d and %d", tried, seen.busy, seen.attempts[0])
					}
				})
			})
		})
	}
}

// A call that was placed goes on when the time for placing it is over.
func TestPlacedCallOutlivesThePlacersTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := &outcomes{}
		p := New(Options{Pool: poolOf(&fake{address: "a:1", invoke: takes(time.Minute)}), Timeout: time.Second, Observer: seen})
		response, err := p.Invoke(t.Context(), callOf("f"))
		finish(t, response, err)
		seen.are(t, PlacedOK)
		if seen.waited[0] != 0 {
			t.Errorf("the committed attempt counts: %v", seen.waited)
		}
	})
}

// Nobody waits for a detached call, so the placer ends one that takes for ever.
func TestDetachedCallsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		call := callOf("f")
		call.Detached, call.OnStart = true, func() {}
		began := time.Now()
		_, err := New(Options{Pool: poolOf(&fake{address: "a:1", invoke: takes(time.Hour)})}).Invoke(t.Context(), call)
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != 30*time.Second+30*time.Second+360*time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

func TestCallersWhoLeave(t *testing.T) {
	for _, tt := range []struct {
		name    string
		runner  invoke.InvokerFunc
		context func(context.Context) (context.Context, context.CancelFunc)
		kind    model.Kind
		outcome Outcome
		took    time.Duration
	}{
		{"left before", failWith(errNoRoom), func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		}, model.ErrClientCanceled, CallerLeft, 0},
		{"left while waiting", failWith(errNoRoom), func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Minute, cancel)
			return ctx, cancel
		}, model.ErrClientCanceled, CallerLeft, time.Minute},
		{"left while it ran", takes(time.Hour), func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Minute, cancel)
			return ctx, cancel
		}, model.ErrClientCanceled, PlacedAbort, time.Minute},
		{"deadline before", failWith(errNoRoom), func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 0)
		}, model.ErrServerBusy, CallerTimedOut, 0},
		{"deadline while waiting", failWith(errNoRoom), func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Minute)
		}, model.ErrServerBusy, CallerTimedOut, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachPolicy(t, func(t *testing.T, policy Policy) {
				synctest.Test(t, func(t *testing.T) {
					seen := &outcomes{}
					ctx, cancel := tt.context(t.Context())
					defer cancel()
					a := &fake{address: "a:1", invoke: tt.runner}
					p := New(Options{Pool: poolOf(a), Policy: policy, Observer: seen})
					began := time.Now()
					_, err := p.Invoke(ctx, callOf("f"))
					if took := time.Since(began); model.Describe(err).Kind != tt.kind || took != tt.took {
						t.Errorf("%v after %v", err, took)
					}
					if tt.took == 0 && a.calls.Load() != 0 {
						t.Error("it was tried")
					}
					seen.are(t, tt.outcome)
					if err := p.Close(t.Context()); err != nil {
						t.Error(err)
					}
				})
			})
		})
	}
}

// The naive policy tries runners that are all busy evenly.
func TestNaiveTriesEvenly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fakes []*fake
		for _, address := range []string{"a:1", "b:1", "c:1"} {
			fakes = append(fakes, &fake{address: address, invoke: failWith(errNoRoom)})
		}
		p := New(Options{Pool: poolOf(fakes...), Policy: NewNaive(), Timeout: 10 * time.Second})
		var calls sync.WaitGroup
		for range 100 {
			calls.Go(func() { p.Invoke(t.Context(), callOf("f")) })
		}
		calls.Wait()
		a, b, c := fakes[0].calls.Load(), fakes[1].calls.Load(), fakes[2].calls.Load()
		if total := a + b + c; min(a, b, c) < total/4 {
			t.Errorf("tried %d, %d and %d times", a, b, c)
		}
	})
}

func TestCloseWaitsForAnswersToBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &fake{address: "a:1", invoke: answerWith("hello"), closed: make(chan struct{})}
		closed := a.closed
		p := New(Options{Pool: poolOf(a)})
		response, err := p.Invoke(t.Context(), callOf("f"))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- p.Close(t.Context()) }()
		synctest.Wait()
		if _, err := p.Invoke(t.Context(), callOf("f")); !errors.Is(err, model.ErrServerBusy) || !errors.Is(err, invoke.ErrNotPlaced) {
			t.Errorf("got %v", err)
		}
		select {
		case <-closed:
			t.Error("the runner was closed before the answer was read")
		case err := <-done:
			t.Errorf("closed before the answer was read: %v", err)
		default:
		}
		if got := finish(t, response, nil); got != "hello" {
			t.Error(got)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		<-closed
	})
}

func TestCloseGivesUpAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{Pool: poolOf(&fake{address: "a:1", invoke: answerWith("hello")})})
		p.Start()
		response, err := p.Invoke(t.Context(), callOf("f"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		response.Body.Close()
	})
}

// A panic of a runner's client leaves nothing counted.
func TestPanicOfARunner(t *testing.T) {
	a := &fake{address: "a:1", invoke: func(context.Context, *invoke.Call) (*invoke.Response, error) { panic("odd") }}
	p := New(Options{Pool: poolOf(a)})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		p.Invoke(t.Context(), callOf("f"))
	}()
	if levels := p.Levels(); levels[0].InFlight != 0 {
		t.Errorf("got %+v", levels)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
