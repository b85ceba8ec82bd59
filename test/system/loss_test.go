package system

import (
	"syscall"
	"testing"
	"time"
)

// lostDeadline is within how long a call must end whose runner does not answer any more:
// keep-alives and health checks find that out.
const lostDeadline = 30 * time.Second

// soon has nodes find that out sooner than by default: gRPC does not ask more often.
var soon = map[string]string{"FN_GRPC_KEEPALIVE_IDLE": "10s", "FN_GRPC_KEEPALIVE_TIMEOUT": "3s"}

// holdTime is how long calls take in functions while something happens to their runner:
// longer than it takes to find that out.
const holdTime = "4000"

// frozenTime is the same where nobody is told that the runner is gone.
const frozenTime = "12000"

// TestNodesThatFail does to nodes, one after the other, what happens to machines.
func TestNodesThatFail(t *testing.T) {
	t.Parallel()
	c := startCluster(t, plan{runners: 3, settings: soon})
	for _, part := range []struct {
		name string
		run  func(t *testing.T, c *cluster)
	}{
		{"a runner that is killed in the middle of calls", killRunner},
		{"a runner that freezes", freezeRunner},
		{"a runner that is told to end twice", hurryRunner},
		{"a runner that drains", drainRunner},
		{"runners that are restarted one after the other", restartRunners},
		{"a runner that is slow", slowRunner},
		{"a load balancer that is restarted", restartBalancer},
		{"a load balancer that is killed", killBalancer},
		{"an API node that is down", killAPI},
	} {
		c.try(part.name, func(t *testing.T) { part.run(t, c) })
	}
}

// await waits for calls that were begun, and tells those that were answered from the rest.
func await(held []<-chan outcome) (served, lost []outcome) {
	for _, done := range held {
		if got := <-done; got.ok() {
			served = append(served, got)
		} else {
			lost = append(lost, got)
		}
	}
	return served, lost
}

// wantLost expects that the calls were lost that a runner held, and no others: with an
// error, and within some time after something happened.
func (c *cluster) wantLost(held []<-chan outcome, each []int, victim int, happened time.Time, within time.Duration) {
	c.t.Helper()
	served, lost := await(held)
	if len(lost) != each[victim] {
		c.t.Errorf("runners held %v calls, of which those of runner %d were to be lost; lost %v, served %v", each, victim, lost, served)
	}
	for _, got := range lost {
		if got.err != nil || got.status != 500 {
			c.t.Errorf("a call that was lost: %v", got)
		}
		if after := got.at.Sub(happened); after > within {
			c.t.Errorf("a call that was lost ended %v after it", after)
		}
	}
	c.lb.awaitLog("runner " + c.runners[victim].address() + " was lost with the call")
	c.lb.process.faulty = true // it says so
}

func killRunner(t *testing.T, c *cluster) {
	id := c.fn(nil)
	held, each := c.hold(id, holdTime)
	victim := c.runners[0]
	victim.kill()
	c.wantLost(held, each, 0, time.Now(), 3*time.Second)
	l := c.underLoad(id, 4, "20")
	l.await(t, 100)
	// It is taken back without a restart of anything else.
	victim.start()
	c.awaitCalls(victim)
	l.wantNoFailure(t)
}

func freezeRunner(t *testing.T, c *cluster) {
	id := c.fn(nil)
	held, each := c.hold(id, frozenTime)
	victim := c.runners[1]
	victim.freeze()
	c.wantLost(held, each, 1, time.Now(), lostDeadline)
	l := c.underLoad(id, 4, "20")
	l.await(t, 100)
	victim.thaw()
	victim.awaitRunning(0) // nobody waits for those any more
	c.awaitCalls(victim)
	l.wantNoFailure(t)
}

// A second signal ends a runner at once, as it does with every node.
func hurryRunner(t *testing.T, c *cluster) {
	id := c.fn(nil)
	held, each := c.hold(id, holdTime)
	victim := c.runners[2]
	victim.signal(syscall.SIGTERM)
	victim.awaitLog("Halting...")
	victim.killed = true
	victim.signal(syscall.SIGINT)
	c.wantLost(held, each, 2, time.Now(), 3*time.Second)
	if code := victim.process.exitCode(t); code == 0 {
		t.Error("it says that it ended in order")
	}
	c.wantNext(id)
}

