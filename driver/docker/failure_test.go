package docker_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/docker"
	"github.com/tinefn/tine/test/image"
)

// relay stands between a driver and the engine, so that the engine can vanish.
type relay struct {
	path     string
	listener net.Listener
	wg       sync.WaitGroup

	mu    sync.Mutex // guards the rest
	mode  relayMode
	conns []net.Conn
}

type relayMode int

const (
	passing     relayMode = iota
	hanging               // accepts requests, and passes nothing on
	answersLost           // passes requests on and no answers back
)

func startRelay(t *testing.T) *relay {
	t.Helper()
	image.NeedEngine(t)
	dir, err := os.MkdirTemp("", "relay")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{path: filepath.Join(dir, "s")}
	if r.listener, err = net.Listen("unix", r.path); err != nil {
		t.Fatal(err)
	}
	r.wg.Go(func() {
		for {
			conn, err := r.listener.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.serve(conn) })
		}
	})
	t.Cleanup(func() {
		r.stop()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *relay) host() string { return "unix://" + r.path }

// stop makes the engine vanish: no connection lives, none can be made.
func (r *relay) stop() {
	_ = r.listener.Close()
	r.cut()
	r.wg.Wait()
}

func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range r.conns {
		_ = conn.Close()
	}
	r.conns = nil
}

// set changes what happens to new connections, and ends those there are.
func (r *relay) set(mode relayMode) {
	r.mu.Lock()
	r.mode = mode
	r.mu.Unlock()
	r.cut()
}

func (r *relay) serve(conn net.Conn) {
	defer conn.Close()
	address := strings.TrimPrefix(engineHost(), "unix://")
	if address == "" {
		address = "/var/run/docker.sock"
	}
	engine, err := net.Dial("unix", address)
	if err != nil {
		return
	}
	defer engine.Close()
	r.mu.Lock()
	mode := r.mode
	r.conns = append(r.conns, conn, engine)
	r.mu.Unlock()
	var forward, back io.Writer = engine, conn
	switch mode {
	case hanging:
		forward, back = io.Discard, io.Discard
	case answersLost:
		back = io.Discard
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(forward, conn)
		_ = engine.Close()
	})
	_, _ = io.Copy(back, engine)
	_ = conn.Close()
	wg.Wait()
}

func sleeper(t *testing.T) *driver.Spec {
	t.Helper()
	return &driver.Spec{ID: uniqueName(), Image: image.TestFn(t), Command: []string{"sleep"}, Security: driver.Security{NoNetwork: true}}
}

