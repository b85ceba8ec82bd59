package catalog

import (
	"context"
	"sync"
	"time"
)

// maxEntries bounds one cache. When it is reached, expired entries are thrown
// out, and all others too if that does not help: the cache is short-lived
// anyway.
const maxEntries = 10_000

// loadTimeout bounds one question to the source, which callers share.
const loadTimeout = 60 * time.Second

// cache remembers successful answers for ttl; errors are not remembered.
// Callers that ask for one key at a time share one question.
type cache[K comparable, V any] struct {
	ttl  time.Duration
	load func(context.Context, K) (V, error)

	mu        sync.Mutex // guards the rest
	entries   map[K]entry[V]
	loading   map[K]*loading[V]
	forgotten int // how often forget was called
}

type entry[V any] struct {
	value   V
	expires time.Time
}

// loading is a question under way; value and err are set before done is closed.
type loading[V any] struct {
	done  chan struct{}
	since int // forgotten when it was asked
	value V
	err   error
}

func newCache[K comparable, V any](ttl time.Duration, load func(context.Context, K) (V, error)) *cache[K, V] {
	return &cache[K, V]{ttl: ttl, load: load, entries: map[K]entry[V]{}, loading: map[K]*loading[V]{}}
}

// get returns the remembered value, or asks the source. The question goes on
// when this caller leaves, because others may wait for its answer.
func (c *cache[K, V]) get(ctx context.Context, key K) (V, error) {
	c.mu.Lock()
	if e, ok := c.entries[key]; ok && time.Now().Before(e.expires) {
		c.mu.Unlock()
		return e.value, nil
	}
	l := c.loading[key]
	if l == nil {
		l = &loading[V]{done: make(chan struct{}), since: c.forgotten}
		c.loading[key] = l
		// It ends by itself within loadTimeout; nothing is left when it does.
		go c.ask(context.WithoutCancel(ctx), key, l)
	}
	c.mu.Unlock()
	select {
	case <-l.done:
		return l.value, l.err
	case <-ctx.Done():
		var none V
		return none, context.Cause(ctx)
	}
}

func (c *cache[K, V]) ask(ctx context.Context, key K, l *loading[V]) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	l.value, l.err = c.load(ctx, key)
	c.mu.Lock()
	if c.loading[key] == l {
		delete(c.loading, key)
	}
	if l.err == nil && l.since == c.forgotten {
		c.makeRoomLocked()
		c.entries[key] = entry[V]{l.value, time.Now().Add(c.ttl)}
	}
	c.mu.Unlock()
	close(l.done)
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

func (c *cache[K, V]) makeRoomLocked() {
	if len(c.entries) < maxEntries {
		return
	}
	now := time.Now()
	for key, e := range c.entries {
		if !now.Before(e.expires) {
			delete(c.entries, key)
		}
	}
	if len(c.entries) >= maxEntries {
		clear(c.entries)
	}
}
