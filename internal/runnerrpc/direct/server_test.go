package direct

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tinefn/tine/internal/sockio"
)

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Nobody reads the rest of a request whose answer is said already. What the load balancer still sends must not make
// the kernel throw away the answer.
func TestAnswerArrivesThoughTheRequestIsNotRead(t *testing.T) {
	const size = 4 << 20
	onBoth(t, func(t *testing.T, server *tls.Config, with func(*PoolOptions)) {
		r := serve(t, server, func(s *ServerStream) error {
			if _, _, err := s.Receive(); err != nil {
				return err
			}
			piece := bytes.Repeat([]byte("x"), 64<<10)
			for range size / len(piece) {
				if err := s.Add(kindData, func(b []byte) []byte { return append(b, piece...) }); err != nil {
					return err
				}
			}
			return nil
		})
		p := using(t, r.address, with)
		s := open(t, t.Context(), p)
		s.Add(kindTry, text("try"))
		s.EndTry()
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		var sender sync.WaitGroup
		sender.Go(func() {
			for s.AddPiece(kindData, make([]byte, 10_000)) == nil {
			}
		})
		time.Sleep(2 * moment) // the runner is done, but for what there was no room for
		got, err := receive(s)
		if len(got) != size || !errors.Is(err, io.EOF) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		s.Close()
		sender.Wait()
		if open, resting, _ := counts(p); open+resting != 0 {
			t.Error(open, resting)
		}
		// The runner does not wait longer than for the load balancer to go away.
		began := time.Now()
		eventually(t, "forgetting the connection", func() bool { return serverCounts(r) == 1 })
		if d := time.Since(began); d > lingering/2 {
			t.Errorf("it took %v", d)
		}
	})
}

// serverCounts is the number of a runner's direct connections.
func serverCounts(r *runner) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open)
}

// The runner's error without the request's end closes the connection, even if nothing more is sent.
func TestConnectionOfARequestThatWasNotReadIsNotUsedAgain(t *testing.T) {
	r := serve(t, nil, func(s *ServerStream) error {
		_, _, err := s.Receive()
		return errors.Join(err, s.Add(kindData, text("enough")))
	})
	p := using(t, r.address, nil)
	for calls := range int32(3) {
		if got := exchange(t, p, "x"); got != "enough" {
			t.Errorf("got %q", got)
		}
		if n := r.connections.Load(); n != calls+2 {
			t.Errorf("there were %d connections", n)
		}
	}
}

func TestDrainLetsCallsFinish(t *testing.T) {
	onBoth(t, func(t *testing.T, server *tls.Config, with func(*PoolOptions)) {
		came, finish := make(chan struct{}), make(chan struct{})
		r := serve(t, server, func(s *ServerStream) error {
			if try, body, err := take(s); err != nil || try != "wait" {
				return errors.Join(err, s.Add(kindData, text(body)))
			}
			close(came)
			<-finish
			return errors.Join(s.Context().Err(), s.Add(kindData, text("done")))
		})
		p := using(t, r.address, with)
		s, rests := open(t, t.Context(), p), open(t, t.Context(), p)
		ask(t, rests, "", "x")
		if got, err := receive(rests); got != "x" || !errors.Is(err, io.EOF) {
			t.Error(got, err)
		}
		rests.Close()
		received := make(chan error, 1)
		go func() {
			ask(t, s, "wait", "x")
			got, err := receive(s)
			if got != "done" {
				t.Errorf("got %q", got)
			}
			received <- err
		}()
		<-came

		gone := r.Drain()
		eventually(t, "leaving", func() bool { return !hasLink(p) })
		eventually(t, "closing what rests", func() bool { return serverCounts(r) == 2 }) // the call, and the link for it
		if open, resting, _ := counts(p); open != 1 || resting != 0 {
			t.Error(open, resting)
		}
		if p.Open(t.Context()) != nil {
			t.Error("there is a stream")
		}
		p.Use() // which a late answer over gRPC may say
		if p.Wanted() {
			t.Error("there may be another link beside that of the call")
		}
		if c, err := p.connect(t.Context(), greetCalls); err == nil {
			c.Close()
			t.Error("a connection is accepted")
		}
		if isClosed(gone) || isClosed(r.Drain()) {
			t.Error("the runner is gone while there is a call")
		}
		close(finish)
		if err := <-received; !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if s.reusable {
			t.Error("the connection could be used again")
		}
		s.Close()
		select {
		case <-gone:
		case <-time.After(patience):
			t.Error("the runner is not gone")
		}
		eventually(t, "unlinking", p.Wanted)
		p.Use()
		eventually(t, "refusing a link", p.Wanted)
		if !isClosed(r.Drain()) {
			t.Error("it is not gone the second time")
		}
	})
}

// fill has the handler's answer wait in part: the socket has no room for it.
func fill(s *ServerStream) error {
	socket := s.Conn.(*sockio.Conn)
	for len(s.out) == 0 {
		s.add(kindData, make([]byte, 15_000))
		n, err := socket.WriteNow(s.out)
		if err != nil {
			return err
		}
		s.flushed += n
		s.out = s.out[:copy(s.out, s.out[n:])]
	}
	return nil
}

