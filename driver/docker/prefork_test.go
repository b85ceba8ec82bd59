package docker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/docker"
	"github.com/tinefn/tine/driver/prefork"
	"github.com/tinefn/tine/internal/sockdir"
	"github.com/tinefn/tine/model"
	"github.com/tinefn/tine/test/image"
)

// openPrefork makes a driver whose pool has reached its minimum.
func openPrefork(t *testing.T, opts docker.Prefork) *docker.Driver {
	t.Helper()
	d := open(t, docker.Options{Prefork: opts, LabelTag: preforkTag(t)})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := d.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	awaitLevel(t, d, prefork.Ready, opts.Min)
	return d
}

// awaitLevel waits until as many namespaces are in a state.
func awaitLevel(t *testing.T, d *docker.Driver, state prefork.State, want int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		levels := d.PreforkLevels()
		if levels[0].Count[state] == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("levels %v, want %d %v", levels, want, state)
		}
	}
}

// preforkTag marks the containers of a test: others may run at the same time.
func preforkTag(t *testing.T) string { return fmt.Sprintf("%s-%d", t.Name(), os.Getpid()) }

// placeholders lists those of the test by the engine's identifier.
func placeholders(t *testing.T, engine *client.Client) (ids []string) {
	t.Helper()
	list, err := engine.ContainerList(t.Context(), client.ContainerListOptions{
		All:     true,
		Filters: client.Filters{}.Add("label", "tine.placeholder=true").Add("label", "fn-agent-classifier="+preforkTag(t)),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range list.Items {
		ids = append(ids, found.ID)
	}
	return ids
}

// function is a running container of the test function.
type function struct {
	driver.Container
	dir     string
	drained *atomic.Bool
}

// startFunction makes a container and starts it, and does something in between.
func startFunction(t *testing.T, d driver.Driver, tenant string, between func()) function {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	f := function{dir: dir, drained: new(atomic.Bool)}
	spec := &driver.Spec{
		ID: "prefork-test-" + model.NewID(), Image: image.TestFn(t), Tenant: tenant, SocketDir: dir,
		Env:      []string{"FN_LISTENER=unix:" + driver.SocketMountPath + "/" + sockdir.SocketName, "FN_FORMAT=http-stream"},
		Security: driver.Security{Unprivileged: true, ReadOnlyRoot: true, Init: true},
		OnDrain:  func() { f.drained.Store(true) },
	}
	c, err := d.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	f.Container = c
	if between != nil {
		between()
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Lstat(filepath.Join(dir, sockdir.SocketName)); err == nil {
			return f
		}
		if time.Now().After(deadline) {
			t.Fatal("no socket")
		}
	}
}

// view is what the function sees; see test/testfn.
type view struct {
	Hostname   string
	Interfaces []string
}

func (f function) look(t *testing.T) (v view) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(f.dir, sockdir.SocketName))
	}, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://fn/call", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Testfn-Mode", "inspect")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func testEngine(t *testing.T) *client.Client {
	t.Helper()
	image.NeedEngine(t)
	engine, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	return engine
}

