package sockdir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// ErrBadSocket says that a function made something under the socket's name
// that is not a socket in its own directory.
var ErrBadSocket = errors.New("the function's listener is not a socket in its own directory")

// Dir is one container's socket directory.
type Dir struct {
	manager    *Manager
	path       string
	enginePath string

	mu   sync.RWMutex // keeps file from being closed, and its number used for another, while path is in use
	file *os.File     // of a directory in memory; nil: it is on disk, or removed
	gone bool

	readyOnce sync.Once
	ready     chan struct{}
}

// EnginePath is the directory as the container engine sees it. That of a directory in
// memory goes by a descriptor of this process, and holds until Remove.
func (d *Dir) EnginePath() string { return d.enginePath }

// Ready is closed when the socket's name has appeared. Call Open then.
func (d *Dir) Ready() <-chan struct{} { return d.ready }

func (d *Dir) markReady() { d.readyOnce.Do(func() { close(d.ready) }) }

// Open resolves the socket's name, refuses what does not belong to the
// function, and stops watching the directory. The result keeps the very
// socket that was checked: what the function does to the names afterwards
// does not change where its callers connect to.
func (d *Dir) Open() (*Socket, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.gone {
		return nil, fmt.Errorf("%w: its directory is removed", ErrBadSocket)
	}
	// Errors are ignored: the watch ends with the directory at the latest.
	_ = d.manager.watcher.Remove(d.path)

	name := SocketName
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return nil, fmt.Errorf("open socket directory: %w", err)
	}
	defer root.Close()
	info, err := root.Lstat(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadSocket, err)
	}
	if info.Mode()&os.ModeSymlink != 0 {
		// The target must be a plain name: the container sees the directory
		// under another path, and nothing outside it is the function's.
		target, err := root.Readlink(name)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadSocket, err)
		}
		if target != filepath.Base(target) || target == "." || target == ".." || strings.ContainsRune(target, '/') {
			return nil, fmt.Errorf("%w: it links to %q", ErrBadSocket, target)
		}
		name = target
	}
	return openSocket(d.path, name)
}

// Remove deletes the directory with all that is in it. It may be repeated.
func (d *Dir) Remove() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone {
		return nil
	}
	_ = d.manager.watcher.Remove(d.path)
	d.manager.mu.Lock()
	delete(d.manager.dirs, d.path)
	d.manager.mu.Unlock()
	if d.file != nil {
		d.gone = true
		return d.file.Close() // with which all that is in it is gone
	}
	if err := removeTree(d.path); err != nil {
		return fmt.Errorf("remove socket directory: %w", err)
	}
	d.gone = true
	return nil
}

// has reports whether the name is in the directory.
func (d *Dir) has(name string) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.gone {
		return false
	}
	_, err := os.Lstat(filepath.Join(d.path, name))
	return err == nil
}
