// Package system tests nodes that work together: an API node, a load balancer and
// runners, each a process of its own, as on machines of their own. Most tests have them
// all on loopback; namespaces_test.go gives each a network namespace, with a cable
// that can be cut.
//
// Read cluster_test.go for what is started, node_test.go for one node's life, and
// the other files for what is tried with them. The tests need root, for the sandboxes
// of runners, and no container engine.
package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tinefn/tine/test/functions"
)

// Built once by TestMain.
var (
	binary string             // the server
	testFn functions.Archived // what runners load
)

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // all of them skip, and say why
	}
	dir, err := os.MkdirTemp("", "tine-system-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func build(dir string) (err error) {
	binary = filepath.Join(dir, "fnserver")
	server := []string{"build", "-o", binary, "github.com/tinefn/tine/cmd/fnserver"}
	if raceDetector { // it belongs into the server then
		server = slices.Insert(server, 1, "-race")
	}
	// Beside the server, where it looks for it.
	first := []string{"build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "sandbox-init"), "github.com/tinefn/tine/cmd/sandbox-init"}
	for _, arguments := range [][]string{server, first} {
		command := exec.Command("go", arguments...)
		if !slices.Contains(arguments, "-race") {
			command.Env = append(os.Environ(), "CGO_ENABLED=0")
		}
		if out, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("go %v: %w\n%s", arguments, err, out)
		}
	}
	// Users of sandboxes execute what is in it.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // see above
		return err
	}
	testFn, err = functions.TestFn()
	return err
}

// needRoot skips a test on machines where runners cannot run functions themselves.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("runners need root, for their sandboxes")
	}
}
