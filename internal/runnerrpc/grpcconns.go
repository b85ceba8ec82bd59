package runnerrpc

import (
	"context"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
)

// grpcConns are a runner's connections of gRPC. gRPC tells nobody when the end of a
// stream was written: a handler has returned, and its context has ended, while up to 64
// KiB and the end of the answer wait for a load balancer that is slow to take them. But
// it closes a connection that it drains as soon as all of that has gone out, so a
// stopping runner waits for the end of connections that have carried calls.
type grpcConns struct {
	mu       sync.Mutex            // guards the rest
	carried  map[*net.TCPAddr]bool // a call, by the address of the load balancer's side, which is an object of its own
	carriers int                   // those that have
	awaited  chan struct{}         // closed when there are none; nil: nobody waits
}

// carry notes that a call came on its connection.
func (g *grpcConns) carry(ctx context.Context) {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return
	}
	remote, ok := p.Addr.(*net.TCPAddr)
	if !ok {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if carried, open := g.carried[remote]; open && !carried {
		g.carried[remote] = true
		g.carriers++
	}
}

// count is the number of connections that have carried a call.
func (g *grpcConns) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.carriers
}

// none is closed when no connection is left that has carried a call. It is asked for once.
func (g *grpcConns) none() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	none := make(chan struct{})
	g.awaited = none
	g.settleLocked()
	return none
}

func (g *grpcConns) settleLocked() {
	if g.carriers == 0 && g.awaited != nil {
		close(g.awaited)
		g.awaited = nil
	}
}

func (g *grpcConns) add(remote *net.TCPAddr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.carried == nil {
		g.carried = map[*net.TCPAddr]bool{}
	}
	g.carried[remote] = false
}

func (g *grpcConns) remove(remote *net.TCPAddr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.carried[remote] {
		g.carriers--
	}
	delete(g.carried, remote)
	g.settleLocked()
}

// knownCredentials have grpcConns know all connections.
type knownCredentials struct {
	credentials.TransportCredentials
	conns *grpcConns
}

func (k *knownCredentials) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := k.TransportCredentials.ServerHandshake(c)
	if err != nil {
		return secured, info, err
	}
	remote, ok := secured.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return secured, info, nil
	}
	k.conns.add(remote)
	return &knownConn{Conn: secured, remote: remote, conns: k.conns}, info, nil
}

func (k *knownCredentials) Clone() credentials.TransportCredentials {
	return &knownCredentials{k.TransportCredentials.Clone(), k.conns}
}

// knownConn tells grpcConns of its end.
type knownConn struct {
	net.Conn
	remote *net.TCPAddr
	conns  *grpcConns
}

// RemoteAddr is what gRPC tells of a stream's connection: always the same object.
func (k *knownConn) RemoteAddr() net.Addr { return k.remote }

func (k *knownConn) Close() error {
	k.conns.remove(k.remote)
	return k.Conn.Close()
}
