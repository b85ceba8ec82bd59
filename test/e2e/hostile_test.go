package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// withDrivers runs a test on a server of each driver.
func withDrivers(t *testing.T, run func(t *testing.T, n *node)) {
	t.Run("docker", func(t *testing.T) { run(t, startNode(t, map[string]string{"FN_DRIVER": "docker"})) })
	t.Run("native", func(t *testing.T) { run(t, startNative(t, nil)) })
}

// trap is a socket of the host that nobody may be led to.
func trap(t *testing.T) (path string, connections *atomic.Int64) {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e") // short enough for an address
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "trap.sock")
	listener, err := net.Listen("unix", path) //nolint:noctx // of this machine
	if err != nil {
		t.Fatal(err)
	}
	connections = new(atomic.Int64)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			connections.Add(1)
			_ = conn.Close() // it is counted
		}
	}()
	t.Cleanup(func() {
		if err := errors.Join(listener.Close(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
		<-ended
		if n := connections.Load(); n != 0 {
			t.Errorf("%d connections to a socket of the host", n)
		}
	})
	return path, connections
}

// What is no socket of the function's own is refused at once, and hurts nobody.
func TestFalseSocketsAreRefused(t *testing.T) {
	withDrivers(t, func(t *testing.T, n *node) {
		path, _ := trap(t)
		for name, kind := range map[string]string{
			"pipe": "pipe", "file": "file", "directory": "directory", "host's socket": path, "link to above": "../trap.sock", "link to itself": "lsnr.sock",
		} {
			t.Run(name, func(t *testing.T) {
				n.invoke(n.fn(object{"config": object{"ENABLE_FALSE_SOCKET": kind}}), "", nil).wantError(t, 502, initFailed)
			})
		}
		if got := n.invoke(n.fn(nil), "x", mode("echo")); got.status != 200 {
			t.Errorf("a good function afterwards: %d %s", got.status, got.body)
		}
		n.stopClean(t)
	})
}

// The socket that was looked at is the one that all calls go to, also after the
// connection was closed.
func TestSocketThatIsReplacedLeadsNowhereElse(t *testing.T) {
	withDrivers(t, func(t *testing.T, n *node) {
		path, _ := trap(t)
		id := n.fn(nil)
		if got := n.invoke(id, "", mode("replace", "Target", path, "Close", "1")); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		for range 3 {
			if got := n.invoke(id, "x", mode("echo", "Close", "1")); got.status != 200 || got.body != "x" {
				t.Errorf("the next call: %d %s", got.status, got.body)
			}
			time.Sleep(20 * time.Millisecond) // it is frozen meanwhile
		}
		n.stopClean(t)
	})
}

// Whatever a function has put into its directory is removed with it.
func TestFullSocketDirectoryIsRemoved(t *testing.T) {
	withDrivers(t, func(t *testing.T, n *node) {
		for kind, many := range map[string]int{"inodes-iofs": 5000, "odd-iofs": 300, "nesting-iofs": 2000, "space-iofs": 20} {
			got := n.invoke(n.fn(nil), fmt.Sprintf(`{"kind":%q,"many":%d}`, kind, many), mode("bomb"))
			if got.status != 200 {
				t.Errorf("%s: %d %s", kind, got.status, got.body)
				continue
			}
			var made struct {
				Count   int    `json:"count"`
				Refusal string `json:"refusal"`
			}
			if err := json.Unmarshal([]byte(got.body), &made); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %+v", kind, made)
			// On disk nothing is bounded.
			if n.setting("FN_DRIVER") == "native" && (made.Count >= 64 || made.Refusal == "") {
				t.Errorf("%s: %d of %d were made", kind, made.Count, many)
			}
		}
		if got := n.invoke(n.fn(nil), "x", mode("echo")); got.status != 200 {
			t.Errorf("a good function afterwards: %d %s", got.status, got.body)
		}
		n.stopClean(t)
	})
}
