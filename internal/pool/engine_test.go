package pool

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/internal/sockdir"
)

// engine is a driver without containers or sockets, so that the pool's timing
// can be tested in a bubble of synthetic time. Package driver/fake is the one
// that serves calls.
type engine struct {
	startDelay  time.Duration // from Start to the socket
	imageDelay  time.Duration
	removeDelay time.Duration

	mu         sync.Mutex
	imageErr   error
	createErr  func(n int) error // n counts creations from 1
	startErr   func(n int) error
	neverReady bool
	exitAtOnce bool
	removeErr  func() error
	waitErr    func() error

	created, removed, images int
	live                     map[string]*box
	maxLive                  int
}

func newEngine() *engine { return &engine{startDelay: time.Second, live: map[string]*box{}} }

func (e *engine) Capabilities() driver.Capabilities { return driver.Capabilities{Name: "test"} }

func (e *engine) EnsureImage(ctx context.Context, _ string) error {
	e.mu.Lock()
	e.images++
	err := e.imageErr
	e.mu.Unlock()
	select {
	case <-time.After(e.imageDelay):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *engine) Create(_ context.Context, spec *driver.Spec) (driver.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.created++
	if e.createErr != nil {
		if err := e.createErr(e.created); err != nil {
			return nil, err
		}
	}
	b := &box{engine: e, id: spec.ID, n: e.created, dir: spec.SocketDir, ended: make(chan struct{})}
	e.live[b.id] = b
	e.maxLive = max(e.maxLive, len(e.live))
	return b, nil
}

func (e *engine) Close(context.Context) error { return nil }

func (e *engine) count() (created, live int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.created, len(e.live)
}

// box is a container of the engine.
type box struct {
	engine *engine
	id     string
	n      int
	dir    string
	once   sync.Once
	ended  chan struct{}
}

func (b *box) ID() string { return b.id }

func (b *box) Start(context.Context) error {
	e := b.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.startErr != nil {
		if err := e.startErr(b.n); err != nil {
			return err
		}
	}
	if e.exitAtOnce {
		b.die()
	}
	return nil
}

func (b *box) die() { b.once.Do(func() { close(b.ended) }) }

func (b *box) Wait(ctx context.Context) (driver.Exit, error) {
	var err error
	b.engine.change(func() {
		if b.engine.waitErr != nil {
			err = b.engine.waitErr()
		}
	})
	if err != nil {
		return driver.Exit{}, err
	}
	select {
	case <-b.ended:
		return driver.Exit{Code: 1}, nil
	case <-ctx.Done():
		return driver.Exit{}, ctx.Err()
	}
}

func (b *box) Freeze(context.Context) error { return nil }
func (b *box) Thaw(context.Context) error   { return nil }
func (b *box) Stop(context.Context) error   { b.die(); return nil }

func (b *box) Remove(context.Context) error {
	time.Sleep(b.engine.removeDelay)
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	if b.engine.removeErr != nil {
		if err := b.engine.removeErr(); err != nil {
			return err
		}
	}
	b.die()
	if b.engine.live[b.id] == nil {
		return errors.New("removed twice")
	}
	delete(b.engine.live, b.id)
	b.engine.removed++
	return nil
}

// sockets makes directories whose socket appears startDelay after their making.
func (e *engine) sockets(socket *sockdir.Socket) Sockets {
	return func() (SocketDir, error) {
		e.mu.Lock()
		never := e.neverReady || e.exitAtOnce
		e.mu.Unlock()
		d := &readyDir{ready: make(chan struct{}), socket: socket}
		if !never {
			time.AfterFunc(e.startDelay, func() { close(d.ready) })
		}
		return d, nil
	}
}

type readyDir struct {
	ready  chan struct{}
	socket *sockdir.Socket
}

func (d *readyDir) EnginePath() string             { return "/dir" }
func (d *readyDir) Ready() <-chan struct{}         { return d.ready }
func (d *readyDir) Open() (*sockdir.Socket, error) { return d.socket, nil }
func (d *readyDir) Remove() error                  { return nil }

const mib = 1 << 20

func newPool(t *testing.T, e *engine, change func(*Options)) *Pool {
	t.Helper()
	opts := Options{
		Driver: e, Sockets: e.sockets(nil), Logger: slog.New(slog.DiscardHandler),
		Total:        capacity.Amount{MemoryBytes: 4 * mib, MilliCPU: 4000},
		StartTimeout: 5 * time.Second, QueueTimeout: time.Minute,
	}
	if change != nil {
		change(&opts)
	}
	return New(opts)
}

// fnSpec is a function of one megabyte.
func fnSpec(name string) *Spec { return sized(name, 1) }

func sized(name string, memoryMiB int64) *Spec {
	return &Spec{
		Key: name, AppID: "app", FnID: name, IdleTimeout: 30 * time.Second,
		Need: capacity.Amount{MemoryBytes: memoryMiB * mib}, Container: driver.Spec{Image: name},
	}
}

func mustAcquire(t *testing.T, p *Pool, spec *Spec) *Lease {
	t.Helper()
	lease, err := p.Acquire(t.Context(), spec)
	if err != nil {
		t.Fatalf("acquire %s: %v", spec.FnID, err)
	}
	return lease
}

// closePool closes the pool and checks that nothing is left.
func closePool(t *testing.T, p *Pool, e *engine) {
	t.Helper()
	if err := p.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	if _, live := e.count(); live != 0 {
		t.Errorf("%d containers left", live)
	}
	if used := p.Stats().Used; used != (capacity.Amount{}) {
		t.Errorf("%+v still reserved", used)
	}
	if len(p.groups) != 0 || len(p.hungry) != 0 || p.returning != (capacity.Amount{}) || p.busy != 0 {
		t.Errorf("left: %d groups, %d hungry, returning %+v, busy %d", len(p.groups), len(p.hungry), p.returning, p.busy)
	}
}

func (e *engine) change(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

// most is how many containers there were at a time.
func (e *engine) most() (n int) {
	e.change(func() { n = e.maxLive })
	return n
}

// killAll ends every container's process.
func (e *engine) killAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range e.live {
		b.die()
	}
}

var errBroken = errors.New("broken for the test")
