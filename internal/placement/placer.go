package placement

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// memberMemory is how long it is remembered what a runner was like that the pool
// does not name any more. Pools may name different ones from call to call.
const memberMemory = 10 * time.Minute

// seenEvery is how often it is noted at most that the pool names the same runners.
const seenEvery = time.Minute

// Placer has calls executed by the runners of a pool. It is safe for concurrent
// use.
type Placer struct {
	opts    Options
	tracker Tracker // the policy, if it is one
	line    line
	kept    budget

	latest atomic.Pointer[roster]

	mu      sync.Mutex // guards the rest
	members map[Runner]*Member
	active  int // calls that have not ended
	closed  bool
	idle    chan struct{} // closed when closed and none is active

	stop context.CancelFunc // of the goroutines that Start made
	wg   sync.WaitGroup
}

// roster is what the pool said last.
type roster struct {
	at      time.Time // after seenEvery it is made anew, which notes that they were seen
	runners []Runner
	members []*Member
}

var _ invoke.Invoker = (*Placer)(nil)

// New returns a placer. It owns the pool from now on.
func New(opts Options) *Placer {
	opts.setDefaults()
	p := &Placer{opts: opts, members: map[Runner]*Member{}, idle: make(chan struct{}), kept: budget{max: opts.MaxKeptBodies}}
	p.tracker, _ = opts.Policy.(Tracker)
	return p
}

// Close refuses new calls, waits for those in progress until the context ends,
// and closes the pool.
func (p *Placer) Close(ctx context.Context) error {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		if p.active == 0 {
			close(p.idle)
		}
	}
	active := p.active
	p.mu.Unlock()
	var err error
	select {
	case <-p.idle:
	case <-ctx.Done():
		err = fmt.Errorf("%d calls are not over: %w", active, ctx.Err())
	}
	if p.stop != nil {
		p.stop()
	}
	p.wg.Wait()
	return errors.Join(err, p.opts.Pool.Close(ctx))
}

// enter counts a call, unless the placer is closed.
func (p *Placer) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.active++
	return true
}

func (p *Placer) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.active--; p.active == 0 && p.closed {
		close(p.idle)
	}
}

// membersOf returns what is known of the runners.
func (p *Placer) membersOf(runners []Runner) []*Member {
	now := time.Now()
	if latest := p.latest.Load(); latest != nil && now.Sub(latest.at) < seenEvery && slices.Equal(latest.runners, runners) {
		return latest.members
	}
	next := &roster{now, slices.Clone(runners), make([]*Member, 0, len(runners))}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range runners {
		m := p.members[r]
		if m == nil {
			m = NewMember(r)
			p.members[r] = m
		}
		if !slices.Contains(next.members, m) { // a pool may name one twice
			next.members = append(next.members, m)
		}
		m.lastSeen = now
	}
	for r, m := range p.members {
		if m.InFlight() == 0 && now.Sub(m.lastSeen) > memberMemory {
			delete(p.members, r)
		}
	}
	p.latest.Store(next)
	return next.members
}

// Invoke has a runner execute the call. Its errors are those of the runner that
// took it; [model.ErrServerBusy] if none did in time; or those of the pool.
func (p *Placer) Invoke(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
	x := &placing{placer: p, call: call, began: time.Now(), cancel: func() {}}
	if !p.enter() {
		p.opts.Observer.Over(Refused, 0, 0)
		return nil, fmt.Errorf("%w: %w: the load balancer is stopping", model.ErrServerBusy, invoke.ErrNotPlaced)
	}
	timeout := p.opts.Timeout
	if call.Detached {
		timeout = p.opts.DetachedTimeout
		if headroom := p.opts.DetachedHeadroom; headroom >= 0 {
			execution := time.Duration(call.Fn.Timeout) * time.Second
			ctx, x.cancel = context.WithTimeout(ctx, timeout+execution+headroom)
		}
	}
	x.deadline = x.began.Add(timeout)
	x.body = supplyOf(call, p.opts.MaxKeptBody, &p.kept)
	placed := false
	defer func() {
		if !placed {
			x.body.close()
			x.end()
		}
	}()
	response, err := x.place(ctx)
	placed = err == nil
	return response, err
}

// placing is one call on its way to a runner.
type placing struct {
	placer   *Placer
	call     *invoke.Call
	body     *supply
	began    time.Time
	deadline time.Time // for the beginning of attempts
	cancel   context.CancelFunc
	waiter   *waiter // nil: it has not waited

	attempts   int
	attempted  time.Time     // when the latest attempt began
	poolErr    error         // of the latest sweep
	lastErr    error         // of the latest attempt
	retryAfter time.Duration // the least that a runner said; 0: none
	known      int           // runners in the latest sweep
}

// errNextSweep says that no runner took the call.
var errNextSweep = errors.New("no runner took the call")

// place sweeps until a runner takes the call or it is given up.
func (x *placing) place(ctx context.Context) (*invoke.Response, error) {
	woken := true
	for sweep := 1; ; sweep++ {
		before := x.attempts
		response, err := x.ask(ctx, woken)
		if !errors.Is(err, errNextSweep) {
			if woken && x.waiter != nil && (x.attempts == before || errors.Is(err, invoke.ErrNotPlaced)) {
				x.placer.line.wakeFirst() // it has not used the room for which it was woken
			}
			return response, err
		}
		woken = x.wait(ctx, sweep)
	}
}