func openOn(t *testing.T, host string, opts docker.Options) *docker.Driver {
	t.Helper()
	opts.Host = host
	d, err := docker.New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// forceRemove cleans up behind drivers that have lost their engine.
func forceRemove(t *testing.T, engine *client.Client, name string) {
	t.Helper()
	_, _ = engine.ContainerRemove(context.WithoutCancel(t.Context()), name, client.ContainerRemoveOptions{Force: true})
}

func TestNewSaysWhyNoEngineAnswers(t *testing.T) {
	dir, err := os.MkdirTemp("", "engine")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	dead := filepath.Join(dir, "dead")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	mute, err := net.Listen("unix", filepath.Join(dir, "mute"))
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	tests := map[string]struct{ host, want string }{
		"no socket":  {host: "unix://" + filepath.Join(dir, "none"), want: "install and start Docker"},
		"no process": {host: "unix://" + dead, want: "connection refused): start Docker"},
		"refused":    {host: "tcp://127.0.0.1:1", want: "connection refused): start Docker"},
		"hanging":    {host: "unix://" + filepath.Join(dir, "mute"), want: "restart Docker"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := docker.New(t.Context(), docker.Options{Host: tt.host, CallTimeout: 200 * time.Millisecond})
			if !errors.Is(err, driver.ErrUnavailable) || !strings.Contains(err.Error(), tt.host) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := docker.New(t.Context(), docker.Options{Host: "nonsense"}); err == nil || !strings.Contains(err.Error(), "DOCKER_HOST") {
		t.Errorf("got %v", err)
	}
}

func TestVanishedEngineIsUnavailable(t *testing.T) {
	r := startRelay(t)
	engine := engineClient(t)
	d := openOn(t, r.host(), docker.Options{})
	spec := sleeper(t)
	defer forceRemove(t, engine, spec.ID)
	c, err := d.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { // ends when the relay is cut
		_, err := c.Wait(t.Context())
		waited <- err
	}()
	r.stop()
	if err := <-waited; !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("wait: %v", err)
	}
	for what, do := range map[string]func(context.Context) error{
		"freeze": c.Freeze, "thaw": c.Thaw, "stop": c.Stop, "remove": c.Remove, "close": d.Close,
		"ensure": func(ctx context.Context) error {
			_, err := d.EnsureImage(ctx, driver.ImageRequest{Name: spec.Image})
			return err
		},
	} {
		if err := do(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestHangingEngineIsUnavailableInTime(t *testing.T) {
	r := startRelay(t)
	engine := engineClient(t)
	d := openOn(t, r.host(), docker.Options{CallTimeout: 500 * time.Millisecond})
	spec := sleeper(t)
	defer forceRemove(t, engine, spec.ID)
	c, err := d.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.set(hanging)
	other := sleeper(t)
	for what, do := range map[string]func(context.Context) error{
		"freeze": c.Freeze, "stop": c.Stop, "remove": c.Remove,
		"wait": func(ctx context.Context) error { _, err := c.Wait(ctx); return err },
		"ensure": func(ctx context.Context) error {
			_, err := d.EnsureImage(ctx, driver.ImageRequest{Name: spec.Image})
			return err
		},
		"create": func(ctx context.Context) error { _, err := d.Create(ctx, other); return err },
	} {
		began := time.Now()
		if err := do(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s took %v", what, took)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Freeze(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("the caller's own deadline: %v", err)
	}
	r.set(passing)
	if err := c.Remove(t.Context()); err != nil {
		t.Errorf("remove after the engine came back: %v", err)
	}
	closeNow(t, d)
}

func TestUnansweredCreateLeavesNoContainer(t *testing.T) {
	r := startRelay(t)
	engine := engineClient(t)
	d := openOn(t, r.host(), docker.Options{CallTimeout: time.Second})
	spec := sleeper(t)
	defer forceRemove(t, engine, spec.ID)
	r.set(answersLost)
	if _, err := d.Create(t.Context(), spec); !errors.Is(err, driver.ErrUnavailable) {
		t.Fatalf("create: %v", err)
	}
	r.set(passing)
	closeNow(t, d)
	if _, err := engine.ContainerInspect(t.Context(), spec.ID, client.ContainerInspectOptions{}); err == nil {
		t.Error("the container is left")
	}
}

func TestSweepRemovesOtherInstancesContainersOnly(t *testing.T) {
	image.NeedEngine(t)
	engine := engineClient(t)
	tag := uniqueName()
	crashed := open(t, docker.Options{LabelTag: tag})
	foreign := open(t, docker.Options{LabelTag: tag + "-other"})
	own := open(t, docker.Options{LabelTag: tag})
	defer closeNow(t, crashed)
	defer closeNow(t, foreign)
	defer closeNow(t, own)
	var names []string
	for _, d := range []*docker.Driver{crashed, foreign, own} {
		spec := sleeper(t)
		names = append(names, spec.ID)
		c, err := d.Create(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := own.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, true, true} {
		_, err := engine.ContainerInspect(t.Context(), names[i], client.ContainerInspectOptions{})
		if got := err == nil; got != want {
			t.Errorf("container %d is there: %t, want %t", i, got, want)
		}
	}
}

func TestNewRemovesTheContainersOfDeadDriversOnly(t *testing.T) {
	image.NeedEngine(t)
	engine := engineClient(t)
	dir, copied := t.TempDir(), t.TempDir()
	state := docker.Options{StateDir: dir}
	drivers := map[string]*docker.Driver{
		"dead": open(t, state), "dead and frozen": open(t, state), "living": open(t, state), "of no directory": open(t, docker.Options{}),
	}
	names := map[string]string{}
	for whose, d := range drivers {
		defer closeNow(t, d)
		spec := sleeper(t)
		names[whose] = spec.ID
		c, err := d.Create(t.Context(), spec)
		if err == nil {
			err = c.Start(t.Context())
		}
		if err == nil && strings.Contains(whose, "frozen") {
			err = c.Freeze(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	there := func(whose string) bool {
		_, err := engine.ContainerInspect(t.Context(), names[whose], client.ContainerInspectOptions{})
		return err == nil
	}
	// Who starts with a copy of the directory knows nothing of these containers.
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	other := open(t, docker.Options{StateDir: copied})
	defer closeNow(t, other)
	if err := other.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for whose := range drivers {
		if !there(whose) {
			t.Errorf("the container of the driver %s is gone after a start with a copy of the directory", whose)
		}
	}
	for _, whose := range []string{"dead", "dead and frozen"} {
		if err := docker.Crash(drivers[whose]); err != nil {
			t.Fatal(err)
		}
	}
	next := open(t, state)
	defer closeNow(t, next)
	for deadline := time.Now().Add(10 * time.Second); there("dead") || there("dead and frozen"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a container of a dead driver is left")
		}
	}
	for _, whose := range []string{"living", "of no directory"} {
		if !there(whose) {
			t.Errorf("the container of the driver %s is gone", whose)
		}
	}
}

func TestMissingNetworkIsNotAMissingContainer(t *testing.T) {
	image.NeedEngine(t)
	d := open(t, docker.Options{Networks: []string{uniqueName()}})
	defer closeNow(t, d)
	spec := sleeper(t)
	spec.Security.NoNetwork = false
	c, err := d.Create(t.Context(), spec)
	if err == nil {
		err = c.Start(t.Context())
	}
	if err == nil || errors.Is(err, driver.ErrGone) || errors.Is(err, driver.ErrImageNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestSocketDirectoryMayBeInAVolume(t *testing.T) {
	image.NeedEngine(t)
	engine := engineClient(t)
	name := uniqueName()
	made, err := engine.VolumeCreate(t.Context(), client.VolumeCreateOptions{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := engine.VolumeRemove(context.WithoutCancel(t.Context()), name, client.VolumeRemoveOptions{}); err != nil {
			t.Error(err)
		}
	}()
	if err := os.MkdirAll(filepath.Join(made.Volume.Mountpoint, "dir"), 0o755); err != nil {
		t.Skipf("the engine's volumes cannot be written from here: %v", err)
	}
	d := open(t, docker.Options{})
	defer closeNow(t, d)
	spec := sleeper(t)
	spec.SocketDir = name + "/dir"
	if _, err := d.Create(t.Context(), spec); err != nil {
		t.Errorf("create: %v", err)
	}
	spec = sleeper(t)
	spec.SocketDir = "/no/such/directory"
	if _, err := d.Create(t.Context(), spec); err == nil {
		t.Error("a directory that the engine does not see was accepted")
	}
}

// The engine does not always record that the memory limit ended a process, so
// a kill from outside looks the same if there is a limit.
func TestKillFromOutsideIsPresumedToBeForLackOfMemoryIfThereIsALimit(t *testing.T) {
	d := open(t, docker.Options{})
	defer closeNow(t, d)
	engine := engineClient(t)
	for _, limit := range []int64{0, 64 << 20} {
		spec := sleeper(t)
		spec.Limits.MemoryBytes = limit
		c, err := d.Create(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := engine.ContainerKill(t.Context(), c.ID(), client.ContainerKillOptions{Signal: "SIGKILL"}); err != nil {
			t.Fatal(err)
		}
		want := driver.Exit{Code: 137, OutOfMemory: limit > 0, Presumed: limit > 0}
		if exit, err := c.Wait(t.Context()); err != nil || exit != want {
			t.Errorf("limit %d: exit %+v, %v", limit, exit, err)
		}
	}
}
