package direct

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

func TestCallsGoBothWaysOnOneConnection(t *testing.T) {
	onBoth(t, func(t *testing.T, server *tls.Config, with func(*PoolOptions)) {
		r := serve(t, server, func(s *ServerStream) error {
			calls, _ := (*s.Memory()).(int)
			*s.Memory() = calls + 1
			if err := s.Add(kindData, text(fmt.Sprint(calls, " "))); err != nil {
				return err
			}
			return echo(s)
		})
		p := using(t, r.address, with)
		for i, size := range []int{0, 1, readBuffer - headBytes, readBuffer, muchBytes, 5 * keptBuffer, 3} {
			body := strings.Repeat("x", size)
			s := open(t, t.Context(), p)
			calls, _ := (*s.Memory()).(int)
			*s.Memory() = calls + 1
			ask(t, s, "try", body)
			got, err := receive(s)
			if want := fmt.Sprint(i, " try:", body); got != want || !errors.Is(err, io.EOF) || calls != i {
				t.Errorf("call %d of a connection: got %d bytes, want %d, %v", calls, len(got), len(want), err)
			}
			if _, _, again := s.Receive(); !errors.Is(again, io.EOF) {
				t.Error(again)
			}
			s.Close()
			s.Close() // it has ended
		}
		if n := r.connections.Load(); n != 2 { // the link is one
			t.Errorf("there were %d connections", n)
		}
		if open, resting, dialing := counts(p); open != 1 || resting != 1 || dialing != 0 {
			t.Error(open, resting, dialing)
		}
	})
}

func TestGRPCHasTheSamePort(t *testing.T) {
	onBoth(t, func(t *testing.T, server *tls.Config, with func(*PoolOptions)) {
		r := serve(t, server, echo)
		var opts PoolOptions
		of := insecure.NewCredentials()
		if with != nil {
			with(&opts)
			of = credentials.NewTLS(opts.TLS)
		}
		conn, err := grpc.NewClient("passthrough:///"+r.address, grpc.WithTransportCredentials(of))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		p := using(t, r.address, with)
		for range 2 {
			err := conn.Invoke(t.Context(), "/service/Method", &emptypb.Empty{}, &emptypb.Empty{})
			if status.Code(err) != codes.Unimplemented {
				t.Error(err)
			}
			if got := exchange(t, p, "x"); got != "try:x" {
				t.Errorf("got %q", got)
			}
		}
	})
}

// What is sent in pieces comes as it is sent, while the answer comes.
func TestPiecesGoBothWaysAtOneTime(t *testing.T) {
	onBoth(t, func(t *testing.T, server *tls.Config, with func(*PoolOptions)) {
		r := serve(t, server, func(s *ServerStream) error {
			for {
				kind, content, err := s.Receive()
				if err != nil {
					return err
				}
				if kind == kindLast {
					s.EndRequest()
				}
				if err := errors.Join(s.Add(kind, text(string(content))), s.Flush()); err != nil || kind == kindLast {
					return err
				}
			}
		})
		p := using(t, r.address, with)
		s := open(t, t.Context(), p)
		s.Add(kindTry, text("try"))
		s.EndTry()
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		if kind, content, err := s.Receive(); kind != kindTry || string(content) != "try" || err != nil {
			t.Fatal(kind, content, err)
		}
		for i := range 3 {
			piece := fmt.Sprint(i)
			if err := errors.Join(s.AddPiece(kindData, []byte(piece)), s.Flush()); err != nil {
				t.Fatal(err)
			}
			if kind, content, err := s.Receive(); kind != kindData || string(content) != piece || err != nil {
				t.Fatal(kind, content, err)
			}
		}
		piece := strings.Repeat("x", 10_000)
		const pieces = 500
		var sent sync.WaitGroup
		sent.Go(func() {
			for range pieces {
				if err := s.AddPiece(kindData, []byte(piece)); err != nil {
					t.Error(err)
				}
			}
			if err := errors.Join(s.AddLast(kindLast, nil), s.Flush()); err != nil {
				t.Error(err)
			}
		})
		got, err := receive(s)
		sent.Wait()
		if len(got) != pieces*len(piece) || !errors.Is(err, io.EOF) || s.Unsent() {
			t.Error(len(got), err, s.Unsent())
		}
	})
}

