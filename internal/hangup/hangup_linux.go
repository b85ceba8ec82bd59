// Package hangup tells when the other side of a connection has closed it, also while
// nobody reads from the connection.
package hangup

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Watch tells when clients close their side of a connection, also while a
// handler works and nobody reads from it. The kernel reports a connection once,
// at that moment; until then watching it costs nothing. It is safe for concurrent use.
type Watch struct {
	epoll int
	wake  int // an eventfd: written to, the watching ends
	ended chan struct{}
	once  sync.Once // for Close

	mu     sync.Mutex // guards the rest
	next   uint64
	leaves map[uint64]func() // what to do when a client leaves
}

// wakeID is the number of the eventfd among the connections.
const wakeID = 0

// New returns a watch. Close ends it.
func New() (*Watch, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch connections: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch connections: %w", err), unix.Close(epoll))
	}
	w := &Watch{epoll: epoll, wake: wake, ended: make(chan struct{}), next: wakeID + 1, leaves: map[uint64]func(){}}
	if err := w.register(wake, unix.EPOLLIN, wakeID); err != nil {
		return nil, errors.Join(fmt.Errorf("watch connections: %w", err), unix.Close(wake), unix.Close(epoll))
	}
	go w.run() // Close waits for it
	return w, nil
}

// register has the number in the field that the kernel hands back untouched.
func (w *Watch) register(fd int, events uint32, id uint64) error {
	event := unix.EpollEvent{Events: events, Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))} //nolint:gosec // the bits count
	return unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &event)
}

// Add calls left, from another goroutine, when the client closes its side. The
// caller calls unwatch before it closes the connection or gives it away. The error
// is of a connection that has no descriptor, or of the kernel, which has limits.
func (w *Watch) Add(c net.Conn, left func()) (unwatch func(), err error) {
	own, ok := c.(syscall.Conn)
	if !ok {
		return nil, errors.New("the connection has no descriptor")
	}
	raw, err := own.SyscallConn()
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	id := w.next
	w.next++
	w.leaves[id] = left
	w.mu.Unlock()
	var ctlErr error
	err = raw.Control(func(fd uintptr) {
		ctlErr = w.register(int(fd), unix.EPOLLRDHUP|unix.EPOLLET&0xffffffff, id)
	})
	unwatch = func() {
		w.mu.Lock()
		delete(w.leaves, id)
		w.mu.Unlock()
	}
	if err = errors.Join(err, ctlErr); err != nil {
		unwatch()
	}
	return unwatch, err
}

func (w *Watch) run() {
	defer close(w.ended)
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(w.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return // closed
		}
		for _, event := range events[:max(n, 0)] {
			id := uint64(uint32(event.Fd)) | uint64(uint32(event.Pad))<<32
			if id == wakeID {
				return
			}
			w.mu.Lock()
			left := w.leaves[id]
			delete(w.leaves, id)
			w.mu.Unlock()
			if left != nil {
				left()
			}
		}
	}
}

// Close ends the watching and waits for calls of left.
func (w *Watch) Close() {
	w.once.Do(func() { // the second time, the descriptors would be those of others
		_, _ = unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // it has room
		<-w.ended
		_, _ = unix.Close(w.wake), unix.Close(w.epoll)
	})
}
