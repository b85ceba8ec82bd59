package catalog

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Stale says what becomes of definitions that are known while their source gives
// no answer, because it cannot be reached or fails. A source that says that a
// definition is gone has answered.
type Stale struct {
	For      time.Duration // they are used on for so long, counted from when they would have been asked for again
	Patience time.Duration // a caller waits for an answer for so long before it uses them
	Entries  int           // of each kind that are remembered; 0 means DefaultEntries

	Source string // what does not answer, for the log
	Logger *slog.Logger
}

// Stats is what a catalog counts about its source.
type Stats struct {
	Failures  uint64 // questions without an answer
	StaleUses uint64 // look-ups that such a failure was kept from
	Reachable bool   // the last question was answered, or none was asked yet
}

// Stats returns the counts up to now.
func (c *Catalog) Stats() Stats {
	h := c.health
	return Stats{Failures: h.failures.Load(), StaleUses: h.stale.Load(), Reachable: !h.isDown()}
}

// health knows whether a source answers, and tells the log when that changes.
type health struct {
	source string
	log    *slog.Logger
	useFor time.Duration

	down            atomic.Bool // written with mu held
	failures, stale atomic.Uint64

	mu    sync.Mutex // guards since, and the order of the log
	since time.Time
}

func (h *health) isDown() bool { return h.down.Load() }

// used counts a look-up that was answered by what is known.
func (h *health) used() { h.stale.Add(1) }

func (h *health) answered() {
	if !h.isDown() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down.Swap(false) {
		h.log.Info("definitions can be asked for again", slog.String("source", h.source),
			slog.Duration("after", time.Since(h.since)), slog.Uint64("stale_uses", h.stale.Load()))
	}
}

// failed counts a question without an answer.
func (h *health) failed(err error) {
	h.failures.Add(1)
	h.fell(err)
}

// fell notes that the source does not answer.
func (h *health) fell(err error) {
	if h.isDown() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.down.Swap(true) {
		h.since = time.Now()
		h.log.Warn("definitions cannot be asked for; those that are known are used on", slog.String("source", h.source),
			slog.Duration("for", h.useFor), slog.Any("error", err))
	}
}
