package prefork

import (
	"context"
	"sync"
	"time"
)

// Lull finds moments at which nobody waits for a container, for work that would only
// take the processors from one that is awaited. It is safe for concurrent use.
type Lull struct {
	rest     time.Duration
	patience time.Duration

	mu      sync.Mutex // guards the rest
	awaited int        // containers that somebody waits for
	changed chan struct{}
	quiet   time.Time // when the last of them was there
}

// NewLull returns one that begins when nobody has waited for a container for as long
// as rest: the function in it has to begin, and the next one may follow. Nobody waits
// for a lull longer than patience, so that a busy time without end does not keep the
// pool empty.
func NewLull(rest, patience time.Duration) *Lull {
	return &Lull{rest: rest, patience: patience, changed: make(chan struct{})}
}

// Await says that somebody waits for a container. The caller calls done when it was
// started, or will not be.
func (l *Lull) Await() (done func()) {
	l.mu.Lock()
	l.awaited++
	l.mu.Unlock()
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.awaited--; l.awaited == 0 {
			l.quiet = time.Now()
			close(l.changed)
			l.changed = make(chan struct{})
		}
	})
}

// Wait waits for a lull, until patience ends, or ctx.
func (l *Lull) Wait(ctx context.Context) {
	limit := time.Now().Add(l.patience)
	for ctx.Err() == nil {
		l.mu.Lock()
		wait, changed := time.Until(l.quiet.Add(l.rest)), l.changed
		if l.awaited > 0 {
			wait = l.patience
		}
		l.mu.Unlock()
		if wait = min(wait, time.Until(limit)); wait <= 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}
