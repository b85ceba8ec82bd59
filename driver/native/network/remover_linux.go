package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// removeWorkers is how many pairs are removed at a time. The kernel does one
// after the other but for the end of each, in which it waits for processors to
// let go of the interface.
const removeWorkers = 4

// A removal that fails is repeated after a pause, which doubles from the first
// to the last.
const (
	firstRemovePause = 50 * time.Millisecond
	lastRemovePause  = 5 * time.Second
)

// removal is an interface that is to go.
type removal struct {
	index int
	name  string
	after func() // called once, when it is gone or given up
}

// remover removes interfaces in the background. Its goroutines live as long as
// there is work. It is safe for concurrent use.
type remover struct {
	log    *slog.Logger
	ctx    context.Context // ends when removals are given up
	cancel context.CancelFunc

	mu      sync.Mutex // guards the rest
	queue   []removal
	workers int
	idle    chan struct{} // closed when the last worker ends; nil if nobody waits
	failed  error         // of the first removal that was given up
}

func newRemover(log *slog.Logger) *remover {
	r := &remover{log: log}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// remove begins to remove an interface, and returns at once.
func (r *remover) remove(item removal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = append(r.queue, item)
	if r.workers < removeWorkers {
		r.workers++
		go r.work()
	}
}

// work removes until nothing is left.
func (r *remover) work() {
	var handle *netlink.Handle
	defer func() {
		if handle != nil {
			handle.Close()
		}
	}()
	for {
		r.mu.Lock()
		if len(r.queue) == 0 {
			r.workers--
			if r.workers == 0 && r.idle != nil {
				close(r.idle)
				r.idle = nil
			}
			r.mu.Unlock()
			return
		}
		item := r.queue[0]
		r.queue = r.queue[1:]
		r.mu.Unlock()
		r.finish(&handle, item)
	}
}

// finish removes one interface, however often it takes.
func (r *remover) finish(handle **netlink.Handle, item removal) {
	defer item.after()
	for pause := firstRemovePause; ; pause = min(2*pause, lastRemovePause) {
		err := deleteLink(handle, item.index)
		if err == nil {
			return
		}
		select {
		case <-r.ctx.Done():
			r.mu.Lock()
			if r.failed == nil {
				r.failed = fmt.Errorf("interface %s of a sandbox is left behind: %w", item.name, err)
			}
			r.mu.Unlock()
			return
		case <-time.After(pause):
			r.log.Warn("an interface of a sandbox cannot be removed", slog.String("interface", item.name), slog.Any("error", err))
		}
	}
}

// deleteLink deletes an interface that may be gone already. The handle is opened
// if it is not.
func deleteLink(handle **netlink.Handle, index int) error {
	if *handle == nil {
		opened, err := openHandle()
		if err != nil {
			return err
		}
		*handle = opened
	}
	err := (*handle).LinkDel(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}})
	if isGone(err) {
		return nil
	}
	return err
}

// wait waits until all interfaces that are being removed are gone, or the
// context ends.
func (r *remover) wait(ctx context.Context) error {
	r.mu.Lock()
	if r.workers == 0 {
		r.mu.Unlock()
		return nil
	}
	if r.idle == nil {
		r.idle = make(chan struct{})
	}
	idle := r.idle
	r.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close waits likewise, and gives up what is left then.
func (r *remover) close(ctx context.Context) error {
	err := r.wait(ctx)
	r.cancel()
	if err != nil {
		// Each worker ends after the request that it waits for.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
		defer cancel()
		err = fmt.Errorf("remove interfaces of sandboxes: %w", errors.Join(err, r.wait(last)))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(err, r.failed)
}
