package image

import (
	"context"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
)

// RequireEngine is the value of the variable TINE_TEST_ENGINE with which tests
// that need a container engine fail when there is none. Otherwise they skip.
const RequireEngine = "require"

// Bounds of what tests wait for: an engine's sign of life and a build.
const (
	pingTimeout  = 5 * time.Second
	buildTimeout = 2 * time.Minute
)

// shareOnce is when the process begins to use the engine.
var shareOnce sync.Once

// NeedEngine skips the test, or fails it if TINE_TEST_ENGINE is "require",
// when no Docker engine answers at DOCKER_HOST. It waits for a test that needs
// the engine for itself ([Alone]).
func NeedEngine(t testing.TB) {
	t.Helper()
	shareOnce.Do(func() { lockEngine(t, syscall.LOCK_SH) })
	ctx, cancel := context.WithTimeout(t.Context(), pingTimeout)
	defer cancel()
	engine, err := client.New(client.FromEnv)
	if err == nil {
		defer engine.Close()
		_, err = engine.Ping(ctx, client.PingOptions{})
	}
	switch {
	case err == nil:
	case os.Getenv("TINE_TEST_ENGINE") == RequireEngine:
		t.Fatalf("no container engine answers: %v", err)
	default:
		t.Skipf("no container engine answers: %v", err)
	}
}

// testFnPackage is the test function, of this module.
const testFnPackage = "github.com/tinefn/tine/test/testfn"

// CompileTestFn returns the test function's program, for Linux and static. It
// compiles once per test process: also an up-to-date build takes a few tenths of a
// second.
var CompileTestFn = sync.OnceValues(func() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	return Compile(ctx, "", testFnPackage)
})

// TestFn returns the name of an image of the test function, which it builds
// if the engine does not have it. Its tag is the hash of its content, so a
// changed function never runs from an old image.
func TestFn(t testing.TB) string {
	t.Helper()
	NeedEngine(t)
	program, err := CompileTestFn()
	if err != nil {
		t.Fatal(err)
	}
	files := goFiles(program)
	name := "tine-test/testfn:" + hash(files)[:12]
	ctx, cancel := context.WithTimeout(t.Context(), buildTimeout)
	defer cancel()
	if err := Build(ctx, name, files); err != nil {
		t.Fatal(err)
	}
	return name
}
