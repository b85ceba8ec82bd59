// Package http1 is a server for many small requests. What most requests are, a
// plain HTTP/1.1 message that arrives in one piece, it serves by itself with
// little work; a connection that brings anything else it hands to net/http,
// which serves it from then on. Handlers see the same either way.
//
// What it saves, against net/http, is a goroutine for each request that
// watches for the client's leaving, half of the garbage and most deadlines: a
// third of the processor time that the server spends on a warm call.
//
// Read this file first, then conn.go (a connection's requests), parse.go (what
// is plain) and response.go (answers). Package hangup tells of clients that leave.
package http1

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tinefn/tine/internal/hangup"
)

// Server serves HTTP. Serve it once.
type Server struct {
	std     *http.Server // serves what is not plain; its settings hold for both
	handOff *handOff
	watch   *hangup.Watch

	closing atomic.Bool // changes with mu held

	mu       sync.Mutex // guards the rest
	listener net.Listener
	conns    map[*conn]struct{}
	serving  sync.WaitGroup // connections, and the hand-off
}

// New returns a server with the handler and the settings of std. Of those,
// ReadTimeout, ConnState and ConnContext are not honoured for plain requests.
func New(std *http.Server) (*Server, error) {
	s := &Server{std: std, conns: map[*conn]struct{}{}}
	watch, err := hangup.New()
	if err != nil {
		return nil, err
	}
	s.watch = watch
	s.handOff = &handOff{conns: make(chan net.Conn), done: make(chan struct{})}
	return s, nil
}

// Pauses after a failed accept, for lack of descriptors or memory.
const (
	firstAcceptPause = 5 * time.Millisecond
	lastAcceptPause  = time.Second
)

// Serve accepts connections until Shutdown or Close, after which it returns
// http.ErrServerClosed, or until the listener fails. It closes the listener.
func (s *Server) Serve(listener net.Listener) error {
	defer func() { _ = listener.Close() }()
	s.mu.Lock()
	if s.closing.Load() {
		s.mu.Unlock()
		return http.ErrServerClosed
	}
	s.listener = listener
	s.handOff.addr = listener.Addr()
	s.serving.Go(func() { _ = s.std.Serve(s.handOff) }) // ends with the hand-off
	s.mu.Unlock()
	for pause := firstAcceptPause; ; {
		accepted, err := listener.Accept()
		switch {
		case err == nil:
			pause = firstAcceptPause
			s.start(accepted)
		case s.closing.Load():
			return http.ErrServerClosed
		case mayPass(err):
			s.logf("http1: accept: %v; again in %v", err, pause)
			time.Sleep(pause)
			pause = min(2*pause, lastAcceptPause)
		default:
			return err
		}
	}
}

// mayPass tells a lack of something from a listener that is broken.
func mayPass(err error) bool {
	for _, passing := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR, syscall.EAGAIN,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// start serves a connection on a goroutine of its own.
func (s *Server) start(accepted net.Conn) {
	c := newConn(s, accepted)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		_ = accepted.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.serving.Go(c.serve)
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Shutdown accepts no more connections, closes those without a request, and
// waits until the others have their responses or ctx ends. What is left then is
// for Close.
func (s *Server) Shutdown(ctx context.Context) error {
	s.beginClosing((*conn).closeIfIdle)
	s.awaitRead(ctx)           // requests that net/http may have to serve
	err := s.std.Shutdown(ctx) // which closes the hand-off
	ended := make(chan struct{})
	go func() { // ends with the last connection, at the latest after Close
		s.serving.Wait()
		s.watch.Close()
		close(ended)
	}()
	select {
	case <-ended:
		return err
	case <-ctx.Done():
		return errors.Join(err, ctx.Err())
	}
}

// readingPoll is how often Shutdown looks whether requests are read.
const readingPoll = time.Millisecond

// awaitRead waits until no connection is reading, or ctx ends. None begins any
// more: after its response, a connection is closed.
func (s *Server) awaitRead(ctx context.Context) {
	for s.isReading() && ctx.Err() == nil {
		time.Sleep(readingPoll)
	}
}

// isReading reports whether a connection has the beginning of a request.
func (s *Server) isReading() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.state.Load() == reading {
			return true
		}
	}
	return false
}

// Close ends all connections at once.
func (s *Server) Close() error {
	s.beginClosing((*conn).abort)
	return s.std.Close()
}

func (s *Server) beginClosing(end func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing.Store(true)
	if s.listener != nil {
		_ = s.listener.Close() // Serve returns
	}
	for c := range s.conns {
		end(c)
	}
}

func (s *Server) logf(format string, args ...any) {
	if s.std.ErrorLog != nil {
		s.std.ErrorLog.Printf(format, args...)
		return
	}
	log.Printf(format, args...)
}

// handOff is the listener by which net/http gets its connections.
type handOff struct {
	conns chan net.Conn
	addr  net.Addr

	once sync.Once
	done chan struct{} // closed by Close
}

// give reports whether net/http took the connection.
func (h *handOff) give(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.done:
		return false
	}
}

func (h *handOff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handOff) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handOff) Addr() net.Addr { return h.addr }
