package image

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// engineLock is a file that each test process that uses the engine holds with
// a shared lock, and one that must be alone with an exclusive one: packages are
// tested side by side.
var engineLock = sync.OnceValues(func() (*os.File, error) {
	return os.OpenFile(filepath.Join(os.TempDir(), "tine-test-engine.lock"), os.O_RDWR|os.O_CREATE, 0o600)
})

// lockEngine takes the lock in one of its ways; the process holds it until
// another call changes that or the process ends.
func lockEngine(t testing.TB, how int) {
	t.Helper()
	file, err := engineLock()
	if err != nil {
		t.Fatalf("lock the engine: %v", err)
	}
	for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
		err = syscall.Flock(int(file.Fd()), how)
	}
	if err != nil {
		t.Fatalf("lock the engine: %v", err)
	}
}

// Alone keeps the tests of other processes from the engine until the test
// ends: for tests that restart it, or count what the machine holds. It is for
// tests that do not run in parallel with others of their process.
func Alone(t testing.TB) {
	t.Helper()
	NeedEngine(t)
	lockEngine(t, syscall.LOCK_EX)
	t.Cleanup(func() { lockEngine(t, syscall.LOCK_SH) })
}
