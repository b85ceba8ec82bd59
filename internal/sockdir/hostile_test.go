package sockdir

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// What a function does with its directory that no kit does.

// withFewDescriptors lowers this process's limit of open files to what it has
// open and some more.
func withFewDescriptors(t *testing.T, more uint64) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	lower := limit
	lower.Cur = uint64(len(open)) + more
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lower); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	})
}

// nest makes directories in each other, with a file in each.
func nest(t *testing.T, dir string, depth int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range depth {
		next := -1
		file, err := unix.Openat(fd, "file", unix.O_CREAT|unix.O_WRONLY, 0)
		if err == nil {
			err = errors.Join(unix.Close(file), unix.Mkdirat(fd, "d", 0o700))
		}
		if err == nil {
			next, err = unix.Openat(fd, "d", unix.O_PATH|unix.O_DIRECTORY, 0)
		}
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
}

func TestDeepDirectoriesAreRemovedWithFewDescriptors(t *testing.T) {
	const depth, descriptors = 3000, 50
	root := t.TempDir()
	m := newManager(t, root)
	d := newDir(t, m)
	nest(t, d.path, depth)
	// Names that lifted directories could have.
	nest(t, filepath.Join(d.path, "d", "d"), 0)
	for i := range 5 {
		if err := os.MkdirAll(filepath.Join(d.path, ".lifted-"+strconv.Itoa(i), "a", "b"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	withFewDescriptors(t, descriptors)
	if err := d.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(d.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestWhateverIsInADirectoryIsRemoved(t *testing.T) {
	outside := t.TempDir()
	kept := filepath.Join(outside, "kept")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]func(t *testing.T, dir string) error{
		"many files": func(_ *testing.T, dir string) error {
			for i := range 5 * removeBatch {
				if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0); err != nil {
					return err
				}
			}
			return nil
		},
		"directories that nobody may enter": func(_ *testing.T, dir string) error {
			if os.Geteuid() != 0 {
				return nil // only root can, as functions are other users
			}
			inner := filepath.Join(dir, "a", "b", "c")
			return errors.Join(os.MkdirAll(inner, 0o700), os.WriteFile(filepath.Join(inner, "file"), nil, 0),
				os.Chmod(inner, 0), os.Chmod(filepath.Join(dir, "a", "b"), 0), os.Chmod(filepath.Join(dir, "a"), 0))
		},
		"odd names": func(_ *testing.T, dir string) error {
			var failed error
			for _, name := range []string{"\n", " ", "-rf", "*", "\\", "\xff\xfe", "\x01\x1b[2J", string(make([]byte, 0, 1)) + "ä", fmt.Sprintf("%0255d", 0)} {
				failed = errors.Join(failed, os.Mkdir(filepath.Join(dir, name), 0o700), os.WriteFile(filepath.Join(dir, name, name), nil, 0))
			}
			return failed
		},
		"links": func(_ *testing.T, dir string) error {
			return errors.Join(os.Symlink(outside, filepath.Join(dir, "absolute")), os.Symlink("..", filepath.Join(dir, "parent")),
				os.Symlink("loop", filepath.Join(dir, "loop")), os.Symlink(outside, filepath.Join(dir, SocketName)), os.Link(kept, filepath.Join(dir, "hard")))
		},
		"pipes and sockets": func(t *testing.T, dir string) error {
			listen(t, dir, "socket")
			return unix.Mkfifo(filepath.Join(dir, "pipe"), 0)
		},
	}
	m := newManager(t, t.TempDir())
	for name, fill := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDir(t, m)
			if err := fill(t, d.path); err != nil {
				t.Fatal(err)
			}
			if err := d.Remove(); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(d.path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it is still there: %v", err)
			}
			if _, err := os.Lstat(kept); err != nil {
				t.Error(err)
			}
		})
	}
}

// hostSocket is one that a function must not make the server connect to.
func hostSocket(t *testing.T) (path string, connections *atomic.Int64) {
	t.Helper()
	dir, err := os.MkdirTemp("", "sockdir") // short enough for an address
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "host.sock")
	listener, err := net.Listen("unix", path) //nolint:noctx // of this machine
	if err != nil {
		t.Fatal(err)
	}
	connections = new(atomic.Int64)
	var wg sync.WaitGroup
	wg.Go(func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			connections.Add(1)
			conn.Close()
		}
	})
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return path, connections
}