// ask asks the pool which runners there are, and sweeps them.
func (x *placing) ask(ctx context.Context, woken bool) (*invoke.Response, error) {
	p := x.placer
	if err := x.left(ctx); err != nil {
		return nil, err
	}
	runners, err := p.opts.Pool.Runners(ctx, x.call)
	p.opts.Observer.PoolAsked(len(runners), err)
	x.poolErr, x.known = err, len(runners)
	if len(runners) == 0 && isFinal(err) {
		return nil, x.over(PoolFailed, err)
	}
	return x.sweep(ctx, p.membersOf(runners), woken)
}

// isFinal reports whether a pool's error means that there will be no runners for
// this call. Source: Fn's runtime contract, 6.5.
func isFinal(err error) bool {
	d := model.Describe(err)
	return err != nil && d.User && d.Status == http.StatusBadGateway
}

// sweep tries the runners in the order of the policy: one of which it is to be
// found out whether it still fails, those that are ready, then those that had no
// room just now, and those that fail only if there are no others. A call that was
// not woken leaves those without room alone: there may be many such calls.
func (x *placing) sweep(ctx context.Context, members []*Member, woken bool) (*invoke.Response, error) {
	var groups [failing + 1][]*Member
	now := time.Now()
	for _, m := range members {
		s := m.standing(now, len(groups[due]) == 0)
		groups[s] = append(groups[s], m)
	}
	order := groups[:failing]
	switch {
	case len(groups[failing]) == len(members):
		order = groups[failing:]
	case !woken:
		order = groups[:busy]
	}
	for _, group := range order {
		if len(group) == 0 {
			continue
		}
		for m := range x.placer.opts.Policy.Order(x.call, group) {
			if err := x.left(ctx); err != nil {
				return nil, err
			}
			if !time.Now().Before(x.deadline) {
				return nil, x.giveUp()
			}
			response, err := x.attempt(ctx, m)
			if err == nil || !errors.Is(err, invoke.ErrNotPlaced) {
				return response, err
			}
			if ok, limit := x.body.again(); !ok {
				return nil, x.over(TimedOut, fmt.Errorf("%w: %w, and no other runner can be tried as more of the request's body was sent than %s lets be kept: %s",
					model.ErrServerBusy, invoke.ErrNotPlaced, limit, err.Error()))
			}
		}
	}
	if !time.Now().Before(x.deadline) {
		return nil, x.giveUp()
	}
	return nil, errNextSweep
}

// wait waits for the next sweep. It reports whether the call was woken, so that
// there may be room where there was none.
func (x *placing) wait(ctx context.Context, sweep int) (woken bool) {
	line := &x.placer.line
	if x.waiter == nil {
		x.waiter = line.arrive()
	}
	pause := jittered(doubled(x.placer.opts.RetryDelay, sweep, x.placer.opts.MaxRetryDelay))
	timer := time.NewTimer(min(pause, time.Until(x.deadline)))
	defer timer.Stop()
	line.wait(x.waiter)
	select {
	case <-x.waiter.wake:
		return true
	case <-timer.C:
		return line.leave(x.waiter)
	case <-ctx.Done():
		if line.leave(x.waiter) {
			line.wakeFirst()
		}
		return false
	}
}

// left returns why the caller does not wait any more, nil if it does.
func (x *placing) left(ctx context.Context) error {
	switch err := ctx.Err(); {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return x.over(CallerTimedOut, x.busy(err))
	default:
		return x.over(CallerLeft, fmt.Errorf("%w: %w", context.Cause(ctx), invoke.ErrNotPlaced))
	}
}

// giveUp ends a call that no runner took in time.
func (x *placing) giveUp() error {
	if x.poolErr != nil {
		return x.over(TimedOut, fmt.Errorf("%w: %w", x.poolErr, invoke.ErrNotPlaced))
	}
	return x.over(TimedOut, x.busy(x.lastErr))
}

// busy is the error of a call that no runner took, with when to come back.
func (x *placing) busy(cause error) error {
	what := fmt.Sprintf("%d attempts at %d runners in %v", x.attempts, x.known, time.Since(x.began).Round(time.Millisecond))
	if x.known == 0 {
		what = "no runner is known, see FN_RUNNER_ADDRESSES and FN_RUNNER_FILE"
	}
	if cause != nil { // only its text, as it must not count as the error's kind
		what += ": " + cause.Error()
	}
	return model.WithRetryAfter(fmt.Errorf("%w: %w: %s", model.ErrServerBusy, invoke.ErrNotPlaced, what), x.retryAfter)
}

// over reports what became of the call and returns err.
func (x *placing) over(outcome Outcome, err error) error {
	now := time.Now()
	if outcome.placed() {
		now = x.attempted
	}
	x.placer.opts.Observer.Over(outcome, x.attempts, now.Sub(x.began))
	return err
}

// end is the end of a call, answer included.
func (x *placing) end() {
	x.cancel()
	x.placer.leave()
}
