package direct

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync"
	"time"

	"github.com/tinefn/tine/internal/hangup"
	"github.com/tinefn/tine/internal/sockio"
)

// Handler serves one call. The stream ends with its error, which is one of gRPC.
type Handler func(*ServerStream) error

// Server is the runner's side. It is given connections, and accepts none. It is safe
// for concurrent use.
type Server struct {
	handle Handler
	max    int            // bytes of a frame
	dead   time.Duration  // see NewServer
	serves sync.WaitGroup // connections

	mu    sync.Mutex          // guards the rest
	watch *hangup.Watch       // nil: there was no connection so far
	going bool                // calls are refused, no connection is used for another one
	open  map[net.Conn]func() // what gives the connection and its calls up
	links map[*serverLink]struct{}
	gone  chan struct{} // closed when going is set and there is no connection
	told  bool          // gone is closed
}

// NewServer returns a server with a limit for what load balancers send, and for how long
// one that has to acknowledge something may not do so; without limit if that is not
// positive. Drain and Close end it.
func NewServer(handle Handler, maxFrameBytes int, deadAfter time.Duration) *Server {
	return &Server{
		dead: deadAfter, handle: handle, max: maxFrameBytes, open: map[net.Conn]func(){}, links: map[*serverLink]struct{}{}, gone: make(chan struct{}),
	}
}

// greet reads the rest of a greeting of which something was read, and serves the
// connection, which is over the socket, on another goroutine. It is closed if it is not
// wanted.
func (s *Server) greet(c, socket net.Conn, greeting []byte) {
	n := len(greeting)
	greeting = append(greeting, make([]byte, len(greetCalls)-n)...)
	_, err := io.ReadFull(c, greeting[n:])
	serve, known := map[string]func(context.Context, net.Conn){greetCalls: s.serveCalls, greetLink: s.serveLink}[string(greeting)]
	s.mu.Lock()
	defer s.mu.Unlock()
	welcome := err == nil && known && !s.going
	if welcome && s.watch == nil {
		s.watch, err = hangup.New()
		welcome = err == nil
	}
	if !welcome {
		_ = c.Close() // nothing was promised: the load balancer uses gRPC
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.open[c] = func() {
		cancel()
		_ = socket.Close() // without a word by TLS, which may take seconds
	}
	setUserTimeout(socket, s.dead)
	s.serves.Go(func() {
		defer s.forget(c)
		serve(ctx, c)
	})
}

func (s *Server) forget(c net.Conn) {
	_ = c.Close() // what is left of it does not matter
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c]()
	delete(s.open, c)
	s.settleLocked()
}

func (s *Server) settleLocked() {
	if s.going && len(s.open) == 0 && !s.told {
		s.told = true
		close(s.gone)
	}
}

func (s *Server) isGoing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.going
}

// serveCalls serves one call after the other.
func (s *Server) serveCalls(ctx context.Context, c net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	unwatch, err := s.watch.Add(c, cancel)
	if err != nil {
		return // there are limits to what the kernel watches, and the load balancer has gRPC
	}
	defer unwatch()
	if _, err := io.WriteString(c, greetCalls); err != nil { // calls may come now
		return
	}
	stream := &ServerStream{framed: newFramed(sockio.New(c), s.max), ctx: ctx, below: c}
	for {
		if stream.await() != nil || !stream.begin() {
			return
		}
		err := s.handle(stream)
		if !stream.end(err, s.isGoing()) {
			stream.linger()
			return
		}
	}
}

// lingering is how long a load balancer may take to close a connection when it was told
// to. It may still be sending: closing at once would throw away what it was told.
const lingering = 2 * time.Second

// Drain refuses new connections from now on, and asks load balancers to close those that
// they have. The channel is closed when there are none.
func (s *Server) Drain() <-chan struct{} {
	s.mu.Lock()
	s.going = true
	links := make([]*serverLink, 0, len(s.links))
	for l := range s.links {
		links = append(links, l)
	}
	s.settleLocked()
	s.mu.Unlock()
	for _, l := range links {
		_ = l.tell(kindGoing) // who is not there any more has no need of it
	}
	return s.gone
}

// Close closes what connections are left, and waits for the end of their calls. Drain was
// called before.
func (s *Server) Close() {
	s.mu.Lock()
	for _, abort := range s.open {
		abort() // calls are cut off
	}
	s.mu.Unlock()
	s.serves.Wait()
	if s.watch != nil { // which does not change any more
		s.watch.Close()
	}
}

// serverLink is the connection that tells how the runner is.
type serverLink struct {
	mu sync.Mutex // guards writing
	framed
}

// linkWriting is how long a load balancer may take to take a frame.
const linkWriting = 10 * time.Second

func (l *serverLink) tell(kind byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.SetWriteDeadline(time.Now().Add(linkWriting)); err != nil {
		return err
	}
	l.add(kind, nil)
	_, err := l.flush()
	return err
}

// serveLink answers until the load balancer leaves.
func (s *Server) serveLink(_ context.Context, c net.Conn) {
	if _, err := io.WriteString(c, greetLink); err != nil {
		return
	}
	l := &serverLink{framed: framed{Conn: c, in: bufio.NewReaderSize(c, 64), max: s.max}}
	s.mu.Lock()
	going := s.going
	s.links[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.links, l)
	}()
	if going {
		_ = l.tell(kindGoing) // as Drain has not known it
	}
	for {
		kind, _, err := l.next()
		if err != nil {
			return
		}
		if kind == kindPing && l.tell(kindPing) != nil {
			return
		}
	}
}