// A load balancer that does not read yet has not got the call's end, whether the connection is used again or not.
func TestCallIsSentWhenItsEndIs(t *testing.T) {
	for name, drains := range map[string]bool{"used again": false, "draining": true} {
		t.Run(name, func(t *testing.T) {
			sent, filled := make(chan struct{}), make(chan struct{})
			var r *runner
			r = serve(t, nil, func(s *ServerStream) error {
				s.WhenSent(func() { close(sent) })
				_, _, err := take(s)
				err = errors.Join(err, fill(s))
				if drains {
					r.Drain()
				}
				close(filled)
				return err
			})
			p := using(t, r.address, nil)
			s := open(t, t.Context(), p)
			defer s.Close()
			s.Add(kindTry, text("try"))
			s.EndTry()
			if err := errors.Join(s.AddLast(kindLast, nil), s.Flush()); err != nil {
				t.Fatal(err)
			}
			<-filled
			time.Sleep(2 * moment)
			if isClosed(sent) {
				t.Error("it is sent before the socket has room for it")
			}
			if _, err := receive(s); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			select {
			case <-sent:
			case <-time.After(patience):
				t.Error("it is never sent")
			}
		})
	}
}

// What cannot be sent is not waited for.
func TestCallIsSentWhenItsEndCannotBe(t *testing.T) {
	onBoth(t, func(t *testing.T, server *tls.Config, with func(*PoolOptions)) {
		sent := make(chan struct{}, 1)
		r := serve(t, server, func(s *ServerStream) error {
			s.WhenSent(func() { sent <- struct{}{} })
			<-s.Context().Done() // the load balancer has left
			return s.Context().Err()
		})
		p := using(t, r.address, with)
		s := open(t, t.Context(), p)
		s.Add(kindTry, text("try"))
		s.EndTry()
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		s.Close()
		select {
		case <-sent:
		case <-time.After(patience):
			t.Error("it is waited for")
		}
	})
}

func TestDrainWithoutConnectionsIsOverAtOnce(t *testing.T) {
	s := NewServer(echo, maxFrame, 0)
	for range 2 {
		if !isClosed(s.Drain()) {
			t.Error("it waits for something")
		}
	}
	s.Close()
}

// One that Drain has not known, as it was being accepted.
func TestLinkThatComesWithDrainIsToldToo(t *testing.T) {
	s := NewServer(echo, maxFrame, 0)
	s.Drain()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	_ = theirs.SetDeadline(time.Now().Add(patience))
	var served sync.WaitGroup
	served.Go(func() { s.serveLink(t.Context(), ours) })
	got := make([]byte, len(greetLink)+headBytes)
	if _, err := io.ReadFull(theirs, got); err != nil || string(got) != greetLink+"\x00\x00\x00\x01g" {
		t.Errorf("got %q, %v", got, err)
	}
	ours.Close()
	served.Wait()
	if len(s.links) != 0 {
		t.Error("it is remembered")
	}
}

func TestCloseCutsCallsOffAndWaitsForThem(t *testing.T) {
	onBoth(t, func(t *testing.T, server *tls.Config, with func(*PoolOptions)) {
		came, ended := make(chan struct{}, 3), make(chan error, 3)
		r := serve(t, server, func(s *ServerStream) error {
			try, _, err := take(s)
			came <- struct{}{}
			switch try {
			case "work":
				<-s.Context().Done()
				time.Sleep(moment)
				err = s.Context().Err()
			case "receive":
				_, _, err = s.Receive()
			case "send":
				for err == nil {
					err = s.Add(kindData, text("much that nobody reads"))
				}
			}
			ended <- err
			return err
		})
		p := using(t, r.address, with)
		streams := map[string]*Stream{}
		for _, try := range []string{"work", "receive", "send"} {
			s := open(t, t.Context(), p)
			s.Add(kindTry, text(try))
			s.EndTry()
			if err := errors.Join(s.AddLast(kindLast, nil), s.Flush()); err != nil {
				t.Fatal(err)
			}
			streams[try] = s
			<-came
		}
		r.Drain()
		closed := make(chan struct{})
		go func() { r.Close(); close(closed) }()
		select {
		case <-closed:
		case <-time.After(patience):
			t.Fatal("it waits for something else")
		}
		if len(ended) != 3 {
			t.Errorf("it has waited for %d calls", len(ended))
		}
		for range streams {
			if err := <-ended; !errors.Is(err, context.Canceled) && status.Code(err) != codes.Canceled && status.Code(err) != codes.Unavailable {
				t.Error(err)
			}
		}
		for try, s := range streams {
			if _, err := receive(s); status.Code(err) != codes.Unavailable {
				t.Errorf("%s: %v", try, err)
			}
		}
		if r.connections.Load() != 4 || serverCounts(r) != 0 {
			t.Errorf("there were %d connections, and there are %d", r.connections.Load(), serverCounts(r))
		}
	})
}

func TestWhoGreetsOtherwiseIsDisconnected(t *testing.T) {
	r := serve(t, nil, echo)
	for name, greeting := range map[string]string{
		"a later version": "TINE/2 calls", "another word": "TINE/1 trips", "half a greeting": greetCalls[:5], "nothing": "",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", r.address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(patience))
			if _, err := io.WriteString(c, greeting); err != nil {
				t.Fatal(err)
			}
			if len(greeting) < len(greetCalls) {
				_ = c.(*net.TCPConn).CloseWrite()
			}
			if got, err := io.ReadAll(c); len(got) != 0 || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	if n := serverCounts(r); n != 0 {
		t.Errorf("there are %d connections", n)
	}
}

func TestCredentialsOfClonesAreShared(t *testing.T) {
	server, _ := secured(t)
	s := NewServer(echo, maxFrame, 0)
	for name, config := range map[string]*tls.Config{"insecure": nil, "tls": server} {
		clone := Credentials(config, s).Clone()
		if got := clone.Info().SecurityProtocol; got != name {
			t.Errorf("%s is %q", name, got)
		}
		ours, theirs := net.Pipe()
		theirs.Close()
		if c, _, err := clone.ServerHandshake(ours); c != nil || err == nil {
			t.Errorf("%s: %v", name, err)
		}
		ours.Close()
	}
	if server.NextProtos != nil {
		t.Error("the configuration is changed")
	}
}