func TestHowACallEndsIsTold(t *testing.T) {
	ends := map[string]error{
		"in order": nil, "status": status.Error(codes.ResourceExhausted, "there is no room: ü\n"), "without text": status.Error(codes.Aborted, ""),
		"other": errors.New("no status"), "long": status.Error(codes.Internal, strings.Repeat("x", 2*readBuffer)),
	}
	onBoth(t, func(t *testing.T, server *tls.Config, with func(*PoolOptions)) {
		r := serve(t, server, func(s *ServerStream) error {
			_, body, err := take(s)
			if err != nil {
				return err
			}
			if err := s.Add(kindData, text("some")); err != nil {
				return err
			}
			return ends[body]
		})
		p := using(t, r.address, with)
		for name, want := range ends {
			s := open(t, t.Context(), p)
			ask(t, s, "", name)
			got, err := receive(s)
			if want == nil {
				if !errors.Is(err, io.EOF) {
					t.Errorf("%s: %v", name, err)
				}
			} else if st, like := status.Convert(err), status.Convert(want); st.Code() != like.Code() || st.Message() != like.Message() {
				t.Errorf("%s: %.100v", name, err)
			}
			if got != "some" || s.Unsent() {
				t.Errorf("%s: got %q, %v", name, got, s.Unsent())
			}
			s.Close()
		}
		// The connection is as good as before, whatever was said on it.
		if n := r.connections.Load(); n != 2 {
			t.Errorf("there were %d connections", n)
		}
	})
}

func TestEndOfTheContextEndsTheCallOnBothSides(t *testing.T) {
	onBoth(t, func(t *testing.T, server *tls.Config, with func(*PoolOptions)) {
		came, left := make(chan struct{}), make(chan error, 1)
		r := serve(t, server, func(s *ServerStream) error {
			if _, body, err := take(s); err != nil || body == "x" {
				return err
			}
			close(came)
			<-s.Context().Done()
			left <- s.Context().Err()
			_, _, err := s.Receive()
			if status.Code(err) != codes.Canceled {
				t.Error(err)
			}
			return err
		})
		p := using(t, r.address, with)
		ctx, cancel := context.WithCancel(t.Context())
		s := open(t, ctx, p)
		ask(t, s, "try", "wait")
		go func() { <-came; cancel() }()
		if got, err := receive(s); got != "" || status.Code(err) != codes.Unavailable {
			t.Error(got, err)
		}
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		s.Close()
		if open, resting, _ := counts(p); open != 0 || resting != 0 {
			t.Error(open, resting)
		}
		exchange(t, p, "x")
		if n := r.connections.Load(); n != 3 {
			t.Errorf("there were %d connections", n)
		}
	})
}

// The end of a context after its call does nothing to the next one on the connection.
func TestEndOfTheContextIsNothingToTheNextCall(t *testing.T) {
	r := serve(t, nil, echo)
	p := using(t, r.address, nil)
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		s := open(t, ctx, p)
		ask(t, s, "", "x")
		if _, err := receive(s); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		s.Close()
		cancel()
	}
	if n := r.connections.Load(); n != 2 {
		t.Errorf("there were %d connections", n)
	}
}

func TestManyCallsAtOneTime(t *testing.T) {
	onBoth(t, func(t *testing.T, server *tls.Config, with func(*PoolOptions)) {
		r := serve(t, server, echo)
		p := using(t, r.address, func(o *PoolOptions) {
			o.MaxConnections = 4
			if with != nil {
				with(o)
			}
		})
		var callers sync.WaitGroup
		var refused, done atomic.Int32
		for caller := range 8 {
			callers.Go(func() {
				for i := range 50 {
					s := p.Open(t.Context())
					if s == nil {
						refused.Add(1)
						continue
					}
					body := strings.Repeat(fmt.Sprintf("%d-%d ", caller, i), 1+i*20)
					ask(t, s, "try", body)
					if got, err := receive(s); got != "try:"+body || !errors.Is(err, io.EOF) {
						t.Errorf("got %d bytes instead of %d, %v", len(got), len(body)+4, err)
					}
					s.Close()
					done.Add(1)
				}
			})
		}
		callers.Wait()
		if n := r.connections.Load(); n > 5 || done.Load() == 0 {
			t.Errorf("%d calls, %d refused, %d connections", done.Load(), refused.Load(), n)
		}
	})
}
