// Package sockdir makes the directories in which function containers put
// their sockets, and tells when a socket is there.
//
// One directory belongs to one container, which sees it as
// driver.SocketMountPath. A function kit listens on a socket under some other
// name and then makes the name lsnr.sock point to it, so the appearance of
// that name is the sign of readiness; nobody probes by connecting, because
// some kits take the first connection for a call. All directories share one
// inotify instance: closing one costs milliseconds, and the kernel allows few.
package sockdir

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// SocketName is the name that a ready function has made in its directory.
// Source: the function container contract, FN_LISTENER=unix:/tmp/iofs/lsnr.sock.
const SocketName = "lsnr.sock"

// Directories of one server process live below <root>/<processPrefix><random>;
// the lock file in it is held as long as the process lives.
const (
	processPrefix = "tine-iofs-"
	lockName      = ".lock"
)

// Options configures a [Manager].
type Options struct {
	Root       string // where directories are made; empty: the system's temporary directory
	EngineRoot string // Root as the container engine sees it; empty: the same
	Memory     Memory // for drivers that take a directory by its descriptor
	Logger     *slog.Logger
}

// Manager makes directories and watches them. It is safe for concurrent use.
type Manager struct {
	dir       string // this process's directory
	engineDir string // the same, as the engine sees it
	lock      *os.File
	memory    Memory
	log       *slog.Logger
	watcher   *fsnotify.Watcher
	done      chan struct{} // closed when the watching goroutine ended

	mu   sync.Mutex // guards dirs
	dirs map[string]*Dir
}

// New makes this process's directory below the root, removes what crashed
// processes left there, and starts watching. Close ends it.
func New(opts Options) (*Manager, error) {
	root := opts.Root
	if root == "" {
		root = os.TempDir()
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory for function sockets, set FN_IOFS_PATH to a writable one: %w", err)
	}
	engineRoot := opts.EngineRoot
	if engineRoot == "" {
		engineRoot = root
	}
	sweep(root, opts.Logger)
	// Only this process may enter: the directories inside are open to every
	// user, because a container's user is not the server's.
	dir, err := os.MkdirTemp(root, processPrefix)
	if err != nil {
		return nil, fmt.Errorf("make the directory for function sockets, set FN_IOFS_PATH to a writable one: %w", err)
	}
	m := &Manager{
		dir: dir, engineDir: filepath.Join(engineRoot, filepath.Base(dir)),
		memory: opts.Memory, log: opts.Logger, done: make(chan struct{}), dirs: map[string]*Dir{},
	}
	if m.lock, err = lockDir(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), os.RemoveAll(dir))
	}
	if m.watcher, err = fsnotify.NewWatcher(); err != nil {
		return nil, errors.Join(fmt.Errorf("watch function sockets: %w", err), m.lock.Close(), os.RemoveAll(dir))
	}
	go m.watch()
	return m, nil
}

// Create makes a directory and watches it. The caller removes it.
func (m *Manager) Create() (*Dir, error) {
	if m.memory.Inodes > 0 {
		return m.createInMemory()
	}
	path, err := os.MkdirTemp(m.dir, "iofs")
	if err != nil {
		return nil, fmt.Errorf("make a socket directory: %w", err)
	}
	d := &Dir{
		manager: m, path: path, enginePath: filepath.Join(m.engineDir, filepath.Base(path)),
		ready: make(chan struct{}),
	}
	// MkdirTemp's mode is cut by the umask, so it is set afterwards.
	if err := os.Chmod(path, 0o777); err != nil {
		return nil, errors.Join(fmt.Errorf("open a socket directory to the container: %w", err), d.Remove())
	}
	return m.watchDir(d)
}

// watchDir watches a directory that was made, or removes it.
func (m *Manager) watchDir(d *Dir) (*Dir, error) {
	m.mu.Lock()
	m.dirs[d.path] = d
	m.mu.Unlock()
	if err := m.watcher.Add(d.path); err != nil {
		return nil, errors.Join(fmt.Errorf("watch a socket directory, raise fs.inotify.max_user_watches if it is exhausted: %w", err), d.Remove())
	}
	return d, nil
}

// Close removes all directories. No directory may be in use any more.
func (m *Manager) Close() error {
	err := m.watcher.Close()
	<-m.done
	for _, d := range m.all() {
		if d.file != nil { // the others are removed together
			err = errors.Join(err, d.Remove())
		}
	}
	return errors.Join(err, removeProcessDir(m.dir), m.lock.Close())
}

func (m *Manager) watch() {
	defer close(m.done)
	for {
		select {
		case event, ok := <-m.watcher.Events:
			if !ok {
				return
			}
			if event.Has(fsnotify.Create) && filepath.Base(event.Name) == SocketName {
				m.appeared(filepath.Dir(event.Name))
			}
		case err, ok := <-m.watcher.Errors:
			if !ok {
				return
			}
			m.log.Warn("watching function sockets", slog.Any("error", err))
			m.checkAll() // events may be lost
		}
	}
}

func (m *Manager) appeared(path string) {
	m.mu.Lock()
	d := m.dirs[path]
	m.mu.Unlock()
	// The event may be of an earlier directory whose descriptor had the same number.
	if d != nil && d.has(SocketName) {
		d.markReady()
	}
}

func (m *Manager) checkAll() {
	for _, d := range m.all() {
		if d.has(SocketName) {
			d.markReady()
		}
	}
}

// all are the directories that there are now.
func (m *Manager) all() []*Dir {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.dirs))
}

// lockDir marks a process directory as alive until the file is closed.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// removeProcessDir removes a process's directory with the lock last: what has no lock
// looks as if it was being made, and would stay for ever after a crash in between.
func removeProcessDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		remove := os.Remove
		if entry.IsDir() {
			remove = removeTree
		}
		if entry.Name() == lockName {
			continue
		}
		if err := remove(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return removeTree(dir)
}

// sweep removes the directories of processes that ended without doing so.
func sweep(root string, log *slog.Logger) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return
	}
	for _, entry := range entries {
		dir := filepath.Join(root, entry.Name())
		if !entry.IsDir() || !strings.HasPrefix(entry.Name(), processPrefix) {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, lockName)); err != nil {
			continue // being made this moment, or not ours to read
		}
		lock, err := lockDir(dir)
		if err != nil {
			continue // its process lives
		}
		if err := errors.Join(removeProcessDir(dir), lock.Close()); err != nil {
			log.Warn("cannot remove socket directories of an earlier run", slog.String("path", dir), slog.Any("error", err))
		}
	}
}
