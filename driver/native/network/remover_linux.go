package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// removeBatch is how many pairs are removed by one request at most. The
// kernel waits for all processors for every request, and keeps others from
// changing any interface meanwhile: 14 ms for one pair, 20 ms for 16 and 25 ms
// for 32 on two busy processors.
const removeBatch = 16

// removeGroup is the group that interfaces are put into to be removed by one
// request: "tine" in ASCII. Nothing else on a host should be in it.
const removeGroup = 0x74696e65

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

func (r removal) link() netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: r.index}}
}

// remover removes interfaces in the background, by one goroutine that lives as
// long as there is work: more would only wait for each other in the kernel. It
// is safe for concurrent use.
type remover struct {
	log    *slog.Logger
	ctx    context.Context // ends when removals are given up
	cancel context.CancelFunc

	mu     sync.Mutex // guards the rest
	queue  []removal
	idle   chan struct{} // closed when the goroutine ends; nil if there is none
	failed error         // of the first removals that were given up
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
	if r.idle == nil {
		r.idle = make(chan struct{})
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
			close(r.idle)
			r.idle = nil
			r.mu.Unlock()
			return
		}
		batch := r.queue[:min(len(r.queue), removeBatch)]
		r.queue = r.queue[len(batch):]
		r.mu.Unlock()
		r.finish(&handle, batch)
	}
}

// finish removes some interfaces, however often it takes. The handle is opened
// if it is not.
func (r *remover) finish(handle **netlink.Handle, batch []removal) {
	for pause := firstRemovePause; ; pause = min(2*pause, lastRemovePause) {
		var err error
		if *handle == nil {
			*handle, err = openHandle()
		}
		if err == nil {
			batch, err = deleteLinks(*handle, batch)
		}
		if err == nil {
			return
		}
		select {
		case <-r.ctx.Done():
			r.mu.Lock()
			if r.failed == nil {
				r.failed = fmt.Errorf("%d interfaces of sandboxes are left behind, such as %s: %w", len(batch), batch[0].name, err)
			}
			r.mu.Unlock()
			for _, item := range batch {
				item.after()
			}
			return
		case <-time.After(pause):
			r.log.Warn("interfaces of sandboxes cannot be removed", slog.Int("count", len(batch)), slog.String("interface", batch[0].name), slog.Any("error", err))
		}
	}
}

// deleteLinks deletes interfaces, of which some may be gone already, and returns
// those that it could not delete.
func deleteLinks(handle *netlink.Handle, batch []removal) (left []removal, err error) {
	if len(batch) > 1 && deleteTogether(handle, batch) == nil {
		for _, item := range batch {
			item.after()
		}
		return nil, nil
	}
	for _, item := range batch {
		if failure := handle.LinkDel(item.link()); failure != nil && !isGone(failure) {
			left, err = append(left, item), failure
			continue
		}
		item.after()
	}
	return left, err
}

// deleteTogether deletes all or fails.
func deleteTogether(handle *netlink.Handle, batch []removal) error {
	for _, item := range batch {
		if err := handle.LinkSetGroup(item.link(), removeGroup); err != nil && !isGone(err) {
			return err
		}
	}
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer socket.Close()
	timeout := unix.NsecToTimeval(requestTimeout.Nanoseconds())
	if err := errors.Join(socket.SetSendTimeout(&timeout), socket.SetReceiveTimeout(&timeout)); err != nil {
		return err
	}
	request := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	request.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: socket}}
	request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	request.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(removeGroup)))
	_, err = request.Execute(unix.NETLINK_ROUTE, 0)
	if isGone(err) { // nothing is in the group
		return nil
	}
	return err
}

// wait waits until all interfaces that are being removed are gone, or the
// context ends.
func (r *remover) wait(ctx context.Context) error {
	r.mu.Lock()
	idle := r.idle
	r.mu.Unlock()
	if idle == nil {
		return nil
	}
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
		// What is under way ends with its request.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*requestTimeout)
		defer cancel()
		err = fmt.Errorf("remove interfaces of sandboxes: %w", errors.Join(err, r.wait(last)))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(err, r.failed)
}
