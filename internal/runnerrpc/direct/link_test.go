package direct

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// often has a runner asked all the time whether it is there.
func often(o *PoolOptions) { o.PingInterval, o.PingTimeout = 20*time.Millisecond, 30*time.Millisecond }

// A runner whose machine has gone ends no connection.
func TestCallsOfARunnerThatDoesNotAnswerEnd(t *testing.T) {
	var frozen atomic.Bool
	r := fake(t, func(c net.Conn) {
		if calls, err := greeted(c); err != nil || calls {
			return // it stays open
		}
		ping := make([]byte, headBytes)
		for {
			if _, err := io.ReadFull(c, ping); err != nil || frozen.Load() {
				return
			}
			_, _ = c.Write(ping)
		}
	})
	p := using(t, r.Addr().String(), often)
	streams := []*Stream{open(t, t.Context(), p), open(t, t.Context(), p)}
	ask(t, streams[0], "", "x")
	answers := make(chan error, len(streams))
	for _, s := range streams {
		go func() {
			_, err := receive(s)
			answers <- err
		}()
	}
	select {
	case err := <-answers:
		t.Fatal("it has ended as long as the runner was there:", err)
	case <-time.After(100 * time.Millisecond):
	}
	frozen.Store(true)
	for range streams {
		if err := <-answers; status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "it does not answer within 30ms") {
			t.Error(err)
		}
	}
	for _, s := range streams {
		s.Close()
	}
	eventually(t, "unlinking", p.Wanted)
	if p.Open(t.Context()) != nil {
		t.Error("there is a stream")
	}
	if open, resting, dialing := counts(p); open+resting+dialing != 0 {
		t.Error(open, resting, dialing)
	}
}

// It may be one that has ended, whose kernel has accepted the connection.
func TestRunnerThatNeverAnswersIsNotUsed(t *testing.T) {
	r := fake(t, func(c net.Conn) { _, _ = greeted(c) })
	p := pool(t, r.Addr().String(), often)
	p.Use()
	eventually(t, "giving up", p.Wanted)
	if p.Open(t.Context()) != nil {
		t.Error("there is a stream")
	}
}

func TestRunnerThatAnswersStaysLinked(t *testing.T) {
	r := serve(t, nil, echo)
	p := using(t, r.address, func(o *PoolOptions) { o.PingInterval, o.PingTimeout = time.Millisecond, patience })
	for began := time.Now(); time.Since(began) < 100*time.Millisecond; {
		if got := exchange(t, p, "x"); got != "try:x" {
			t.Fatalf("got %q", got)
		}
	}
	if n := r.connections.Load(); n != 2 {
		t.Errorf("there were %d connections", n)
	}
}

// Without being asked, a runner is still asked once whether it is there.
func TestRunnerNeedNotBeAsked(t *testing.T) {
	var pings atomic.Int32
	r := fake(t, func(c net.Conn) {
		if calls, err := greeted(c); err != nil || calls {
			return
		}
		ping := make([]byte, headBytes)
		for {
			if _, err := io.ReadFull(c, ping); err != nil {
				return
			}
			pings.Add(1)
			_, _ = c.Write(ping)
		}
	})
	p := using(t, r.Addr().String(), func(o *PoolOptions) { o.PingInterval, o.PingTimeout = 0, moment })
	s := open(t, t.Context(), p)
	time.Sleep(3 * moment)
	if n := pings.Load(); n != 1 || !hasLink(p) || !s.conn.below.IsQuiet() {
		t.Errorf("it was asked %d times, %v", n, hasLink(p))
	}
}

