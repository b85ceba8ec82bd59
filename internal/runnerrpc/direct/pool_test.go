package direct

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

func TestPoolHasNoConnectionsBeforeUseNorAfterClose(t *testing.T) {
	r := serve(t, nil, echo)
	p := pool(t, r.address, nil)
	if s := p.Open(t.Context()); s != nil || !p.Wanted() {
		t.Error("there is a stream before Use, or Use is not wanted")
	}
	p.Use()
	p.Use()
	if p.Wanted() {
		t.Error("it is to be used once more")
	}
	eventually(t, "linking", func() bool { return hasLink(p) })
	if got := exchange(t, p, "x"); got != "try:x" {
		t.Errorf("got %q", got)
	}
	p.Close()
	p.Use()
	if s := p.Open(t.Context()); s != nil || p.Wanted() {
		t.Error("there is a stream after Close, or Use is wanted")
	}
	if open, resting, dialing := counts(p); open+resting+dialing != 0 {
		t.Error(open, resting, dialing)
	}
	if n := r.connections.Load(); n != 2 {
		t.Errorf("there were %d connections", n)
	}
	p.Close()
}

func TestPoolWithoutConnectionsIsNotWanted(t *testing.T) {
	r := serve(t, nil, echo)
	p := pool(t, r.address, func(o *PoolOptions) { o.MaxConnections = 0 })
	p.Use()
	if s := p.Open(t.Context()); s != nil || p.Wanted() {
		t.Error("there is a stream, or Use is wanted")
	}
	p.Close()
	if n := r.connections.Load(); n != 0 {
		t.Errorf("there were %d connections", n)
	}
}

func TestCallsBeyondTheLimitGoAnotherWay(t *testing.T) {
	r := serve(t, nil, echo)
	p := using(t, r.address, func(o *PoolOptions) { o.MaxConnections = 2 })
	one, other := open(t, t.Context(), p), open(t, t.Context(), p)
	if s := p.Open(t.Context()); s != nil {
		t.Fatal("there is a third stream")
	}
	one.Close() // its connection is closed, as the call has not ended
	again := open(t, t.Context(), p)
	if s := p.Open(t.Context()); s != nil {
		t.Error("there is a third stream")
	}
	for _, s := range []*Stream{other, again} {
		ask(t, s, "", "x")
		if got, err := receive(s); got != ":x" || !errors.Is(err, io.EOF) {
			t.Error(got, err)
		}
	}
}

func TestCloseCutsCallsOff(t *testing.T) {
	onBoth(t, func(t *testing.T, server *tls.Config, with func(*PoolOptions)) {
		came, left := make(chan struct{}), make(chan struct{})
		r := serve(t, server, func(s *ServerStream) error {
			close(came)
			<-s.Context().Done()
			close(left)
			return nil
		})
		p := using(t, r.address, with)
		s := open(t, t.Context(), p)
		ask(t, s, "", "x")
		go func() { <-came; p.Close() }()
		if _, err := receive(s); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), errPoolClosed.Error()) {
			t.Error(err)
		}
		<-left
		p.Close()
	})
}

// What a peer may do that is no runner of ours. It is asked over gRPC then.
func TestPoolFallsBackIfTheGreetingIsNotAnswered(t *testing.T) {
	const soon = 50 * time.Millisecond // until a peer that says nothing is given up
	peers := map[string]func(net.Conn){
		"answers something else": func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") },
		"answers half of it":     func(c net.Conn) { _, _ = io.WriteString(c, greetCalls[:5]); c.Close() },
		"closes":                 func(c net.Conn) { c.Close() },
		"resets":                 reset,
		"never answers":          func(net.Conn) {},
	}
	for name, answer := range peers {
		t.Run(name, func(t *testing.T) {
			never := fake(t, answer)
			p := pool(t, never.Addr().String(), func(o *PoolOptions) { o.ConnectTimeout = soon })
			p.Use()
			eventually(t, "giving up", p.Wanted)
			if p.Open(t.Context()) != nil {
				t.Error("there is a stream")
			}
			p.Use() // it may be tried again
			eventually(t, "giving up", p.Wanted)

			// The link alone is answered.
			once := fake(t, func(c net.Conn) {
				greeting := make([]byte, len(greetCalls))
				if _, _ = io.ReadFull(c, greeting); string(greeting) == greetCalls {
					answer(c)
					return
				}
				_, _ = c.Write(greeting)
				_, _ = io.Copy(c, c)
			})
			p = using(t, once.Addr().String(), func(o *PoolOptions) { o.ConnectTimeout, o.MaxConnections = soon, 1 })
			for range 2 { // none stays behind that counts
				if p.Open(t.Context()) != nil {
					t.Error("there is a stream")
				}
			}
			if n := once.connections.Load(); n != 3 {
				t.Errorf("there were %d connections", n)
			}
			if open, resting, dialing := counts(p); open+resting+dialing != 0 {
				t.Error(open, resting, dialing)
			}
		})
	}
}

