package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
)

// engineTimeout bounds each request of a test to the engine.
const engineTimeout = 20 * time.Second

// setting returns the value of one of the server's settings.
func (s *server) setting(name string) string {
	for _, variable := range s.cmd.Env {
		if value, ok := strings.CutPrefix(variable, name+"="); ok {
			return value
		}
	}
	return ""
}

// askEngine makes requests to the engine.
func askEngine[T any](t *testing.T, ask func(context.Context, *client.Client) (T, error)) T {
	t.Helper()
	engine, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), engineTimeout)
	defer cancel()
	result, err := ask(ctx, engine)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// instanceLine is how the server tells the identifier of its containers.
var instanceLine = regexp.MustCompile(`tine\.instance=([0-9a-f]{32})`)

// containers lists the containers of servers with this one's label tag, or of
// this one if it has none: those with all of some other labels.
func (s *server) containers(t *testing.T, labels ...string) (ids []string) {
	t.Helper()
	label := "fn-agent-classifier=" + s.setting("FN_CONTAINER_LABEL_TAG")
	if s.setting("FN_CONTAINER_LABEL_TAG") == "" {
		found := instanceLine.FindStringSubmatch(s.log.String())
		if found == nil {
			t.Fatalf("the server does not tell its identifier:\n%s", s.log)
		}
		label = "tine.instance=" + found[1]
	}
	list := askEngine(t, func(ctx context.Context, engine *client.Client) (client.ContainerListResult, error) {
		return engine.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("label", append(labels, label)...)})
	})
	for _, c := range list.Items {
		ids = append(ids, c.ID)
	}
	return ids
}

// kill ends the processes of the server's containers behind its back.
func (s *server) kill(t *testing.T) {
	t.Helper()
	ids := s.containers(t)
	if len(ids) == 0 {
		t.Fatal("there is no container to kill")
	}
	for _, id := range ids {
		askEngine(t, func(ctx context.Context, engine *client.Client) (client.ContainerKillResult, error) {
			return engine.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "KILL"})
		})
	}
}

// leftovers tells what a server has left on the machine.
func leftovers(t *testing.T, s *node) string {
	t.Helper()
	var left []string
	for _, id := range s.containers(t) {
		left = append(left, "container "+id)
	}
	dir := s.setting("FN_IOFS_PATH")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		left = append(left, "directory "+filepath.Join(dir, entry.Name()))
	}
	return strings.Join(left, ", ")
}

// stopClean stops the server, which must leave nothing.
func (n *node) stopClean(t *testing.T) {
	t.Helper()
	n.stop()
	if left := leftovers(t, n); left != "" {
		t.Error("left behind: " + left)
	}
}

// machine counts what containers consist of, on the whole machine.
type machine struct{ containers, cgroups, mounts, namespaces, interfaces int }

func measureMachine(t *testing.T) (m machine) {
	t.Helper()
	m.containers = len(askEngine(t, func(ctx context.Context, engine *client.Client) (client.ContainerListResult, error) {
		return engine.ContainerList(ctx, client.ContainerListOptions{All: true})
	}).Items)
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "docker") {
			m.mounts++
		}
	}
	// Control groups of containers are deep in version 2 with systemd, and in
	// each hierarchy of version 1. One that ends while it is read is not there.
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() && containerID.MatchString(filepath.Base(path)) {
			m.cgroups++
		}
		return nil
	})
	m.namespaces = countEntries(t, "/var/run/docker/netns", "")
	m.interfaces = countEntries(t, "/sys/class/net", "veth")
	return m
}

// containerID is what the names of containers' control groups contain.
var containerID = regexp.MustCompile("[0-9a-f]{64}")

// countEntries counts the entries of a directory whose names begin so; without
// it there are none.
func countEntries(t *testing.T, dir, prefix string) (n int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), prefix) {
			n++
		}
	}
	return n
}

// resources is what a running server holds.
type resources struct{ goroutines, descriptors, socketDirs int }

func (s *server) resources(t *testing.T) resources {
	t.Helper()
	got := s.send("GET", "/debug/pprof/goroutine?debug=1", "", nil)
	var r resources
	if _, err := fmt.Sscanf(got.body, "goroutine profile: total %d", &r.goroutines); err != nil || got.status != 200 {
		t.Fatalf("got %d %q", got.status, got.body)
	}
	dirs, err := filepath.Glob(filepath.Join(s.setting("FN_IOFS_PATH"), "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	r.socketDirs = len(dirs)
	r.descriptors = countEntries(t, fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid), "")
	return r
}

// eventually polls, as the engine and the kernel tell nobody when they are done.
func eventually(t *testing.T, limit time.Duration, holds func() bool, otherwise func() string) {
	t.Helper()
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(otherwise())
		}
	}
}