func TestContainerJoinsAPreparedNamespace(t *testing.T) {
	engine := testEngine(t)
	d := openPrefork(t, docker.Prefork{Min: 1, Max: 3, Hostname: "the-node"})
	held := placeholders(t, engine)
	f := startFunction(t, d, "app", nil)
	if got := f.look(t); got.Hostname != "the-node" || !slices.Contains(got.Interfaces, "eth0") {
		t.Errorf("it sees %+v", got)
	}
	found, err := engine.ContainerInspect(t.Context(), f.ID(), client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if mode := string(found.Container.HostConfig.NetworkMode); mode != "container:"+held[0] {
		t.Errorf("network mode %s, the placeholder is %s", mode, held[0])
	}
	awaitLevel(t, d, prefork.Leased, 1)
	awaitLevel(t, d, prefork.Ready, 1) // the next one
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitLevel(t, d, prefork.Quarantined, 1)
}

func TestPlaceholderIsFencedIn(t *testing.T) {
	engine := testEngine(t)
	openPrefork(t, docker.Prefork{Min: 1, Max: 1})
	found, err := engine.ContainerInspect(t.Context(), placeholders(t, engine)[0], client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := found.Container
	if c.HostConfig.RestartPolicy.Name != "no" && c.HostConfig.RestartPolicy.Name != "" {
		t.Errorf("restart policy %s", c.HostConfig.RestartPolicy.Name)
	}
	if len(c.Config.Hostname) > 63 || strings.ContainsAny(c.Config.Hostname, "_.") {
		t.Errorf("the host name %q is no label", c.Config.Hostname)
	}
	if c.HostConfig.Memory != 6<<20 || c.HostConfig.MemorySwap != 6<<20 || c.HostConfig.PidsLimit == nil || *c.HostConfig.PidsLimit != 4 {
		t.Errorf("limits %+v", c.HostConfig.Resources)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.State.Pid))
	if err != nil {
		t.Skipf("its process cannot be seen, is the engine on another machine? %v", err)
	}
	status := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		status[name] = strings.Join(strings.Fields(value), " ")
	}
	const none = "0000000000000000"
	for name, want := range map[string]string{
		"Uid": "65534 65534 65534 65534", "Gid": "65534 65534 65534 65534", "NoNewPrivs": "1",
		"CapEff": none, "CapPrm": none, "CapBnd": none, "CapInh": none, "CapAmb": none, "Threads": "1",
	} {
		if status[name] != want {
			t.Errorf("%s is %q, want %q", name, status[name], want)
		}
	}
	root := fmt.Sprintf("/proc/%d/root", c.State.Pid)
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o600); err == nil {
		t.Error("its root can be written")
	}
}

func TestDeathOfThePlaceholderDrainsItsContainer(t *testing.T) {
	engine := testEngine(t)
	d := openPrefork(t, docker.Prefork{Min: 1, Max: 2})
	held := placeholders(t, engine)
	f := startFunction(t, d, "app", nil)
	if _, err := engine.ContainerKill(t.Context(), held[0], client.ContainerKillOptions{Signal: "SIGKILL"}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !f.drained.Load(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is not drained")
		}
	}
	f.look(t) // the call in flight goes on
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitLevel(t, d, prefork.Ready, 1)
	awaitLevel(t, d, prefork.Quarantined, 0)
}

func TestContainerGetsAnotherNamespaceIfItsOwnIsGone(t *testing.T) {
	for name, tt := range map[string]struct {
		ready   int // and all die
		killing func(t *testing.T, engine *client.Client, id string) error
	}{
		"killed": {1, func(t *testing.T, engine *client.Client, id string) error {
			_, err := engine.ContainerKill(t.Context(), id, client.ContainerKillOptions{Signal: "SIGKILL"})
			if errdefs.IsConflict(err) { // the next one, which does not run yet
				err = nil
			}
			return err
		}},
		"removed": {1, func(t *testing.T, engine *client.Client, id string) error {
			_, err := engine.ContainerRemove(t.Context(), id, client.ContainerRemoveOptions{Force: true})
			return err
		}},
		"several": {3, func(t *testing.T, engine *client.Client, id string) error {
			_, err := engine.ContainerRemove(t.Context(), id, client.ContainerRemoveOptions{Force: true})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			engine := testEngine(t)
			d := openPrefork(t, docker.Prefork{Min: tt.ready, Max: 5})
			f := startFunction(t, d, "app", func() {
				for _, id := range placeholders(t, engine) {
					if err := tt.killing(t, engine, id); err != nil {
						t.Fatal(err)
					}
				}
			})
			if got := f.look(t); !slices.Contains(got.Interfaces, "eth0") {
				t.Errorf("it sees %+v", got)
			}
			if err := f.Remove(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestConfiguredImageHoldsNamespaces(t *testing.T) {
	engine := testEngine(t)
	openPrefork(t, docker.Prefork{Min: 1, Max: 1, Image: image.TestFn(t), Command: []string{"sleep"}})
	found, err := engine.ContainerInspect(t.Context(), placeholders(t, engine)[0], client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if c := found.Container.Config; c.Image != image.TestFn(t) || !slices.Equal(c.Cmd, []string{"sleep"}) {
		t.Errorf("image %s, command %v", c.Image, c.Cmd)
	}
}

func TestNoPreforkPoolWhereItDoesNotHelp(t *testing.T) {
	for _, networks := range [][]string{{"host"}, {"none", "host"}} {
		d := open(t, docker.Options{Networks: networks, Prefork: docker.Prefork{Min: 1, Max: 1}})
		if levels := d.PreforkLevels(); levels != nil {
			t.Errorf("%v: levels %v", networks, levels)
		}
		if err := d.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
