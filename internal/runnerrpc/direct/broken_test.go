package direct

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// reset closes a connection so that the other side cannot write to it any more.
func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// lost waits until a stream's connection has something to say unasked.
func lost(t *testing.T, s *Stream) {
	t.Helper()
	eventually(t, "hearing from the runner", func() bool { return !s.conn.below.IsQuiet() })
}

// unavailable fails unless receiving tells that the connection broke.
func unavailable(t *testing.T, s *Stream, unsent bool) {
	t.Helper()
	if got, err := receive(s); got != "" || status.Code(err) != codes.Unavailable {
		t.Errorf("got %q, %v", got, err)
	}
	if s.Unsent() != unsent {
		t.Errorf("that the try is unsent is %v", s.Unsent())
	}
}

func TestTryIsUnsentIfTheConnectionBrokeBefore(t *testing.T) {
	r := fake(t, linked(reset))
	p := using(t, r.Addr().String(), nil)
	for name, flush := range map[string]func(*Stream) error{"now": (*Stream).Flush, "later": (*Stream).FlushLater} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.Context(), p)
			lost(t, s)
			s.Add(kindTry, text("try"))
			s.EndTry()
			if err := s.AddLast(kindLast, []byte("body")); err != nil || s.Unsent() {
				t.Error(err, s.Unsent())
			}
			if err := flush(s); (err != nil) != (name == "now") || err != nil && !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			unavailable(t, s, true)
			s.Close()
			if open, resting, _ := counts(p); open+resting != 0 {
				t.Error(open, resting)
			}
		})
	}
}

func TestTryIsUnsentIfNotAllOfItWasSent(t *testing.T) {
	const bytes = 8 << 20
	r := fake(t, linked(func(c net.Conn) {
		_, _ = io.CopyN(io.Discard, c, 100_000)
		reset(c)
	}))
	p := using(t, r.Addr().String(), nil)
	for name, flush := range map[string]func(*Stream) error{"now": (*Stream).Flush, "later": (*Stream).FlushLater} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.Context(), p)
			if err := s.conn.Conn.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn).SetWriteBuffer(64 << 10); err != nil {
				t.Fatal(err)
			}
			s.Add(kindTry, text(strings.Repeat("x", bytes)))
			s.EndTry()
			_ = flush(s)
			unavailable(t, s, true)
		})
	}
}

// What was sent may have been executed, even if the rest was not. A sender that does not stop at once must not
// change that.
func TestTryIsNotUnsentIfTheRestWas(t *testing.T) {
	r := fake(t, linked(func(c net.Conn) {
		_, _ = io.ReadFull(c, make([]byte, headBytes+3))
		reset(c)
	}))
	p := using(t, r.Addr().String(), nil)
	s := open(t, t.Context(), p)
	s.Add(kindTry, text("try"))
	s.EndTry()
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	lost(t, s)
	for range 3 {
		_ = s.AddPiece(kindData, []byte("piece"))
		if err := s.Flush(); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if s.Unsent() {
			t.Error("it is unsent")
		}
	}
	unavailable(t, s, false)
}

func TestConnectionThatEndsInTheMiddleIsTold(t *testing.T) {
	for name, answer := range map[string]string{"nothing": "", "half a head": "\x00\x00", "half a frame": "\x00\x00\x00\x05dab"} {
		t.Run(name, func(t *testing.T) {
			r := fake(t, linked(func(c net.Conn) {
				_, _ = io.ReadFull(c, make([]byte, 2*headBytes+len("trybody"))) // a close with something unread is a reset
				_, _ = io.WriteString(c, answer)
				c.Close()
			}))
			p := using(t, r.Addr().String(), nil)
			s := open(t, t.Context(), p)
			ask(t, s, "try", "body")
			unavailable(t, s, false)
		})
	}
}

func TestWhatIsNoFrameIsTheRunnersFault(t *testing.T) {
	for name, answer := range map[string]string{
		"without a kind": "\x00\x00\x00\x00d", "longer than allowed": "\x00\x10\x00\x01d", "an end without a code": "\x00\x00\x00\x02e\x01",
	} {
		t.Run(name, func(t *testing.T) {
			r := fake(t, linked(func(c net.Conn) { _, _ = io.WriteString(c, answer) }))
			p := using(t, r.Addr().String(), nil)
			s := open(t, t.Context(), p)
			if got, err := receive(s); got != "" || status.Code(err) != codes.Internal {
				t.Errorf("got %q, %v", got, err)
			}
			s.Close()
			if open, resting, _ := counts(p); open+resting != 0 {
				t.Error(open, resting)
			}
		})
	}
}

