package sockdir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// removeBatch is how many names of a directory are read at a time.
const removeBatch = 512

// removeTree deletes a directory with all that is in it, and follows no link.
// What is in it was made by somebody who may mean harm: directories in each other,
// a hundred thousand deep, would take os.RemoveAll as many descriptors. So what
// is not empty is lifted to the top first, which takes two.
func removeTree(path string) error {
	top, err := openDir(unix.AT_FDCWD, path)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = top.Close() }() // it was only read
	r := remover{top: top}
	if err := emptyDir(top, func(name string) error { return r.remove(top, name) }); err != nil {
		return fmt.Errorf("empty %s: %w", path, err)
	}
	return os.Remove(path)
}

// openDir opens a directory for reading. A link is none.
func openDir(dir int, name string) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// emptyDir calls remove for each name in a directory, until there is none.
func emptyDir(dir *os.File, remove func(name string) error) error {
	for {
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
		names, err := dir.Readdirnames(removeBatch)
		if len(names) == 0 { // with io.EOF, as nothing is left
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			return nil
		}
		for _, name := range names {
			if err := remove(name); err != nil {
				return err
			}
		}
	}
}

// remover deletes what is in one directory.
type remover struct {
	top    *os.File
	lifted int // directories that were moved there
}

// remove deletes a name in a directory: the top, or one right below. What is not
// empty is emptied, or lifted to the top if it is below.
func (r *remover) remove(dir *os.File, name string) error {
	fd := int(dir.Fd())
	err := unix.Unlinkat(fd, name, 0)
	if errors.Is(err, unix.EISDIR) {
		err = unix.Unlinkat(fd, name, unix.AT_REMOVEDIR)
	}
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		return nil
	case !errors.Is(err, unix.ENOTEMPTY):
		return &os.PathError{Op: "remove", Path: name, Err: err}
	case dir != r.top:
		return r.lift(dir, name)
	}
	below, err := openDir(fd, name)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer func() { _ = below.Close() }() // it was only read
	if err := emptyDir(below, func(name string) error { return r.remove(below, name) }); err != nil {
		return err
	}
	if err := unix.Unlinkat(fd, name, unix.AT_REMOVEDIR); err != nil {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

// lift moves a directory to the top, under a name that is free.
func (r *remover) lift(dir *os.File, name string) error {
	for {
		r.lifted++
		free := ".lifted-" + strconv.Itoa(r.lifted)
		err := unix.Renameat2(int(dir.Fd()), name, int(r.top.Fd()), free, unix.RENAME_NOREPLACE)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EEXIST):
			return &os.PathError{Op: "move", Path: filepath.Join(dir.Name(), name), Err: err}
		}
	}
}
