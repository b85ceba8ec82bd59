package direct

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/tinefn/tine/internal/sockio"
)

// PoolOptions configures a [Pool].
type PoolOptions struct {
	Address        string        // host:port
	TLS            *tls.Config   // nil: none
	ConnectTimeout time.Duration // of one connection
	MaxFrameBytes  int           // of what the runner sends

	// MaxConnections bounds those for calls. 0: there are none.
	MaxConnections int

	// PingInterval is after how long a runner is asked whether it is there, and
	// PingTimeout how long it may take to answer. It is not asked if the former is not
	// positive.
	PingInterval, PingTimeout time.Duration
}

// Pool is what a load balancer has of connections to one runner. It has none before
// Use. It is safe for concurrent use.
type Pool struct {
	opts PoolOptions
	tls  *tls.Config

	running    context.Context // ends when Close begins
	stop       context.CancelFunc
	runs       sync.WaitGroup // goroutines of the link
	firstPause time.Duration  // firstPause, but for tests

	mu       sync.Mutex // guards the rest
	linking  bool       // a link is being made, or there is one
	link     *link      // nil: there is none, and no connection is used for another call
	leaving  *link      // of a runner that will end, and has calls
	closed   bool
	resting  []*conn // without a call; the one that was used last is the last
	open     map[*conn]struct{}
	dialing  int           // connections that will be in open
	pause    time.Duration // after the last failure; 0: the last attempt has succeeded
	notUntil time.Time     // no connection is made before
}

// The pause after a connection could not be made, which doubles with each failure.
const (
	firstPause = time.Second
	lastPause  = time.Minute
)

// failedLocked notes that the other way is to be used for a while. Calls that fail
// together have failed once: a runner that has restarted meanwhile would be taken for one
// that fails for long.
func (p *Pool) failedLocked() {
	if time.Now().Before(p.notUntil) {
		return
	}
	p.pause = min(max(2*p.pause, p.firstPause), lastPause)
	p.notUntil = time.Now().Add(p.pause)
}

// Declined notes that a runner was asked whether it knows this format, and has not said
// so: it is not asked again at once.
func (p *Pool) Declined() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failedLocked()
}

// conn is a connection for calls.
type conn struct {
	framed
	pool   *Pool
	below  *sockio.Conn // its socket
	memory any          // of the user
	since  time.Time    // it rests; of the pool
	lost   error        // why the pool has closed it; guarded by the pool
}

// NewPool returns a pool. Close ends it.
func NewPool(opts PoolOptions) *Pool {
	p := &Pool{opts: opts, open: map[*conn]struct{}{}, firstPause: firstPause}
	p.running, p.stop = context.WithCancel(context.Background())
	if opts.TLS != nil {
		p.tls = opts.TLS.Clone()
		p.tls.NextProtos = []string{ALPN}
		if p.tls.ServerName == "" {
			p.tls.ServerName, _, _ = net.SplitHostPort(opts.Address)
		}
	}
	return p
}

// Wanted reports whether Use would do something: the pool has no link, and may have
// one.
func (p *Pool) Wanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mayLinkLocked()
}

func (p *Pool) mayLinkLocked() bool {
	return p.opts.MaxConnections > 0 && !p.linking && !p.closed && !time.Now().Before(p.notUntil)
}

// Use begins to use connections to a runner that has said that it knows this format.
// Until that has succeeded, Open opens none.
func (p *Pool) Use() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mayLinkLocked() {
		p.linking = true
		p.runs.Go(p.runLink)
	}
}

// Open returns a stream for one call, or nil if it has to go another way: there is no
// link, there are too many connections, or no other one can be made. The context is
// the call's: when it ends the connection is closed.
func (p *Pool) Open(ctx context.Context) *Stream {
	for {
		c, dial := p.take()
		if dial {
			c = p.dialOne(ctx)
		}
		if c == nil {
			return nil
		}
		if dial || c.isQuiet() {
			return newStream(ctx, c)
		}
		p.discard(c)
	}
}

// take returns a resting connection, or says that another one is to be made.
func (p *Pool) take() (c *conn, dial bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link == nil {
		return nil, false
	}
	if last := len(p.resting) - 1; last >= 0 {
		c, p.resting[last] = p.resting[last], nil
		p.resting = p.resting[:last]
		return c, false
	}
	if len(p.open)+p.dialing >= p.opts.MaxConnections || p.pause > 0 && time.Now().Before(p.notUntil) {
		return nil, false
	}
	p.dialing++
	return nil, true
}

// dialOne makes another connection, nil if that fails: the other way finds out why.
func (p *Pool) dialOne(ctx context.Context) *conn {
	made, err := p.connect(ctx, greetCalls)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialing--
	if err != nil {
		if ctx.Err() == nil {
			p.failedLocked()
		}
		return nil
	}
	p.pause = 0
	below, ok := socketOf(made)
	if !ok || p.link == nil {
		_ = made.Close() // nothing was sent yet
		return nil
	}
	c := &conn{framed: newFramed(sockio.New(made), p.opts.MaxFrameBytes), pool: p, below: below}
	p.open[c] = struct{}{}
	return c
}

