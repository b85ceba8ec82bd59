// Package imageclean has drivers keep their images below a maximum: when they look
// for what may go, what they found last, and what an operator is told of it.
package imageclean

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/tinefn/tine/driver"
)

// Interval is the time between two rounds when no image was stored.
const Interval = time.Minute

// Rounds are a driver's, which it makes until it is closed. Its methods are safe for
// concurrent use, except that one goroutine runs them.
type Rounds struct {
	log    *slog.Logger
	max    int64  // bytes; 0: no limit
	advice string // what else can be done if nothing may go

	woken chan struct{} // has room for one
	full  bool          // that nothing is left to remove was said; of the goroutine of Run

	mu    sync.Mutex // guards stats
	stats driver.ImageStats
}

// New returns rounds for images that may take so many bytes, 0 for any number. The advice is what an
// operator can do, beside allowing more, when images that must stay take more.
func New(log *slog.Logger, maxBytes int64, advice string) *Rounds {
	return &Rounds{log: log, max: maxBytes, advice: advice, woken: make(chan struct{}, 1), stats: driver.ImageStats{MaxBytes: maxBytes}}
}

// Wake begins the next round at once. It is for whoever has stored an image.
func (r *Rounds) Wake() {
	select {
	case r.woken <- struct{}{}:
	default: // there will be one anyway
	}
}

// Run cleans, now and then, until ctx ends.
func (r *Rounds) Run(ctx context.Context, clean func(context.Context) error) {
	ticker := time.NewTicker(Interval)
	defer ticker.Stop()
	for {
		if err := clean(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("cannot clean up images, trying again later", slog.Any("error", err))
		}
		select {
		case <-r.woken:
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Found takes note of what there is.
func (r *Rounds) Found(stats driver.ImageStats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats = stats
}

// Stats is what was found last.
func (r *Rounds) Stats() driver.ImageStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Left is told at the end of a round how many bytes stay. It says once that they are
// too many. It is for the function that Run calls.
func (r *Rounds) Left(bytes int64) {
	full := r.max > 0 && bytes > r.max
	if full && !r.full {
		r.log.Warn("images take more than FN_IMAGE_CLEAN_MAX_SIZE, and none can be removed: set it higher, or "+r.advice,
			slog.Int64("bytes", bytes), slog.Int64("max_bytes", r.max))
	}
	r.full = full
}