func restartBalancer(t *testing.T, c *cluster) {
	id := c.fn(nil)
	held, _ := c.hold(id, "1500")
	c.lb.stop()
	if _, lost := await(held); len(lost) > 0 {
		t.Errorf("calls that were in progress: %v", lost)
	}
	c.lb.start()
	c.wantNext(id)
}

func killBalancer(t *testing.T, c *cluster) {
	id := c.fn(nil)
	held, _ := c.hold(id, "20000")
	c.lb.kill()
	for _, done := range held {
		if got := <-done; got.err == nil {
			t.Errorf("a call through the killed one: %v", got)
		}
	}
	c.awaitRunning(0) // nobody waits for the answers
	c.lb.start()
	for range 10 {
		c.wantNext(id)
	}
}

// cacheTTL is for how long a load balancer takes definitions as they are.
const cacheTTL = 5 * time.Second

func killAPI(t *testing.T, c *cluster) {
	known, unknown := c.fn(nil), c.fn(nil)
	path := c.trigger(known, "/known")
	c.wantNext(known)
	if got := c.web.send(t, "POST", c.lb.url(path), "x", mode("reply")); got.status != 200 {
		t.Fatal(got)
	}
	c.api.kill()
	c.lb.process.faulty = true // it says so
	l := c.underLoad(known, 2, "20")
	time.Sleep(cacheTTL + time.Second)
	l.wantNoFailure(t)
	if got := c.web.send(t, "POST", c.lb.url(path), "x", mode("reply")); got.status != 200 {
		t.Errorf("through a trigger: %d %s", got.status, got.body)
	}
	if got := c.invoke(unknown, "", nil); got.status < 500 {
		t.Errorf("a function that the load balancer has not seen yet: %d %s", got.status, got.body)
	}
	c.api.start()
	eventually(t, 20*time.Second, func() bool { return c.invoke(unknown, "", nil).status == 200 }, func() string {
		return "a function does not work that was not known\n" + c.lb.process.log.Tail()
	})
	if got := c.web.send(t, "PUT", c.api.url("/v2/fns/"+known), `{"config":{"NEW":"yes"}}`, nil); got.status != 200 {
		t.Fatal(got)
	}
	eventually(t, 20*time.Second, func() bool { return c.invoke(known, "", nil).seen(t).Config["NEW"] == "yes" }, func() string {
		return "a change is not seen\n" + c.lb.process.log.Tail()
	})
	if got := c.web.send(t, "DELETE", c.api.url("/v2/fns/"+known), "", nil); got.status != 204 {
		t.Fatal(got)
	}
	eventually(t, 20*time.Second, func() bool { return c.invoke(known, "", nil).status == 404 }, func() string {
		return "a deletion is not seen\n" + c.lb.process.log.Tail()
	})
}

// Nothing has to be started in order.
func TestNodesThatStartInAnyOrder(t *testing.T) {
	needRoot(t)
	c := prepare(t, plan{})
	c.lb.start()
	c.api.start()
	c.appID = c.create("/v2/apps", object{"name": "app"})
	early := c.begin(c.fn(nil), "early", mode("reply")) // it waits for a runner
	c.runners[1].start()
	if got := <-early; !got.ok() || got.body != "early" {
		t.Errorf("a call before there was a runner: %v", got)
	}
	c.runners[0].start()
	c.awaitCalls(c.runners[0])

	// These need nodes without a limit of answers, as those are held back until it is clear
	// that they are within it.
	plain := c.fn(nil)
	c.try("an answer arrives as the function writes it", func(t *testing.T) {
		got := c.openAnswer(plain, "5", "100")
		got.read(t, 200)
		c.awaitRunning(1) // it is not over
		got.read(t, 300)
		got.wantEnd(t)
	})
	c.try("a client that leaves ends its call", func(t *testing.T) {
		left := c.openAnswer(plain, "15", "100") // which the function finishes all the same
		left.read(t, 100)
		c.awaitRunning(1)
		left.leave()
		c.awaitRunning(0)
		c.wantNext(plain)
	})
}