// connect makes a connection to the runner that it has accepted, so that it does not
// throw away what is sent.
func (p *Pool) connect(ctx context.Context, greeting string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.opts.ConnectTimeout)
	defer cancel()
	var dialer net.Dialer
	plain, err := dialer.DialContext(ctx, "tcp", p.opts.Address)
	if err != nil {
		return nil, err
	}
	unhook := context.AfterFunc(ctx, func() { _ = plain.Close() }) // what waits for it fails
	c, err := p.greet(ctx, plain, greeting)
	if !unhook() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	return c, nil
}

// greet secures a connection if it is to be, and exchanges greetings.
func (p *Pool) greet(ctx context.Context, c net.Conn, greeting string) (net.Conn, error) {
	if p.tls != nil {
		secured := tls.Client(c, p.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		if got := secured.ConnectionState().NegotiatedProtocol; got != ALPN {
			return nil, fmt.Errorf("the runner wants to speak %q, not %q", got, ALPN)
		}
		c = secured
	}
	if _, err := io.WriteString(c, greeting); err != nil {
		return nil, err
	}
	answer := make([]byte, len(greeting))
	if _, err := io.ReadFull(c, answer); err != nil {
		return nil, err
	}
	if string(answer) != greeting {
		return nil, fmt.Errorf("the runner has answered with %q", answer)
	}
	return c, nil
}

// socketOf is the socket below a connection.
func socketOf(c net.Conn) (*sockio.Conn, bool) {
	if secured, ok := c.(*tls.Conn); ok {
		c = secured.NetConn()
	}
	socket, ok := sockio.New(c).(*sockio.Conn)
	return socket, ok
}

// isQuiet reports whether a resting connection is open and has nothing to read. What
// is there cannot be an answer to what was not asked yet: the runner has ended.
func (c *conn) isQuiet() bool { return c.in.Buffered() == 0 && c.below.IsQuiet() }

// putBack keeps a connection for the next call.
func (p *Pool) putBack(c *conn) {
	p.mu.Lock()
	keep := p.link != nil && c.lost == nil
	if keep {
		c.since = time.Now()
		p.resting = append(p.resting, c)
	}
	p.mu.Unlock()
	if !keep {
		p.discard(c)
	}
}

// discard gives a connection up.
func (p *Pool) discard(c *conn) {
	p.mu.Lock()
	delete(p.open, c)
	left := p.leaving
	if len(p.open) > 0 {
		left = nil
	}
	p.mu.Unlock()
	c.abort()
	if left != nil {
		_ = left.Close() // nobody need know any more how the runner is
	}
}

// abort closes a connection at once. With TLS it does not say so before, which takes
// seconds if the other side does not read.
func (c *conn) abort() { _ = c.below.Close() }

// cause is why the pool has closed a connection, nil if it has not.
func (p *Pool) cause(c *conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return c.lost
}

// trim closes connections that have rested since a time.
func (p *Pool) trim(since time.Time) {
	p.mu.Lock()
	count, _ := slices.BinarySearchFunc(p.resting, since, func(c *conn, t time.Time) int { return c.since.Compare(t) })
	old := slices.Clone(p.resting[:count])
	p.resting = slices.Delete(p.resting, 0, count)
	p.mu.Unlock()
	for _, c := range old {
		p.discard(c)
	}
}

// leave is for a runner that will end: no other call is made, and resting connections are
// closed. It reports whether there are calls for which the link has to stay.
func (p *Pool) leave(l *link) (stay bool) {
	p.mu.Lock()
	p.link = nil
	closing := p.resting
	p.resting = nil
	stay = len(p.open) > len(closing)
	if stay {
		p.leaving = l
	}
	p.mu.Unlock()
	for _, c := range closing {
		p.discard(c)
	}
	return stay
}

// unlinked is after the end of the link: resting connections are closed. Those with a
// call too if the runner was lost.
func (p *Pool) unlinked(lost error) {
	p.mu.Lock()
	p.link, p.leaving, p.linking = nil, nil, false
	closing := p.resting
	p.resting = nil
	if lost != nil {
		closing = closing[:0]
		for c := range p.open {
			c.lost = lost
			closing = append(closing, c)
		}
	}
	p.mu.Unlock()
	for _, c := range closing {
		p.discard(c)
	}
}

// errPoolClosed is why connections were closed that had a call.
var errPoolClosed = errors.New("it is not used any more")

// Close closes all connections, those with calls too, and waits for the pool's
// goroutines.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
	p.runs.Wait()
	p.unlinked(errPoolClosed)
}
