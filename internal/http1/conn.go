package http1

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tinefn/tine/internal/sockio"
	"github.com/tinefn/tine/invoke"
)

// conn is one connection of a client, as long as its requests are plain.
type conn struct {
	server *Server
	net.Conn
	accepted net.Conn // below it, for net/http
	remote   string
	template *http.Request // carries the context of all requests

	ctx    context.Context // ends when the client leaves
	cancel context.CancelFunc

	state    atomic.Int32
	deadline time.Time // for reading, as it is set now
	served   bool      // a request before
	base     []byte    // the buffer that the connection keeps
	in       []byte    // what has arrived and is not served yet, in base or in a larger buffer
	resp     response
}

// The states. Who wants to close an idle connection must win the move from
// idle against its next request. A connection that is reading has the beginning
// of one that neither the handler nor net/http has, which lasts bodyPatience and
// handOffPatience at most.
const (
	idle int32 = iota
	reading
	busy
	closed
)

func newConn(s *Server, accepted net.Conn) *conn {
	c := &conn{server: s, Conn: sockio.New(accepted), accepted: accepted, remote: accepted.RemoteAddr().String()}
	c.ctx, c.cancel = context.WithCancel(context.WithValue(context.Background(), http.LocalAddrContextKey, accepted.LocalAddr()))
	c.template = (&http.Request{}).WithContext(c.ctx)
	c.resp.conn = c
	return c
}

// closeIfIdle closes a connection that has no request.
func (c *conn) closeIfIdle() {
	if c.state.CompareAndSwap(idle, closed) {
		_ = c.Close() // serve returns from reading
	}
}

// abort closes the connection whatever it does. It does so before the handler
// learns of it, whose answer to that the client would take for the request's.
func (c *conn) abort() {
	c.state.Store(closed)
	_ = c.Close()
	c.cancel()
}

// buffers are for what connections read, of a size that holds most requests.
var buffers = sync.Pool{New: func() any { return new([4 << 10]byte) }}

// serve serves requests until one is not plain, or the connection ends.
func (c *conn) serve() {
	defer c.server.forget(c)
	defer c.cancel()
	buf := buffers.Get().(*[4 << 10]byte)
	defer buffers.Put(buf)
	c.base = buf[:0]
	c.in = c.base
	unwatch, err := c.server.watch.Add(c.Conn, c.cancel)
	if err != nil { // there are limits to what the kernel watches
		c.toNetHTTP()
		return
	}
	defer unwatch()
	for c.awaitRequest() {
		h, v := parse(c.in)
		if v == needsBody {
			v = c.awaitBody(h.bytes + h.body)
		}
		if v != plain {
			unwatch()
			c.toNetHTTP()
			return
		}
		if !c.state.CompareAndSwap(reading, busy) || !c.serveRequest(h) {
			break
		}
	}
	_ = c.Close()
}

// awaitRequest waits for the first bytes of a request; false means that none
// will come.
func (c *conn) awaitRequest() bool {
	if len(c.in) > 0 { // the client did not wait for the response before
		return c.state.CompareAndSwap(idle, reading)
	}
	c.setWaitDeadline()
	n, err := c.Read(c.in[:cap(c.in)])
	if n == 0 || err != nil {
		return false
	}
	c.in = c.in[:n]
	return c.state.CompareAndSwap(idle, reading)
}

// setWaitDeadline gives the client IdleTimeout for its next request, and
// ReadHeaderTimeout for its first. The former is not exact, because setting a
// deadline for each request costs more than it gains.
func (c *conn) setWaitDeadline() {
	timeout := c.server.std.IdleTimeout
	if !c.served {
		timeout = c.server.std.ReadHeaderTimeout
	}
	if timeout <= 0 {
		if !c.deadline.IsZero() {
			c.setReadDeadline(time.Time{})
		}
		return
	}
	now := time.Now()
	if left := c.deadline.Sub(now); left > timeout || left < timeout-timeout/8 {
		c.setReadDeadline(now.Add(timeout))
	}
}

// setReadDeadline can only fail on a connection that is closed, which reading
// finds out.
func (c *conn) setReadDeadline(deadline time.Time) {
	c.deadline = deadline
	_ = c.SetReadDeadline(deadline)
}

// bodyPatience is how long the rest of a small body may take. Clients that
// write head and body one after the other need microseconds; slow ones are for
// net/http, whose handlers have the limits for them.
const bodyPatience = 20 * time.Millisecond

