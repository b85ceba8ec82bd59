package pool

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/internal/sockdir"
)

// engine is a fake engine without sockets, so that the pool's timing can be
// tested in a bubble of synthetic time. What is set before newPool holds for
// all containers.
type engine struct {
	*fake.Engine

	imageDelay time.Duration
	imageErr   error
	script     fake.Script
	createErr  func(n int) error // n counts creations from 1
	noFreeze   bool

	// image, if set, says what an image's name means, after imageDelay.
	image func(want driver.ImageRequest) (driver.Image, error)

	root  string     // of socket directories
	mu    sync.Mutex // guards the rest
	dirs  map[string]*readyDir
	wants []driver.ImageRequest // in order of arrival
}

// startDelay is the time from a container's start to its socket.
const startDelay = time.Second

func newEngine() *engine {
	return &engine{script: fake.Script{SocketDelay: startDelay}, dirs: map[string]*readyDir{}}
}

// breakable has creations fail as long as what it returns is set.
func (e *engine) breakable() *atomic.Bool {
	var broken atomic.Bool
	e.createErr = func(int) error {
		if broken.Load() {
			return errBroken
		}
		return nil
	}
	return &broken
}

func (e *engine) makeSocketDir() (SocketDir, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := &readyDir{path: filepath.Join(e.root, strconv.Itoa(len(e.dirs))), ready: make(chan struct{})}
	e.dirs[d.path] = d
	return d, os.Mkdir(d.path, 0o700)
}

func (e *engine) isReady(spec *driver.Spec) {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.dirs[spec.SocketDir].ready)
}

func (e *engine) scriptOf(n int, _ *driver.Spec) fake.Script {
	script := e.script
	if n > 0 {
		script.RemoveFailures = 0 // only the first is hard to get rid of
	}
	if e.createErr != nil {
		script.CreateErr = e.createErr(n + 1)
	}
	return script
}

func (e *engine) ensureImage(ctx context.Context, want driver.ImageRequest) (driver.Image, error) {
	e.mu.Lock()
	e.wants = append(e.wants, want)
	e.mu.Unlock()
	if e.imageDelay > 0 {
		select {
		case <-time.After(e.imageDelay):
		case <-ctx.Done():
			return driver.Image{}, ctx.Err()
		}
	}
	if e.image != nil {
		return e.image(want)
	}
	return driver.Image{ID: want.Name}, e.imageErr
}

// killAll ends every container's process.
func (e *engine) killAll() {
	for _, c := range e.Containers() {
		c.Kill(driver.Exit{Code: 1})
	}
}

// readyDir is a socket directory that holds no socket.
type readyDir struct {
	path  string
	ready chan struct{}
}

func (d *readyDir) EnginePath() string             { return d.path }
func (d *readyDir) Ready() <-chan struct{}         { return d.ready }
func (d *readyDir) Open() (*sockdir.Socket, error) { return nil, nil }
func (d *readyDir) Remove() error                  { return nil }

const mib = 1 << 20

func newPool(t *testing.T, e *engine, change func(*Options)) *Pool {
	t.Helper()
	e.root = t.TempDir()
	e.Engine = fake.New(fake.Options{Script: e.scriptOf, EnsureImage: e.ensureImage, NoSocket: true, NoFreeze: e.noFreeze, OnReady: e.isReady})
	opts := Options{
		Driver: e, Sockets: e.makeSocketDir, Logger: slog.New(slog.DiscardHandler),
		Total:        capacity.Amount{MemoryBytes: 4 * mib, MilliCPU: 4000},
		StartTimeout: 5 * time.Second, QueueTimeout: time.Minute, FreezeAfter: -1,
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
	if live := e.Live(); live != 0 {
		t.Errorf("%d containers left", live)
	}
	if used := p.Stats().Used; used != (capacity.Amount{}) {
		t.Errorf("%+v still reserved", used)
	}
	if len(p.groups) != 0 || len(p.hungry) != 0 || len(p.apps) != 0 || len(p.fns) != 0 ||
		p.returning != (capacity.Amount{}) || p.resting != (capacity.Amount{}) || len(p.stocked.groups) != 0 || p.busy != 0 {
		t.Errorf("left: %d groups, %d hungry, returning %+v, busy %d", len(p.groups), len(p.hungry), p.returning, p.busy)
	}
	if err := e.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

var errBroken = errors.New("broken for the test")