// A function changes what its names mean, all the time, between its socket and one
// of the host. Whatever the server has looked at, it connects to nothing else.
func TestSwappedSocketIsNotFollowed(t *testing.T) {
	host, connections := hostSocket(t)
	for name, swapped := range map[string]string{"the name": SocketName, "what it links to": "phony.sock"} {
		t.Run(name, func(t *testing.T) {
			d := newDir(t, newManager(t, t.TempDir()))
			own, bad, at := filepath.Join(d.path, "own.sock"), filepath.Join(d.path, "bad"), filepath.Join(d.path, swapped)
			listen(t, d.path, "own.sock")
			if err := os.Symlink(host, bad); err != nil {
				t.Fatal(err)
			}
			good := filepath.Join(d.path, "good")
			if swapped == SocketName {
				if err := errors.Join(os.Symlink("own.sock", good), os.Symlink("own.sock", at)); err != nil {
					t.Fatal(err)
				}
			} else if err := errors.Join(os.Link(own, good), os.Link(own, at), os.Symlink(swapped, filepath.Join(d.path, SocketName))); err != nil {
				t.Fatal(err)
			}
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					for _, other := range []string{bad, good} {
						if err := unix.Renameat2(unix.AT_FDCWD, other, unix.AT_FDCWD, at, unix.RENAME_EXCHANGE); err != nil {
							t.Error(err)
							return
						}
					}
				}
			})
			opened, refused := 0, 0
			for range 3000 {
				socket, err := d.Open()
				if err != nil {
					if !errors.Is(err, ErrBadSocket) {
						t.Error(err)
					}
					refused++
					continue
				}
				opened++
				if conn, err := socket.Dial(t.Context()); err == nil { // its queue may be full
					conn.Close()
				}
				socket.Close()
			}
			close(stop)
			wg.Wait()
			if opened == 0 || refused == 0 {
				t.Errorf("%d opened, %d refused: one of both was not tried", opened, refused)
			}
			if n := connections.Load(); n != 0 {
				t.Errorf("%d connections to the host's socket", n)
			}
		})
	}
}

// What is put in the socket's place later changes nothing for its callers.
func TestReplacedSocketIsNotReached(t *testing.T) {
	host, connections := hostSocket(t)
	for name, replace := range map[string]func(path string) error{
		"a link to the host": func(path string) error { return os.Symlink(host, path) },
		"a hard link":        func(path string) error { return os.Link(host, path) },
		"a pipe":             func(path string) error { return unix.Mkfifo(path, 0o666) },
		"a directory":        func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDir(t, newManager(t, t.TempDir()))
			listen(t, d.path, SocketName)
			awaitReady(t, d)
			socket, err := d.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			path := filepath.Join(d.path, SocketName)
			if err := errors.Join(os.Remove(path), replace(path)); err != nil {
				if errors.Is(err, unix.EXDEV) {
					t.Skip(err)
				}
				t.Fatal(err)
			}
			conn, err := socket.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if n := connections.Load(); n != 0 {
				t.Errorf("%d connections to the host's socket", n)
			}
			if n, err := conn.Read(make([]byte, 5)); n == 0 {
				t.Errorf("the function does not answer: %v", err)
			}
		})
	}
}

// A function that makes names without end, before its socket, loses none of the
// others theirs.
func TestFloodOfNamesHidesNoSocket(t *testing.T) {
	m := newManager(t, t.TempDir())
	flooded, other := newDir(t, m), newDir(t, m)
	name := filepath.Join(flooded.path, "name")
	for range 20_000 { // more than the kernel keeps: fs.inotify.max_queued_events is 16384
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Remove(name)); err != nil {
			t.Fatal(err)
		}
	}
	listen(t, other.path, SocketName)
	listen(t, flooded.path, SocketName)
	awaitReady(t, other)
	awaitReady(t, flooded)
}
