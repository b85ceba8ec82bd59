// Package syslog sends lines to syslog servers, in the form of RFC 5424. It
// never makes its callers wait and never fails them: lines are lost while a
// server cannot be reached, and counted.
//
// Read this file first: one server and the queue before it. conn.go makes
// connections, message.go the messages.
package syslog

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Bounds of one server's sender.
const (
	queueLines   = 1024             // lines that wait to be sent; further ones are lost
	writeTimeout = 5 * time.Second  // of one line
	dialTimeout  = 5 * time.Second  // of one attempt to connect
	firstPause   = time.Second      // after a failed attempt; each one after that is twice as long
	lastPause    = 30 * time.Second // at most
	idleTimeout  = 30 * time.Second // after which an unused connection is closed
)

// Hub has a sender for each server that somebody writes to. It is safe for
// concurrent use. Close ends it.
type Hub struct {
	host string // this machine's name, in the messages
	log  *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex // guards senders and their users
	senders map[string]*sender
}

// NewHub returns a hub without senders.
func NewHub(host string, log *slog.Logger) *Hub {
	ctx, cancel := context.WithCancel(context.Background())
	return &Hub{host: host, log: log, ctx: ctx, cancel: cancel, senders: map[string]*sender{}}
}

// Close gives up what is not sent yet and waits for the senders to end.
func (h *Hub) Close() {
	h.cancel()
	h.wg.Wait()
}

// Open returns a writer for the server at a URL such as udp://host:514. The
// server need not be there. All writers for one URL share a connection.
func (h *Hub) Open(url string) *Writer {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.senders[url]
	if s == nil {
		s = &sender{hub: h, url: url, lines: make(chan Line, queueLines), unused: make(chan struct{})}
		h.senders[url] = s
		h.wg.Go(s.run)
	}
	s.users++
	return &Writer{sender: s}
}

// Writer is one user of a server.
type Writer struct {
	sender *sender
	once   sync.Once
}

// Write queues a line, or drops it if too many wait.
func (w *Writer) Write(line Line) {
	select {
	case w.sender.lines <- line:
	default:
		w.sender.mu.Lock()
		w.sender.lost++
		w.sender.mu.Unlock()
	}
}

// Close ends the use. What was written is still sent, if the server takes it.
func (w *Writer) Close() {
	w.once.Do(func() {
		h := w.sender.hub
		h.mu.Lock()
		defer h.mu.Unlock()
		if w.sender.users--; w.sender.users == 0 {
			delete(h.senders, w.sender.url)
			close(w.sender.unused)
		}
	})
}

// sender has the connection to one server.
type sender struct {
	hub    *Hub
	url    string
	users  int // guarded by the hub's mutex
	lines  chan Line
	unused chan struct{} // closed when users is 0, for good

	mu   sync.Mutex // guards lost
	lost int

	conn  net.Conn // nil: not connected
	pause time.Duration
	retry time.Time // no attempt to connect before
}

// run sends what is queued until nobody writes any more.
func (s *sender) run() {
	defer s.reportLost()
	defer s.disconnect()
	idle := time.NewTimer(idleTimeout)
	defer idle.Stop()
	for {
		select {
		case line := <-s.lines:
			s.send(line)
			idle.Reset(idleTimeout)
		case <-idle.C:
			s.disconnect()
		case <-s.hub.ctx.Done():
			return
		case <-s.unused:
			for len(s.lines) > 0 && s.hub.ctx.Err() == nil {
				s.send(<-s.lines)
			}
			return
		}
	}
}

// send sends a line, or drops it while the server cannot be reached. A
// connection that was kept may have been closed by the server, so a line that
// fails on it is tried on a new one.
func (s *sender) send(line Line) {
	text := line.append(nil, s.hub.host)
	for range 2 {
		kept := s.conn != nil
		if !kept && !s.connect() {
			break
		}
		err := s.write(text)
		if err == nil {
			return
		}
		s.disconnect()
		if !kept {
			s.failed(err)
			break
		}
	}
	s.mu.Lock()
	s.lost++
	s.mu.Unlock()
}

func (s *sender) write(text []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := s.conn.Write(frame(s.conn, text))
	return err
}

// connect makes a connection, unless the last attempt failed a moment ago.
func (s *sender) connect() bool {
	if time.Now().Before(s.retry) {
		return false
	}
	ctx, cancel := context.WithTimeout(s.hub.ctx, dialTimeout)
	defer cancel()
	conn, err := dial(ctx, s.url)
	if err != nil {
		s.failed(err)
		return false
	}
	s.conn, s.pause = conn, 0
	s.reportLost()
	return true
}

// reportLost logs how many lines were lost since the last time.
func (s *sender) reportLost() {
	s.mu.Lock()
	lost := s.lost
	s.lost = 0
	s.mu.Unlock()
	if lost > 0 {
		s.hub.log.Warn("lines of functions did not reach syslog", slog.String("url", s.url), slog.Int("lines", lost))
	}
}

// failed puts the next attempt off.
func (s *sender) failed(err error) {
	s.pause = min(max(2*s.pause, firstPause), lastPause)
	s.retry = time.Now().Add(s.pause)
	s.hub.log.Warn("syslog cannot be reached, lines of functions are lost",
		slog.String("url", s.url), slog.Duration("retry_in", s.pause), slog.Any("error", err))
}

func (s *sender) disconnect() {
	if s.conn != nil {
		_ = s.conn.Close() // there is nothing to be done about it
		s.conn = nil
	}
}
