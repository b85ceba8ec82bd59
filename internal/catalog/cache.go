package catalog

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/tinefn/tine/model"
)

// DefaultEntries bounds each kind of what is remembered. When that many are
// there, those that nobody may use any more are thrown out, and some others too if
// that does not help.
const DefaultEntries = 10_000

// loadTimeout bounds one question to the source, which callers share.
const loadTimeout = 60 * time.Second

// cache remembers successful answers for ttl; errors are not remembered.
// Callers that ask for one key at a time share one question. While the source
// gives no answer, what is known is used on as far as policy lets it.
type cache[K comparable, V any] struct {
	policy
	load func(context.Context, K) (V, error)

	mu        sync.Mutex // guards the rest
	entries   map[K]entry[V]
	loading   map[K]*loading[V]
	forgotten int // how often forget was called
}

// policy is what the caches of a catalog have in common.
type policy struct {
	ttl      time.Duration
	stale    time.Duration // after that, while the source gives no answer
	patience time.Duration // of callers for whom there is something stale
	entries  int
	health   *health
}

type entry[V any] struct {
	value   V
	expires time.Time // the source is asked again
	until   time.Time // it is not used any longer, whatever the source does
	stale   bool      // the source did not answer when it was asked again
}

// loading is a question under way; value and err are set before done is closed.
type loading[V any] struct {
	done  chan struct{}
	asked time.Time
	since int // forgotten when it was asked
	value V
	err   error

	mu     sync.Mutex // guards the rest, and that the source's health hears of it in order
	failed bool       // it is counted as one without an answer
	ended  bool
}

func newCache[K comparable, V any](p policy, load func(context.Context, K) (V, error)) *cache[K, V] {
	return &cache[K, V]{policy: p, load: load, entries: map[K]entry[V]{}, loading: map[K]*loading[V]{}}
}

// get returns the remembered value, or asks the source. The question goes on
// when this caller leaves, because others may wait for its answer.
func (c *cache[K, V]) get(ctx context.Context, key K) (V, error) {
	now := time.Now()
	c.mu.Lock()
	known, ok := c.entries[key]
	if ok && now.Before(known.expires) {
		c.mu.Unlock()
		if known.stale {
			c.health.used()
		}
		return known.value, nil
	}
	l := c.loading[key]
	if l == nil {
		l = &loading[V]{done: make(chan struct{}), asked: now, since: c.forgotten}
		c.loading[key] = l
		// It ends by itself within loadTimeout; nothing is left when it does.
		go c.ask(context.WithoutCancel(ctx), key, l)
	}
	c.mu.Unlock()
	if ok && now.Before(known.until) {
		return c.preferNew(ctx, known.value, l)
	}
	select {
	case <-l.done:
		return l.value, l.err
	case <-ctx.Done():
		var none V
		return none, context.Cause(ctx)
	}
}

// errSlow is what a source that takes longer than its callers' patience has failed
// with, until it answers.
var errSlow = errors.New("there is no answer yet")

// preferNew waits a little for a question's answer and returns what is known if
// there is none by then. Of a source that is known not to answer it expects none.
func (c *cache[K, V]) preferNew(ctx context.Context, known V, l *loading[V]) (V, error) {
	patience := c.patience - time.Since(l.asked)
	if c.health.isDown() {
		patience = 0
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-l.done:
	case <-timer.C:
		l.late(c.health)
	case <-ctx.Done():
		return known, context.Cause(ctx)
	}
	if l.isDone() && l.isAnswered() { // also if both happened at the same time
		return l.value, l.err
	}
	c.health.used()
	return known, nil
}

func (l *loading[V]) isDone() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// isAnswered reports whether a question that has ended got an answer.
func (l *loading[V]) isAnswered() bool { return l.err == nil || isGone(l.err) }

// late counts a question as failed that takes longer than its callers wait, unless its
// answer comes just then.
func (l *loading[V]) late(h *health) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended && !l.failed && !h.isDown() {
		l.failed = true
		h.failed(errSlow)
	}
}

// end tells the source's health what came of a question.
func (l *loading[V]) end(h *health) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	switch {
	case l.isAnswered():
		h.answered()
	case l.failed:
		h.fell(l.err) // it was counted when it was late
	default:
		h.failed(l.err)
	}
}

func (c *cache[K, V]) ask(ctx context.Context, key K, l *loading[V]) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	l.value, l.err = c.tryLoad(ctx, key)
	l.end(c.health)
	c.mu.Lock()
	if c.loading[key] == l {
		delete(c.loading, key)
	}
	if l.since == c.forgotten {
		c.learnLocked(key, l)
	}
	c.mu.Unlock()
	close(l.done)
}

// tryLoad asks the source, which may be a program's own. Nobody else recovers from its
// panic here. The stack is in the error's text, which only the log gets.
func (c *cache[K, V]) tryLoad(ctx context.Context, key K) (value V, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	return c.load(ctx, key)
}

// learnLocked keeps what an answer tells: the value, that there is none any more,
// or that the source is to be left alone for a while.
func (c *cache[K, V]) learnLocked(key K, l *loading[V]) {
	now := time.Now()
	switch {
	case l.err == nil:
		c.makeRoomLocked(now)
		c.entries[key] = entry[V]{value: l.value, expires: now.Add(c.ttl), until: now.Add(c.ttl + c.stale)}
	case isGone(l.err):
		delete(c.entries, key)
	default:
		if known, ok := c.entries[key]; ok && now.Before(known.until) {
			known.expires, known.stale = earlier(now.Add(c.ttl), known.until), true
			c.entries[key] = known
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// isGone reports whether the source says that there is no such definition.
func isGone(err error) bool {
	return errors.Is(err, model.ErrAppNotFound) || errors.Is(err, model.ErrFnNotFound) || errors.Is(err, model.ErrTriggerNotFound)
}

// forget drops all answers, also those that are under way: who asks from now on
// gets one that is newer.
func (c *cache[K, V]) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgotten++
	clear(c.entries)
	clear(c.loading)
}

func (c *cache[K, V]) makeRoomLocked(now time.Time) {
	if len(c.entries) < c.policy.entries {
		return
	}
	for key, e := range c.entries {
		if !now.Before(e.until) {
			delete(c.entries, key)
		}
	}
	surplus := len(c.entries) - c.policy.entries*9/10
	if surplus < c.policy.entries/10 {
		return
	}
	for key := range c.entries { // in no order, as good as any
		if surplus--; surplus < 0 {
			return
		}
		delete(c.entries, key)
	}
}
