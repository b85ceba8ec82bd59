package sockdir

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newMemoryManager makes directories in memory, which only root may.
func newMemoryManager(t *testing.T) *Manager {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("file systems in memory need root")
	}
	m, err := New(Options{Root: t.TempDir(), Logger: slog.New(slog.DiscardHandler), Memory: Memory{Bytes: 65536, Inodes: 20}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestSocketInMemoryIsNoticedAndReached(t *testing.T) {
	d := newDir(t, newMemoryManager(t))
	if d.EnginePath() != d.path || !strings.HasPrefix(d.path, "/proc/self/fd/") {
		t.Errorf("paths %s and %s", d.path, d.EnginePath())
	}
	listen(t, d.path, "phony.sock")
	if err := os.Symlink("phony.sock", filepath.Join(d.path, SocketName)); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, d)
	socket, err := d.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	conn, err := socket.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if n, err := conn.Read(make([]byte, 5)); n != 5 {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func TestDirectoryInMemoryIsBounded(t *testing.T) {
	d := newDir(t, newMemoryManager(t))
	var err error
	made := 0
	for ; err == nil; made++ {
		err = unix.Mkfifo(filepath.Join(d.path, strconv.Itoa(made)), 0)
	}
	if !errors.Is(err, unix.ENOSPC) || made > 20 {
		t.Errorf("%d files were made, %v", made, err)
	}
	if err := os.Remove(filepath.Join(d.path, "0")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.path, "big"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a megabyte was written, %v", err)
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(d.path, &stat); err != nil || stat.Flags&unix.ST_NOEXEC == 0 || stat.Flags&unix.ST_NOSUID == 0 || stat.Flags&unix.ST_NODEV == 0 {
		t.Errorf("flags %#x, %v", stat.Flags, err)
	}
}

func TestNothingOfADirectoryInMemoryIsLeft(t *testing.T) {
	m := newMemoryManager(t)
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before, watched := descriptors(), watches(t)
	for range 20 {
		d := newDir(t, m)
		nest(t, d.path, 5)
		if err := errors.Join(d.Remove(), d.Remove()); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Open(); !errors.Is(err, ErrBadSocket) {
			t.Errorf("opened a removed directory: %v", err)
		}
	}
	if now := descriptors(); now != before || watches(t) != watched {
		t.Errorf("%d descriptors, were %d", now, before)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), m.dir) {
		t.Errorf("something is mounted, %v", err)
	}
}

// Descriptors' numbers are used again at once: an event of a directory that is gone
// may be read when another one has its path.
func TestEventOfAnEarlierDirectoryIsNotTheNextOnes(t *testing.T) {
	m := newMemoryManager(t)
	d := newDir(t, m)
	m.appeared(d.path) // as the event says
	select {
	case <-d.Ready():
		t.Error("it is ready, and has no socket")
	default:
	}
	listen(t, d.path, SocketName)
	awaitReady(t, d)
}
