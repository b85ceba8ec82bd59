package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// load calls functions from some clients until it is ended.
type load struct {
	stop     chan struct{}
	clients  sync.WaitGroup
	answered atomic.Int64
	cut      atomic.Int64 // calls whose connection broke
}

// underLoad starts clients that check each answer they get.
func (n *node) underLoad(t *testing.T, clients int, fnIDs ...string) *load {
	l := &load{stop: make(chan struct{})}
	for client := range clients {
		l.clients.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-l.stop:
					return
				default:
				}
				body := fmt.Sprintf("%d of client %d", i, client)
				got, err := n.do(n.request("POST", "/invoke/"+fnIDs[i%len(fnIDs)], body, mode("reply", "Delay-Ms", "5")))
				switch {
				case err != nil:
					l.cut.Add(1)
					time.Sleep(10 * time.Millisecond)
				case got.status == 200 && got.body != body:
					t.Errorf("sent %q, got %q", body, got.body)
				case got.status != 200 && got.status != 503:
					t.Errorf("got %d %s", got.status, got.body)
				default:
					l.answered.Add(1)
				}
			}
		})
	}
	return l
}

func (l *load) await(t *testing.T, calls int64) {
	t.Helper()
	eventually(t, 30*time.Second, func() bool { return l.answered.Load() >= calls }, func() string {
		return fmt.Sprintf("%d of %d calls were answered", l.answered.Load(), calls)
	})
}

func (l *load) end() { close(l.stop); l.clients.Wait() }

func TestServerKilledUnderLoadAndStartedAgain(t *testing.T) {
	dir := t.TempDir()
	n := startNode(t, map[string]string{"FN_DB_URL": "sqlite3://" + filepath.Join(dir, "fn.db")})
	first, second := n.fn(nil), n.fn(nil)
	n.wantNext(t, first)
	n.wantNext(t, second)
	l := n.underLoad(t, 8, first, second)
	l.await(t, 200)
	_ = n.cmd.Process.Kill() // it lives
	n.exitCode()
	l.end()
	n.once.Do(func() {}) // it did not end in order
	left := n.containers(t)
	if len(left) == 0 {
		t.Fatal("the killed server left no container, so there is nothing to test")
	}
	dirs, err := os.ReadDir(n.setting("FN_IOFS_PATH"))
	if err != nil {
		t.Fatal(err)
	}

	again := start(t, map[string]string{
		"FN_DB_URL": n.setting("FN_DB_URL"), "FN_IOFS_PATH": n.setting("FN_IOFS_PATH"), "FN_CONTAINER_LABEL_TAG": n.setting("FN_CONTAINER_LABEL_TAG"),
	})
	next := &node{server: again, image: n.image, appID: n.appID, names: n.names}
	for _, id := range []string{first, second} {
		next.wantNext(t, id)
	}
	eventually(t, 10*time.Second, func() bool {
		now := next.containers(t)
		return !slices.ContainsFunc(left, func(id string) bool { return slices.Contains(now, id) })
	}, func() string { return "containers of the killed server are left\n" + next.log.String() })
	for _, entry := range dirs {
		if _, err := os.Stat(filepath.Join(n.setting("FN_IOFS_PATH"), entry.Name())); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("directory %s of the killed server is left: %v", entry.Name(), err)
		}
	}
	next.stopClean(t)
}

// foreignContainer runs a container that no server made.
func foreignContainer(t *testing.T, ref string) (id string) {
	t.Helper()
	id = askEngine(t, func(ctx context.Context, engine *client.Client) (client.ContainerCreateResult, error) {
		return engine.ContainerCreate(ctx, client.ContainerCreateOptions{Config: &container.Config{Image: ref, Cmd: []string{"sleep"}}})
	}).ID
	t.Cleanup(func() {
		askEngine(t, func(ctx context.Context, engine *client.Client) (client.ContainerRemoveResult, error) {
			return engine.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true})
		})
	})
	askEngine(t, func(ctx context.Context, engine *client.Client) (client.ContainerStartResult, error) {
		return engine.ContainerStart(ctx, id, client.ContainerStartOptions{})
	})
	return id
}

func running(t *testing.T, id string) bool {
	t.Helper()
	found := askEngine(t, func(ctx context.Context, engine *client.Client) (client.ContainerInspectResult, error) {
		return engine.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	})
	return found.Container.State != nil && found.Container.State.Running
}