func TestWhatIsNoFrameIsTheLoadBalancersFault(t *testing.T) {
	for name, sent := range map[string]string{"without a kind": "\x00\x00\x00\x00t", "longer than allowed": "\x00\x10\x00\x01t", "cut": "\x00\x00"} {
		t.Run(name, func(t *testing.T) {
			received := make(chan error, 1)
			r := serve(t, nil, func(s *ServerStream) error {
				_, _, err := s.Receive()
				received <- err
				return err
			})
			p := using(t, r.address, nil)
			s := open(t, t.Context(), p)
			if _, err := io.WriteString(s.conn, sent); err != nil {
				t.Fatal(err)
			}
			want := codes.InvalidArgument
			if name == "cut" {
				want = codes.Canceled
				s.Close()
			} else if _, err := receive(s); status.Code(err) != want {
				t.Error(err)
			}
			if err := <-received; status.Code(err) != want {
				t.Error(err)
			}
		})
	}
}

// A runner may refuse a call when it has seen the try. Who sends more then, and waits, must be told at once, not
// when the runner gives up waiting for it to go away.
func TestAnswerThatCameBeforeTheRestWasSentIsNotMissed(t *testing.T) {
	r := serve(t, nil, func(s *ServerStream) error {
		if _, _, err := s.Receive(); err != nil {
			return err
		}
		return status.Error(codes.ResourceExhausted, "there is no room")
	})
	p := using(t, r.address, nil)
	s := open(t, t.Context(), p)
	s.Add(kindTry, text("try"))
	s.EndTry()
	if err := s.AddPiece(kindData, make([]byte, muchBytes)); err != nil { // which goes out
		t.Fatal(err)
	}
	lost(t, s)
	if err := errors.Join(s.AddLast(kindLast, []byte("rest")), s.FlushLater()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := receive(s); status.Code(err) != codes.ResourceExhausted {
		t.Error(err)
	}
	if d := time.Since(began); d > lingering/2 {
		t.Errorf("it took %v", d)
	}
}

// A load balancer that sends the next call before the end of the one before breaks no other rule.
func TestCallsThatComeTogetherAreAnsweredInTurn(t *testing.T) {
	r := serve(t, nil, echo)
	p := using(t, r.address, nil)
	s := open(t, t.Context(), p)
	ends := 0
	for _, body := range []string{"one", "another"} {
		s.Add(kindTry, text("try"))
		_ = s.AddLast(kindLast, []byte(body))
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(patience))
	got := ""
	for ends < 2 {
		kind, content, err := s.conn.next()
		if err != nil {
			t.Fatal(err)
		}
		if kind == kindEnd {
			ends++
			content = []byte(".")
		}
		got += string(content)
	}
	if got != "try:one.try:another." {
		t.Errorf("got %q", got)
	}
}

// Whoever sends may give the call up, also at the moment in which its end comes. The race detector looks.
func TestSenderGivesUpWhileTheEndComes(t *testing.T) {
	r := serve(t, nil, func(s *ServerStream) error {
		if _, _, err := s.Receive(); err != nil {
			return err
		}
		return status.Error(codes.Aborted, "no")
	})
	p := using(t, r.address, nil)
	s := open(t, t.Context(), p)
	s.Add(kindTry, text("try"))
	s.EndTry()
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	var sender sync.WaitGroup
	sender.Go(func() {
		time.Sleep(moment) // usually the end has come, which this goroutine does not know
		s.Close()
	})
	if _, err := receive(s); status.Code(err) != codes.Aborted && status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	sender.Wait()
}

// slowly is a connection whose writes return late.
type slowly struct{ net.Conn }

func (s slowly) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	time.Sleep(moment)
	return n, err
}

// The end of a call can come before the sender has returned from sending its last piece. The next call must not
// share its connection with that sender.
func TestConnectionRestsOnlyWhenItsSenderHasLeftIt(t *testing.T) {
	r := serve(t, nil, echo)
	p := using(t, r.address, nil)
	for range 5 {
		s := open(t, t.Context(), p)
		s.conn.Conn = slowly{s.conn.Conn}
		s.Add(kindTry, text("try"))
		s.EndTry()
		var sender sync.WaitGroup
		sender.Go(func() {
			if s.AddLast(kindLast, []byte("body")) == nil {
				_ = s.Flush()
			}
		})
		if got, err := receive(s); got != "try:body" || !errors.Is(err, io.EOF) {
			t.Errorf("got %q, %v", got, err)
		}
		s.Close()
		if got := exchange(t, p, "next"); got != "try:next" {
			t.Errorf("got %q", got)
		}
		sender.Wait()
	}
}

func TestStreamOfAnEndedContextBreaks(t *testing.T) {
	r := serve(t, nil, echo)
	p := using(t, r.address, nil)
	exchange(t, p, "x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := open(t, ctx, p) // one that has rested
	s.Add(kindTry, text("try"))
	s.EndTry()
	eventually(t, "closing", func() bool { return s.conn.SetDeadline(time.Time{}) != nil })
	if err := s.Flush(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	unavailable(t, s, true)
	s.Close()
	if s := p.Open(ctx); s != nil { // there is none to take, and none can be made
		t.Error("there is a stream")
	}
}
