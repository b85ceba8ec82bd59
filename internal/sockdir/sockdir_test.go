package sockdir

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newManager(t *testing.T, root string) *Manager {
	t.Helper()
	m, err := New(Options{Root: root, Logger: slog.New(slog.DiscardHandler)})
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

func newDir(t *testing.T, m *Manager) *Dir {
	t.Helper()
	d, err := m.Create()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// listen makes a socket as function kits do and answers one connection.
func listen(t *testing.T, dir, name string) {
	t.Helper()
	// Relative to the directory, because socket addresses are short and
	// temporary directories are not.
	fd, err := unix.Open(dir, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	listener, err := net.Listen("unix", filepath.Join("/proc/self/fd", strconv.Itoa(fd), name))
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	t.Cleanup(func() { listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		conn.Write([]byte("hello"))
		conn.Close()
	}()
}

func awaitReady(t *testing.T, d *Dir) {
	t.Helper()
	select {
	case <-d.Ready():
	case <-time.After(5 * time.Second):
		t.Fatal("the socket was not noticed")
	}
}

func TestSocketBehindRelativeLinkIsNoticedAndReached(t *testing.T) {
	d := newDir(t, newManager(t, t.TempDir()))
	listen(t, d.path, "phony.sock")
	select {
	case <-d.Ready():
		t.Fatal("ready before the name appeared")
	default:
	}
	if err := os.Symlink("phony.sock", filepath.Join(d.path, SocketName)); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, d)
	socket, err := d.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	// What happens to the names afterwards does not matter.
	if err := os.Remove(filepath.Join(d.path, "phony.sock")); err != nil {
		t.Fatal(err)
	}
	conn, err := socket.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var got [5]byte
	if _, err := conn.Read(got[:]); err != nil || !bytes.Equal(got[:], []byte("hello")) {
		t.Fatalf("read %q, %v", got, err)
	}
}

func TestSocketUnderTheNameItselfIsAccepted(t *testing.T) {
	d := newDir(t, newManager(t, t.TempDir()))
	listen(t, d.path, SocketName)
	awaitReady(t, d)
	socket, err := d.Open()
	if err != nil {
		t.Fatal(err)
	}
	socket.Close()
}

func TestSocketMayBeClosedWhileItIsDialed(t *testing.T) {
	d := newDir(t, newManager(t, t.TempDir()))
	listen(t, d.path, "lsnr.sock")
	awaitReady(t, d)
	socket, err := d.Open()
	if err != nil {
		t.Fatal(err)
	}
	var dialing sync.WaitGroup
	dialing.Go(func() {
		for conn, err := socket.Dial(t.Context()); err == nil; conn, err = socket.Dial(t.Context()) {
			conn.Close()
		}
	})
	time.Sleep(time.Millisecond)
	if err := socket.Close(); err != nil {
		t.Error(err)
	}
	dialing.Wait()
}

func TestForeignAndFalseSocketsAreRefused(t *testing.T) {
	outside := t.TempDir()
	listen(t, outside, "other.sock")
	tests := map[string]func(path string) error{
		"absolute link":   func(path string) error { return os.Symlink(filepath.Join(outside, "other.sock"), path) },
		"link to parent":  func(path string) error { return os.Symlink("../other.sock", path) },
		"link to dot-dot": func(path string) error { return os.Symlink("..", path) },
		"dangling link":   func(path string) error { return os.Symlink("nothing.sock", path) },
		"plain file":      func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"directory":       func(path string) error { return os.Mkdir(path, 0o700) },
		"pipe":            func(path string) error { return unix.Mkfifo(path, 0o666) },
		"link to a pipe": func(path string) error {
			return errors.Join(unix.Mkfifo(filepath.Join(filepath.Dir(path), "pipe"), 0o666), os.Symlink("pipe", path))
		},
		"link to itself":      func(path string) error { return os.Symlink(SocketName, path) },
		"link through itself": func(path string) error { return os.Symlink("./phony.sock", path) },
		"link to a link": func(path string) error {
			second := filepath.Join(filepath.Dir(path), "second.sock")
			return errors.Join(os.Symlink(filepath.Join(outside, "other.sock"), second), os.Symlink("second.sock", path))
		},
	}
	m := newManager(t, t.TempDir())
	for name, makeName := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDir(t, m)
			if err := makeName(filepath.Join(d.path, SocketName)); err != nil {
				t.Fatal(err)
			}
			awaitReady(t, d)
			if _, err := d.Open(); !errors.Is(err, ErrBadSocket) {
				t.Fatalf("got %v, want ErrBadSocket", err)
			}
		})
	}
}

func TestManyDirectoriesShareOneWatcher(t *testing.T) {
	m := newManager(t, t.TempDir())
	var wg sync.WaitGroup
	for range 100 {
		d := newDir(t, m)
		wg.Go(func() {
			if err := os.WriteFile(filepath.Join(d.path, SocketName), nil, 0o600); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-d.Ready():
			case <-time.After(5 * time.Second):
				t.Error("a socket was not noticed")
			}
			if err := errors.Join(d.Remove(), d.Remove()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(m.dirs) != 0 {
		t.Errorf("%d directories are still known", len(m.dirs))
	}
}

func TestDirectoriesAreClosedToOtherUsersAndOpenToTheContainer(t *testing.T) {
	root := t.TempDir()
	m := newManager(t, root)
	d := newDir(t, m)
	for path, want := range map[string]os.FileMode{m.dir: 0o700, d.path: 0o777} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %v, want %v", path, got, want)
		}
	}
}

func TestEngineSeesDirectoriesUnderItsOwnRoot(t *testing.T) {
	root := t.TempDir()
	m, err := New(Options{Root: root, EngineRoot: "/var/lib/sockets", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	d := newDir(t, m)
	want := strings.Replace(d.path, root, "/var/lib/sockets", 1)
	if d.EnginePath() != want {
		t.Errorf("got %s, want %s", d.EnginePath(), want)
	}
}

func TestLeftoversOfDeadProcessesAreRemovedAndLivingOnesKept(t *testing.T) {
	root := t.TempDir()
	dead := filepath.Join(root, processPrefix+"dead")
	if err := errors.Join(
		os.MkdirAll(filepath.Join(dead, "iofs1"), 0o755),
		os.WriteFile(filepath.Join(dead, lockName), nil, 0o600),
		os.Mkdir(filepath.Join(root, "foreign"), 0o755),
	); err != nil {
		t.Fatal(err)
	}
	living := newManager(t, root)
	newManager(t, root)
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("leftover still there: %v", err)
	}
	for _, kept := range []string{living.dir, filepath.Join(root, "foreign")} {
		if _, err := os.Stat(kept); err != nil {
			t.Error(err)
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	root := t.TempDir()
	m, err := New(Options{Root: root, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	newDir(t, m)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(root); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

// A removal may end half-way, by a kill or by what cannot be removed. What is left of it
// is found by the next start only if it has its lock still.
func TestHalfRemovedDirectoryIsSwept(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a directory that root cannot remove")
	}
	root := t.TempDir()
	m, err := New(Options{Root: root, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	d := newDir(t, m)
	stays := filepath.Join(d.path, "stays")
	if err := errors.Join(os.Mkdir(stays, 0o700), unix.Mount("tmpfs", stays, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(stays, unix.MNT_DETACH) }) // if the test ends before it does so itself
	if err := m.Close(); err == nil {
		t.Fatal("all was removed")
	}
	if err := unix.Unmount(stays, 0); err != nil {
		t.Fatal(err)
	}
	newManager(t, root)
	if _, err := os.Stat(filepath.Dir(d.path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}