func TestKilledServersInstancesAreGoneSoonAfterItsNextStart(t *testing.T) {
	const (
		instances = 30
		pool      = 10 // namespaces that are ready
		parallel  = 8  // launches at one time
		soon      = 10 * time.Second
	)
	settings := map[string]string{"FN_CONTAINER_LABEL_TAG": "", "FN_PREFORK_MIN": fmt.Sprint(pool), "FN_PREFORK_MAX": fmt.Sprint(instances + pool)}
	n := startNode(t, settings)
	neighbour := startNode(t, map[string]string{"FN_CONTAINER_LABEL_TAG": "", "FN_STATE_DIR": filepath.Join(n.dir, "data")})
	others := neighbour.fn(nil)
	neighbour.wantNext(t, others)
	foreign := foreignContainer(t, n.image)

	fns := make(chan string, instances)
	for range instances {
		fns <- n.fn(object{"idle_timeout": 3600})
	}
	close(fns)
	var callers sync.WaitGroup
	for range parallel {
		callers.Go(func() {
			for id := range fns {
				if got, err := n.do(n.request("POST", "/invoke/"+id, "x", mode("echo"))); err != nil || got.status != 200 {
					t.Errorf("%v, %d %s", err, got.status, got.body)
				}
			}
		})
	}
	callers.Wait()
	n.awaitMetric(t, preforkLevel("ready"), fmt.Sprint(pool))
	n.awaitMetric(t, preforkLevel("creating"), "0")
	if all, held := len(n.containers(t)), len(n.placeholders(t)); all-held != instances || held < pool {
		t.Fatalf("%d containers, %d of them placeholders", all, held)
	}
	_ = n.cmd.Process.Kill() // it lives
	n.exitCode()
	n.once.Do(func() {}) // it did not end in order
	dirs, err := os.ReadDir(n.setting("FN_IOFS_PATH"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("%d directories of sockets, %v", len(dirs), err)
	}

	began := time.Now()
	next := &node{server: launch(t, n.dir, map[string]string{"FN_CONTAINER_LABEL_TAG": "", "FN_IOFS_PATH": n.setting("FN_IOFS_PATH")}), image: n.image, appID: n.appID, names: n.names}
	if !next.awaitServing() {
		t.Fatal(next.log)
	}
	t.Cleanup(next.stop)
	warm := next.fn(nil)
	next.wantNext(t, warm)
	eventually(t, soon-time.Since(began), func() bool { return len(n.containers(t)) == 0 }, func() string {
		return fmt.Sprintf("%d containers of the killed server are left\n%s", len(n.containers(t)), next.log)
	})
	t.Logf("gone %v after the start", time.Since(began))
	for _, entry := range dirs {
		if _, err := os.Stat(filepath.Join(n.setting("FN_IOFS_PATH"), entry.Name())); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("directory %s of the killed server is left: %v", entry.Name(), err)
		}
	}
	if !running(t, foreign) {
		t.Error("somebody else's container has ended")
	}
	if len(neighbour.containers(t)) != 1 {
		t.Error("the neighbour's container is gone")
	}
	neighbour.wantNext(t, others)
	next.wantNext(t, warm)
	next.stopClean(t)
	neighbour.stopClean(t)
}

func TestShutdownUnderLoad(t *testing.T) {
	n := startNode(t, map[string]string{"FN_SHUTDOWN_TIMEOUT": "10"})
	id, slow := n.fn(nil), n.fn(nil)
	n.wantNext(t, id)
	n.wantNext(t, slow)
	l := n.underLoad(t, 16, id)
	l.await(t, 200)
	running := make(chan answer, 1)
	go func() {
		got, err := n.do(n.request("POST", "/invoke/"+slow, `{"sleepTime":1500}`, nil))
		if err != nil {
			t.Error(err)
		}
		running <- got
	}()
	time.Sleep(200 * time.Millisecond) // it has begun
	n.stop()
	l.end()
	if got := <-running; got.status != 200 {
		t.Errorf("the running call: %d %s", got.status, got.body)
	}
	if left := leftovers(t, n); left != "" {
		t.Error("left behind: " + left)
	}
}

// TestDatabaseOnAFullDisk puts the database on a file system of its own.
func TestDatabaseOnAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("file systems cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	n := startNode(t, map[string]string{"FN_DB_URL": "sqlite3://" + filepath.Join(dir, "fn.db")})
	warm, cold := n.fn(nil), n.fn(nil)
	n.wantNext(t, warm)
	definition := fmt.Sprintf(`{"name":"%%s","config":{"FILLER":%q}}`, strings.Repeat("x", 50_000))
	create := func(i int) answer {
		return n.send("POST", "/v2/apps", fmt.Sprintf(definition, fmt.Sprint("app", i)), nil)
	}
	made := 0
	var got answer
	for got = create(made); got.status == 200; got = create(made) {
		if made++; made > 1000 {
			t.Fatal("the disk does not get full")
		}
	}
	if got.status != 507 && got.status != 500 {
		t.Errorf("got %d %s", got.status, got.body)
	}
	n.awaitLog(t, func(log string) bool { return strings.Contains(log, "full") })
	n.wantNext(t, warm)
	n.wantNext(t, cold)
	if got := n.send("GET", "/v2/fns/"+cold, "", nil); got.status != 200 {
		t.Errorf("a definition that is there: %d %s", got.status, got.body)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	if got := create(made); got.status != 200 {
		t.Errorf("when there was room again: %d %s", got.status, got.body)
	}
	if listed := strings.Count(n.send("GET", "/v2/apps?per_page=100", "", nil).body, `"FILLER"`); listed != made+1 {
		t.Errorf("%d apps are there of %d that were acknowledged", listed, made+1)
	}
	n.once.Do(func() {}) // its log speaks of the full disk
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	if code := n.exitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
