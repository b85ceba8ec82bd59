package direct

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// link is the connection by which a load balancer knows how the runner is. While the
// link is there, connections for calls are used.
type link struct {
	framed
	asked atomic.Bool // and not answered yet
}

// restTime is how long a connection for calls may rest, about, if the runner is not
// asked whether it is there: connections are looked through when it is.
const restTime = time.Minute

// runLink makes the link and waits for its end.
func (p *Pool) runLink() {
	made, err := p.connect(p.running, greetLink)
	if err != nil {
		p.unlinked(nil) // and made again when a call has shown that the runner is there
		p.mu.Lock()
		defer p.mu.Unlock()
		p.failedLocked()
		return
	}
	l := &link{framed: newFramed(made, p.opts.MaxFrameBytes)}
	unhook := context.AfterFunc(p.running, func() { _ = l.Close() }) // which ends reading
	defer func() {
		unhook()
		_ = l.Close() // nothing is lost with it
	}()
	if err := l.ping(p.opts.PingTimeout); err != nil {
		p.unlinked(nil)
		return
	}
	ended := make(chan struct{})
	defer close(ended)
	lost := p.follow(l, ended)
	p.unlinked(lost)
}

// follow reads what the runner says until the link ends. The error says that the
// runner was lost.
func (p *Pool) follow(l *link, ended <-chan struct{}) error {
	for up := false; ; {
		kind, _, err := l.next()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && up:
			return fmt.Errorf("it does not answer within %v", p.opts.PingTimeout)
		case err != nil:
			return nil // connections with calls have an end of their own
		case kind == kindGoing:
			if !p.leave(l) {
				return nil
			}
			continue
		case kind != kindPing:
			continue // of a later version
		}
		if err := l.SetReadDeadline(time.Time{}); err != nil {
			return nil
		}
		l.asked.Store(false)
		if up {
			continue
		}
		up = true
		p.mu.Lock()
		closed := p.closed
		if !closed {
			p.link, p.pause = l, 0
		}
		p.mu.Unlock()
		if closed {
			return nil
		}
		p.runs.Go(func() { p.tend(l, ended) })
	}
}

// tend asks whether the runner is there, and closes connections that have rested for
// long.
func (p *Pool) tend(l *link, ended <-chan struct{}) {
	interval := p.opts.PingInterval
	asks := interval > 0
	if !asks {
		interval = restTime
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ended:
			return
		case now := <-ticker.C:
			p.trim(now.Add(-max(interval, restTime)))
			if asks && l.ping(p.opts.PingTimeout) != nil {
				return // reading finds out
			}
		}
	}
}

// ping asks whether the runner is there, unless it has not answered yet. Reading fails
// if there is no answer in time. It is used by one goroutine at a time.
func (l *link) ping(timeout time.Duration) error {
	if l.asked.Swap(true) {
		return nil
	}
	deadline := time.Now().Add(timeout)
	if err := errors.Join(l.SetReadDeadline(deadline), l.SetWriteDeadline(deadline)); err != nil {
		return err
	}
	l.add(kindPing, nil)
	_, err := l.flush()
	return err
}