// Calls are not lost with a link that ends for itself: they have connections of their own.
func TestCallsOutliveTheLink(t *testing.T) {
	answer, links := make(chan struct{}), make(chan net.Conn, 2)
	r := fake(t, func(c net.Conn) {
		if calls, err := greeted(c); err != nil {
			return
		} else if calls {
			<-answer
			_ = answered(c)
			return
		}
		links <- c
		_, _ = io.Copy(c, c)
	})
	p := using(t, r.Addr().String(), nil)
	s := open(t, t.Context(), p)
	ask(t, s, "", "x")
	rests := open(t, t.Context(), p)
	(<-links).Close()
	eventually(t, "unlinking", p.Wanted)
	if p.Open(t.Context()) != nil {
		t.Error("there is a stream")
	}
	close(answer)
	if got, _ := receive(s); got != "answer" {
		t.Errorf("got %q", got)
	}
	s.Close()
	if open, resting, _ := counts(p); open != 1 || resting != 0 { // nobody would look after it
		t.Error(open, resting)
	}
	rests.Close()
	p.Use()
	eventually(t, "linking", func() bool { return hasLink(p) })
	if got := exchange(t, p, "x"); got != "answer" {
		t.Errorf("got %q", got)
	}
}

// A later version may say more on the link.
func TestFramesOfALinkThatAreUnknownAreIgnored(t *testing.T) {
	r := serve(t, nil, echo)
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	f := newFramed(c, maxFrame)
	f.out = append(f.out, greetLink...)
	f.add('?', make([]byte, 1000))
	f.add(kindPing, nil)
	if _, err := f.flush(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(greetLink)+headBytes)
	if _, err := io.ReadFull(f.in, got); err != nil || string(got) != greetLink+"\x00\x00\x00\x01p" {
		t.Errorf("got %q, %v", got, err)
	}

	late := fake(t, func(c net.Conn) {
		if calls, err := greeted(c); err == nil && !calls {
			_, _ = io.WriteString(c, "\x00\x00\x00\x03?ab")
			_, _ = io.Copy(c, c)
		}
	})
	using(t, late.Addr().String(), nil)
}

// Who drains may freeze too.
func TestCallsOfARunnerThatDrainsAreWatched(t *testing.T) {
	var frozen atomic.Bool
	drains := make(chan struct{})
	r := fake(t, func(c net.Conn) {
		if calls, err := greeted(c); err != nil || calls {
			return
		}
		go func() {
			<-drains
			_, _ = io.WriteString(c, "\x00\x00\x00\x01g")
		}()
		ping := make([]byte, headBytes)
		for {
			if _, err := io.ReadFull(c, ping); err != nil || frozen.Load() {
				return
			}
			_, _ = c.Write(ping)
		}
	})
	p := using(t, r.Addr().String(), often)
	s := open(t, t.Context(), p)
	ask(t, s, "", "x")
	close(drains)
	eventually(t, "leaving", func() bool { return !hasLink(p) })
	frozen.Store(true)
	if _, err := receive(s); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "it does not answer within 30ms") {
		t.Error(err)
	}
	s.Close()
	eventually(t, "unlinking", p.Wanted)
}

// What cannot be had is not asked for again by each call.
func TestFailuresMakePauses(t *testing.T) {
	r := fake(t, func(c net.Conn) { c.Close() })
	p := pool(t, r.Addr().String(), nil)
	p.firstPause = time.Hour
	p.Use()
	eventually(t, "giving up", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return !p.linking })
	if p.Wanted() {
		t.Error("it is tried again at once")
	}
	for range 10 {
		p.Use()
	}
	if n := r.connections.Load(); n != 1 {
		t.Errorf("there were %d connections", n)
	}
	declined := pool(t, r.Addr().String(), nil)
	if declined.firstPause = time.Hour; !declined.Wanted() {
		t.Error("it is not asked for")
	}
	if declined.Declined(); declined.Wanted() {
		t.Error("a runner that has not answered is asked again at once")
	}
}

// A runner that ends refuses what is under way, and is there again a moment later.
func TestWhatFailsTogetherHasFailedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(PoolOptions{Address: "not used", MaxConnections: 1})
		defer p.Close()
		for round, pause := range []time.Duration{firstPause, 2 * firstPause, 4 * firstPause} {
			for range 10 {
				p.Declined()
			}
			time.Sleep(pause - 1)
			if p.Wanted() {
				t.Errorf("round %d: it is asked for before %v", round, pause)
			}
			if time.Sleep(time.Nanosecond); !p.Wanted() {
				t.Errorf("round %d: it is not asked for after %v", round, pause)
			}
		}
	})
}
