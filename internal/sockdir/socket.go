package sockdir

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Socket is a function's socket, held open by its inode. It is safe for
// concurrent use.
type Socket struct {
	mu   sync.RWMutex // keeps the descriptor from being closed, and used for another file, in the middle of Dial
	file *os.File     // O_PATH
}

// openSocket opens the name in dir without following links.
func openSocket(dir, name string) (*Socket, error) {
	fd, err := unix.Open(filepath.Join(dir, name), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: open %s: %w", ErrBadSocket, name, err)
	}
	file := os.NewFile(uintptr(fd), name)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: stat %s: %w", ErrBadSocket, name, err), file.Close())
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, errors.Join(fmt.Errorf("%w: %s is not a socket", ErrBadSocket, name), file.Close())
	}
	return &Socket{file: file}, nil
}

// Dial connects to the function. It goes through /proc/self/fd, which names
// the inode that was checked and is short enough for any socket address.
func (s *Socket) Dial(ctx context.Context) (net.Conn, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", "/proc/self/fd/"+strconv.Itoa(int(s.file.Fd())))
}

// Close lets go of the socket; established connections stay.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file.Close()
}
