package direct

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// patience is for what takes a moment.
	patience = 10 * time.Second
	// moment is for what must not happen.
	moment = 20 * time.Millisecond
	// maxFrame is the limit of both sides in tests.
	maxFrame = 1 << 20
)

// The kinds of frames that tests send.
const (
	kindTry  byte = 't'
	kindData byte = 'd'
	kindLast byte = 'l'
)

// counted counts the connections that it accepts.
type counted struct {
	net.Listener
	connections atomic.Int32
}

func (c *counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.connections.Add(1)
	}
	return conn, err
}

func listen(t testing.TB) *counted {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &counted{Listener: listener}
}

// runner is a Server that shares the port of a gRPC server.
type runner struct {
	*Server
	*counted
	address string
	stop    func() // cuts everything off; the test's end does it too
}

func serve(t testing.TB, config *tls.Config, handle Handler) *runner {
	t.Helper()
	r := &runner{Server: NewServer(handle, maxFrame, 0), counted: listen(t)}
	r.address = r.Addr().String()
	over := grpc.NewServer(grpc.Creds(Credentials(config, r.Server)))
	served := make(chan error, 1)
	go func() { served <- over.Serve(r.counted) }()
	r.stop = sync.OnceFunc(func() {
		r.Drain()
		over.Stop()
		r.Server.Close()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // if it was stopped before it began
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// Close is the Server's.
func (r *runner) Close() { r.Server.Close() }

// fake is a runner whose connections are served by a function, which need not close them.
// They are closed when the test ends.
func fake(t testing.TB, serve func(net.Conn)) *counted {
	t.Helper()
	listener := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	var ends sync.WaitGroup
	ends.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(ctx, func() { conn.Close() })
			ends.Go(func() { serve(conn) })
		}
	})
	t.Cleanup(func() {
		cancel()
		listener.Close()
		ends.Wait()
	})
	return listener
}

// greeted exchanges greetings, and says whether the connection is for calls.
func greeted(c net.Conn) (calls bool, err error) {
	greeting := make([]byte, len(greetCalls))
	_, err = io.ReadFull(c, greeting)
	if err == nil {
		_, err = c.Write(greeting)
	}
	return string(greeting) == greetCalls, err
}

// linked serves links in order, and connections for calls with a function.
func linked(serve func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		if calls, err := greeted(c); err != nil || calls {
			serve(c)
			return
		}
		_, _ = io.Copy(c, c) // pings come back
	}
}

// pool returns a pool for a runner, with what is changed of its options.
func pool(t testing.TB, address string, change func(*PoolOptions)) *Pool {
	t.Helper()
	opts := PoolOptions{
		Address: address, ConnectTimeout: patience, MaxFrameBytes: maxFrame, MaxConnections: 10,
		PingInterval: patience, PingTimeout: patience,
	}
	if change != nil {
		change(&opts)
	}
	p := NewPool(opts)
	p.firstPause = 0 // tests try again at once
	t.Cleanup(p.Close)
	return p
}

// using returns a pool that has a link.
func using(t testing.TB, address string, change func(*PoolOptions)) *Pool {
	t.Helper()
	p := pool(t, address, change)
	p.Use()
	eventually(t, "linking", func() bool { return hasLink(p) })
	return p
}

func hasLink(p *Pool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link != nil
}

// counts are the numbers of a pool's connections.
func counts(p *Pool) (open, resting, dialing int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open), len(p.resting), p.dialing
}

// eventually waits for what takes a moment.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what + " takes too long")
		}
	}
}

// open opens a stream that the test closes at its end.
func open(t testing.TB, ctx context.Context, p *Pool) *Stream {
	t.Helper()
	s := p.Open(ctx)
	if s == nil {
		t.Fatal("there is no stream")
	}
	t.Cleanup(s.Close)
	return s
}

// text is content that is appended to a frame.
func text(of string) func([]byte) []byte {
	return func(b []byte) []byte { return append(b, of...) }
}

// ask sends a whole request in one go.
func ask(t testing.TB, s *Stream, try, body string) {
	t.Helper()
	if n := s.Add(kindTry, text(try)); n != len(try) {
		t.Errorf("a try of %d bytes has %d", len(try), n)
	}
	s.EndTry()
	if err := s.AddLast(kindLast, []byte(body)); err != nil {
		t.Error(err)
	}
	if err := s.FlushLater(); err != nil {
		t.Error(err)
	}
}

// receive receives to the end of a stream, which is err.
func receive(s *Stream) (got string, err error) {
	var all strings.Builder
	for {
		_, content, err := s.Receive()
		if err != nil {
			return all.String(), err
		}
		all.Write(content)
	}
}

// exchange is a whole call.
func exchange(t testing.TB, p *Pool, body string) string {
	t.Helper()
	s := open(t, t.Context(), p)
	ask(t, s, "try", body)
	got, err := receive(s)
	if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	s.Close()
	return got
}

// take receives a request to its end.
func take(s *ServerStream) (try, body string, err error) {
	for {
		kind, content, err := s.Receive()
		if err != nil {
			return try, body, err
		}
		if kind == kindTry {
			try = string(content)
			continue
		}
		body += string(content)
		if kind == kindLast {
			s.EndRequest()
			return try, body, nil
		}
	}
}

// echo answers with what came.
func echo(s *ServerStream) error {
	try, body, err := take(s)
	if err != nil {
		return err
	}
	return errors.Join(s.Add(kindTry, text(try+":")), s.Add(kindData, text(body)))
}

// secured are the configurations of a runner and of its load balancers.
func secured(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}}, &tls.Config{RootCAs: roots}
}

// onBoth runs a test without TLS and with it.
func onBoth(t *testing.T, run func(t *testing.T, server *tls.Config, with func(*PoolOptions))) {
	t.Helper()
	t.Run("plain", func(t *testing.T) { run(t, nil, nil) })
	t.Run("TLS", func(t *testing.T) {
		server, client := secured(t)
		run(t, server, func(o *PoolOptions) { o.TLS = client })
	})
}
