package system

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load calls a function from some clients, each of which waits for its answer, until it
// is ended.
type load struct {
	stop     chan struct{}
	clients  sync.WaitGroup
	answered atomic.Int64

	mu     sync.Mutex
	failed []string // what was not answered as it should
}

// underLoad starts clients that check each answer they get. Each call takes so many
// milliseconds in the function.
func (c *cluster) underLoad(fnID string, clients int, milliseconds string) *load {
	l := &load{stop: make(chan struct{})}
	for client := range clients {
		l.clients.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-l.stop:
					return
				default:
				}
				body := fmt.Sprintf("%d of client %d", i, client)
				got, err := c.web.do(c.web.request(c.t, "POST", c.lb.url("/invoke/"+fnID), body, mode("reply", "Delay-Ms", milliseconds)))
				if err == nil && got.status == 200 && got.body == body {
					l.answered.Add(1)
					continue
				}
				l.fail(fmt.Sprintf("%s: sent %q, got %v", time.Now().Format(time.StampMilli), body, outcome{got, err}))
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	c.t.Cleanup(func() { l.end() }) // before the nodes are
	return l
}

func (l *load) fail(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, text)
}

// await waits until so many more calls were answered.
func (l *load) await(t *testing.T, calls int64) {
	t.Helper()
	before := l.answered.Load()
	eventually(t, 60*time.Second, func() bool { return l.answered.Load() >= before+calls }, func() string {
		return fmt.Sprintf("%d calls were answered of %d; failed:\n%s", l.answered.Load()-before, calls, strings.Join(l.failures(), "\n"))
	})
}

func (l *load) failures() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.failed...)
}

// end ends the load and returns what failed.
func (l *load) end() []string {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.clients.Wait()
	return l.failures()
}

// wantNoFailure ends the load, of which every call has to be answered.
func (l *load) wantNoFailure(t *testing.T) {
	t.Helper()
	failed := l.end()
	if len(failed) > 0 {
		t.Errorf("%d calls failed, and %d were answered:\n%s", len(failed), l.answered.Load(), strings.Join(failed[:min(len(failed), 20)], "\n"))
	}
	if l.answered.Load() == 0 {
		t.Error("no call was answered")
	}
}
