package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// locks are how servers on one host find out about each other: whoever changes
// the bridge or its rules holds the first file alone while it does, and each
// server shares the second one as long as it lives. Both end with the process,
// however that ends.
//
// The names contain the network namespace, as a bridge belongs to one.
type locks struct {
	setup string
	users string
}

// lockPause is the time between attempts to get a lock, and lockTimeout how
// long they are made: another server needs milliseconds for its set-up.
const (
	lockPause   = 10 * time.Millisecond
	lockTimeout = 10 * time.Second
)

func newLocks(dir, bridge string) (locks, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return locks{}, fmt.Errorf("make the directory for locks of networks: %w", err)
	}
	info, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return locks{}, fmt.Errorf("look up the server's network namespace: %w", err)
	}
	name := fmt.Sprintf("%d-%s", info.Sys().(*syscall.Stat_t).Ino, bridge)
	return locks{filepath.Join(dir, name+".setup"), filepath.Join(dir, name+".users")}, nil
}

// enter takes the right to change the bridge and its rules, which ends when the
// file is closed.
func (l locks) enter(ctx context.Context) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	for {
		file, err := tryLock(l.setup, unix.LOCK_EX)
		switch {
		case err == nil:
			// Whoever leaves last removes the file. A lock on a removed file is none.
			mine, mineErr := file.Stat()
			current, currentErr := os.Stat(l.setup)
			if mineErr == nil && currentErr == nil && os.SameFile(mine, current) {
				return file, nil
			}
			_ = file.Close()
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, fmt.Errorf("lock %s: %w", l.setup, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another server holds %s, which it should for milliseconds only: %w", l.setup, ctx.Err())
		case <-time.After(lockPause):
		}
	}
}

// join becomes one of the bridge's users until the file is closed, and tells
// whether there was no other. The caller has entered.
func (l locks) join() (file *os.File, alone bool, err error) {
	file, err = tryLock(l.users, unix.LOCK_EX)
	if err == nil {
		if err := flock(file, unix.LOCK_SH); err != nil {
			return nil, false, errors.Join(fmt.Errorf("lock %s: %w", l.users, err), file.Close())
		}
		return file, true, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		file, err = tryLock(l.users, unix.LOCK_SH)
	}
	if err != nil {
		return nil, false, fmt.Errorf("lock %s: %w", l.users, err)
	}
	return file, false, nil
}

// leave is the opposite of join, and tells whether nobody else is left. The
// caller has entered.
func (l locks) leave(users *os.File) (last bool) {
	last = flock(users, unix.LOCK_EX) == nil
	_ = users.Close()
	return last
}

// remove removes the files. The caller has entered, and is the last.
func (l locks) remove() error {
	var errs []error
	for _, path := range []string{l.users, l.setup} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func tryLock(path string, how int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(file, how); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// flock does not wait: it fails with EWOULDBLOCK.
func flock(file *os.File, how int) error {
	for {
		if err := unix.Flock(int(file.Fd()), how|unix.LOCK_NB); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