// awaitBody reads until the request of so many bytes is whole.
func (c *conn) awaitBody(size int) verdict {
	if cap(c.in) < size {
		grown := make([]byte, len(c.in), size)
		copy(grown, c.in)
		c.in = grown
	}
	c.setReadDeadline(time.Now().Add(bodyPatience))
	for len(c.in) < size {
		n, err := c.Read(c.in[len(c.in):cap(c.in)])
		c.in = c.in[:len(c.in)+n]
		if err != nil {
			return notPlain // net/http finds the same error, if it lasts
		}
	}
	return plain
}

// handOffPatience is how long net/http may take to begin with a request. It needs
// microseconds, but that it has begun is seen only when the handler reads or writes.
const handOffPatience = time.Second

// toNetHTTP lets net/http go on with the connection, from the first byte that
// was not served, and waits until it has begun: before that, it would drop the
// request if it were shut down.
func (c *conn) toNetHTTP() {
	c.setReadDeadline(time.Time{})
	r := &replayed{Conn: c.accepted, early: bytes.Clone(c.in), begun: make(chan struct{})}
	if !c.server.handOff.give(r) {
		_ = c.Close()
		return
	}
	if len(c.in) == 0 { // there is no request
		return
	}
	late := time.NewTimer(handOffPatience)
	defer late.Stop()
	select {
	case <-r.begun:
	case <-late.C:
	}
}

// replayed is a connection of which something was read already. Whatever net/http
// does with it after its first Read, which has the head of the request, shows that
// it goes on with that.
type replayed struct {
	net.Conn
	early []byte
	reads bool // there was a Read, of which there is one at a time

	once  sync.Once
	begun chan struct{} // closed when net/http has gone on
}

func (r *replayed) goOn() { r.once.Do(func() { close(r.begun) }) }

func (r *replayed) Read(p []byte) (int, error) {
	if r.reads {
		r.goOn()
	}
	r.reads = true
	if len(r.early) > 0 {
		n := copy(p, r.early)
		r.early = r.early[n:]
		return n, nil
	}
	return r.Conn.Read(p)
}

func (r *replayed) Write(p []byte) (int, error) {
	r.goOn()
	return r.Conn.Write(p)
}

func (r *replayed) Close() error {
	r.goOn()
	return r.Conn.Close()
}

// CloseWrite ends only the server's side, so that a client that still sends can
// read its answer.
func (r *replayed) CloseWrite() error {
	if half, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// ReadFrom lets the kernel copy, as it does for connections that were not
// replayed.
func (r *replayed) ReadFrom(src io.Reader) (int64, error) {
	r.goOn()
	return io.Copy(r.Conn, src)
}

// serveRequest serves the request at the beginning of c.in. False means that
// the connection cannot carry another one.
func (c *conn) serveRequest(h head) (goOn bool) {
	request := *c.template
	request.Method, request.URL, request.RequestURI = h.request.Method, h.request.URL, h.request.RequestURI
	request.Proto, request.ProtoMajor, request.ProtoMinor = h.request.Proto, h.request.ProtoMajor, h.request.ProtoMinor
	request.Header, request.Host, request.Close = h.request.Header, h.request.Host, h.request.Close
	request.ContentLength, request.RemoteAddr = h.request.ContentLength, c.remote
	request.Body = http.NoBody
	if h.body > 0 { // a copy, because handlers may hold on to it
		request.Body = invoke.HoldBody(bytes.Clone(c.in[h.bytes : h.bytes+h.body]))
	}
	rest := c.in[h.bytes+h.body:]
	if len(rest) <= cap(c.base) {
		c.in = c.base
	}
	c.in = append(c.in[:0], rest...)
	c.served = true

	if timeout := c.server.std.WriteTimeout; timeout > 0 {
		_ = c.SetWriteDeadline(time.Now().Add(timeout)) // as for reading
	}
	c.resp.begin(request.Close)
	if !c.handle(&request) || !c.resp.finish(c.server.closing.Load()) {
		return false
	}
	// Shutdown may have begun, and passed this connection over as busy.
	return c.state.CompareAndSwap(busy, idle) && !c.server.closing.Load()
}

// handle runs the handler. False means that it gave the response up.
func (c *conn) handle(request *http.Request) (done bool) {
	defer func() {
		cause := recover()
		if cause == nil {
			return
		}
		done = false
		if err, ok := cause.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
			c.server.logf("http1: panic serving %s: %v\n%s", c.remote, cause, debug.Stack())
		}
	}()
	c.server.std.Handler.ServeHTTP(&c.resp, request)
	return true
}