// The peers' own answers to what they do not know, and to who does not speak TLS as they do.
func TestPoolFallsBackIfThePeerSpeaksOtherwise(t *testing.T) {
	server, client := secured(t)
	over := func(opts ...grpc.ServerOption) string {
		s, listener := grpc.NewServer(opts...), listen(t)
		var served sync.WaitGroup
		served.Go(func() { _ = s.Serve(listener) })
		t.Cleanup(func() { s.Stop(); served.Wait() })
		return listener.Addr().String()
	}
	nobody := listen(t)
	nobody.Close()
	for name, peer := range map[string]struct {
		address string
		tls     *tls.Config
	}{
		"gRPC":                         {over(), nil},
		"gRPC with TLS":                {over(grpc.Creds(credentials.NewTLS(server))), client},
		"TLS, and we do not":           {serve(t, server, echo).address, nil},
		"no TLS, and we do":            {serve(t, nil, echo).address, client},
		"TLS of whom we do not know":   {serve(t, server, echo).address, &tls.Config{}},
		"nobody is there":              {nobody.Addr().String(), nil},
		"TLS with another name than x": {serve(t, server, echo).address, &tls.Config{RootCAs: client.RootCAs, ServerName: "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := pool(t, peer.address, func(o *PoolOptions) { o.TLS, o.ConnectTimeout = peer.tls, 300*time.Millisecond })
			p.Use()
			eventually(t, "giving up", p.Wanted)
			if p.Open(t.Context()) != nil {
				t.Error("there is a stream")
			}
		})
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	r := fake(t, func(c net.Conn) {
		greeting := make([]byte, len(greetCalls))
		if _, _ = io.ReadFull(c, greeting); string(greeting) == greetLink {
			_, _ = c.Write(greeting)
			_, _ = io.Copy(c, c)
		}
	})
	p := using(t, r.Addr().String(), nil)
	ctx, cancel := context.WithTimeout(t.Context(), moment)
	defer cancel()
	began := time.Now()
	if p.Open(ctx) != nil || time.Since(began) > patience/2 {
		t.Errorf("there is a stream, or it took %v", time.Since(began))
	}
}

// answered serves one call in order, as a runner.
func answered(c net.Conn) error {
	f := newFramed(c, maxFrame)
	for {
		kind, _, err := f.next()
		if err != nil {
			return err
		}
		if kind == kindLast {
			f.add(kindData, []byte("answer"))
			f.addEnd(true, nil)
			_, err := f.flush()
			return err
		}
	}
}

func TestRestingConnectionIsNotUsedWhenTheRunnerHasSaidSomething(t *testing.T) {
	for name, then := range map[string]func(net.Conn){
		"it has closed it": func(c net.Conn) { c.Close() },
		"it has reset it":  reset,
		"it has sent something that nobody asked for": func(c net.Conn) { _, _ = io.WriteString(c, "x") },
	} {
		t.Run(name, func(t *testing.T) {
			ready := make(chan struct{})
			r := fake(t, linked(func(c net.Conn) {
				if answered(c) == nil {
					<-ready
					then(c)
				}
			}))
			p := using(t, r.Addr().String(), nil)
			for calls := range int32(3) {
				if got := exchange(t, p, "x"); got != "answer" {
					t.Errorf("got %q", got)
				}
				if n := r.connections.Load(); n != calls+2 {
					t.Errorf("call %d: there were %d connections", calls, n)
				}
				ready <- struct{}{}
				p.mu.Lock()
				c := p.resting[0]
				p.mu.Unlock()
				eventually(t, "hearing from the runner", func() bool { return !c.isQuiet() })
			}
			if open, resting, _ := counts(p); open != 1 || resting != 1 {
				t.Error(open, resting)
			}
		})
	}
}

func TestConnectionsThatRestForLongAreClosed(t *testing.T) {
	r := serve(t, nil, echo)
	p := using(t, r.address, nil)
	streams := []*Stream{open(t, t.Context(), p), open(t, t.Context(), p), open(t, t.Context(), p)}
	for _, s := range streams {
		ask(t, s, "", "x")
		if _, err := receive(s); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	}
	streams[1].Close()
	time.Sleep(time.Millisecond)
	between := time.Now()
	streams[2].Close()
	p.trim(between.Add(-time.Hour))
	if open, resting, _ := counts(p); open != 3 || resting != 2 {
		t.Error(open, resting)
	}
	p.trim(between)
	if open, resting, _ := counts(p); open != 2 || resting != 1 {
		t.Error(open, resting)
	}
	exchange(t, p, "x") // on the one that is left
	if n := r.connections.Load(); n != 4 {
		t.Errorf("there were %d connections", n)
	}
	p.trim(time.Now().Add(time.Hour))
	if open, resting, _ := counts(p); open != 1 || resting != 0 {
		t.Error(open, resting) // one has a call
	}
	streams[0].Close()
	exchange(t, p, "x")
	if n := r.connections.Load(); n != 4 {
		t.Errorf("there were %d connections", n)
	}
}

// What came together with the end was read with it.
func TestConnectionWithMoreThanTheEndIsNotUsedAgain(t *testing.T) {
	r := fake(t, linked(func(c net.Conn) {
		f := newFramed(c, maxFrame)
		f.addEnd(true, nil)
		f.add(kindData, []byte("of which call?"))
		_, _ = io.ReadFull(c, make([]byte, 2*headBytes+len("tryx")))
		_, _ = f.flush()
	}))
	p := using(t, r.Addr().String(), nil)
	for calls := range int32(2) {
		if got := exchange(t, p, "x"); got != "" {
			t.Errorf("got %q", got)
		}
		if n := r.connections.Load(); n != calls+2 {
			t.Errorf("there were %d connections", n)
		}
	}
}
