package system

import (
	"testing"
	"time"
)

// TestHostsThatAreCutOff has each node on a host of its own, with a cable that is cut and
// mended.
func TestHostsThatAreCutOff(t *testing.T) {
	t.Parallel()
	needRoot(t)
	c := startCluster(t, plan{hub: newHub(t), settings: soon})
	c.try("a runner", func(t *testing.T) { cutRunner(t, c) })
	c.try("the API node", func(t *testing.T) { cutAPI(t, c) })
}

func cutRunner(t *testing.T, c *cluster) {
	id := c.fn(nil)
	held, each := c.hold(id, frozenTime)
	victim := c.runners[0]
	victim.host.cut()
	c.wantLost(held, each, 0, time.Now(), lostDeadline)
	l := c.underLoad(id, 3, "20")
	l.await(t, 100)
	victim.host.mend()
	eventually(t, 20*time.Second, func() bool {
		got, err := c.web.do(c.web.request(t, "GET", victim.url("/version"), "", nil))
		return err == nil && got.status == 200
	}, func() string { return "the mended host does not answer" })
	c.awaitCalls(victim)
	l.wantNoFailure(t)
	victim.awaitRunning(0) // it has noticed that nobody waits for them
}

func cutAPI(t *testing.T, c *cluster) {
	known, unknown := c.fn(nil), c.fn(nil)
	c.wantNext(known)
	c.api.host.cut()
	c.lb.process.faulty = true // it says so
	l := c.underLoad(known, 2, "20")
	time.Sleep(cacheTTL + time.Second)
	asked := c.begin(unknown, "asked", mode("reply"))
	time.Sleep(time.Second)
	l.wantNoFailure(t)
	c.api.host.mend()
	<-asked // it may be answered late, or be refused
	eventually(t, 30*time.Second, func() bool { return c.invoke(unknown, "x", mode("reply")).status == 200 }, func() string {
		return "a function does not work that was not known\n" + c.lb.process.log.Tail()
	})
}
