package system

import (
	"syscall"
	"testing"
	"time"
)

// restartRunners restarts each under load, and loses no call.
func restartRunners(t *testing.T, c *cluster) {
	id := c.fn(nil)
	l := c.underLoad(id, 6, "20")
	l.await(t, 100)
	for _, r := range c.runners {
		r.stop()
		l.await(t, 50) // without it
		r.start()
		c.awaitCalls(r)
	}
	l.await(t, 100)
	t.Logf("%d calls were answered", l.answered.Load())
	l.wantNoFailure(t)
}

// drainRunner tells one to end, which finishes what it executes, and gets nothing new.
func drainRunner(t *testing.T, c *cluster) {
	id := c.fn(nil)
	held, _ := c.hold(id, "3000")
	draining := c.runners[0]
	draining.signal(syscall.SIGTERM)
	draining.awaitLog("Halting...")
	l := c.underLoad(c.fn(nil), 2, "20")
	l.await(t, 20)
	if !draining.process.running() {
		t.Error("it ended before its calls did")
	}
	if _, lost := await(held); len(lost) > 0 {
		t.Errorf("calls in progress: %v", lost)
	}
	draining.awaitStopped()
	l.await(t, 20)
	l.wantNoFailure(t)
}

// slowRunner makes one of three stop and go all the time: most calls go to the others.
func slowRunner(t *testing.T, c *cluster) {
	id := c.fn(nil)
	warm := c.underLoad(id, 12, "100") // all runners know it then
	warm.await(t, 200)
	warm.wantNoFailure(t)
	before := c.calls()
	l := c.underLoad(id, 9, "20")
	for range 8 {
		c.runners[1].freeze()
		time.Sleep(400 * time.Millisecond)
		c.runners[1].thaw()
		time.Sleep(50 * time.Millisecond)
	}
	l.wantNoFailure(t)
	had := c.calls()
	for i := range had {
		had[i] -= before[i]
	}
	t.Logf("calls of each runner, of which the second is slow: %v", had)
	if had[1]*2 > had[0] || had[1]*2 > had[2] {
		t.Errorf("the slow one had %d calls, the others %d and %d", had[1], had[0], had[2])
	}
}
