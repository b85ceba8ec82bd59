//go:build linux

package native

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/native/sandbox"
)

// maxUserFile bounds what is read of a file with users or groups, in bytes. An image
// with more of them is not one of functions.
const maxUserFile = 1 << 20

// errUser is for an image's user that cannot be.
var errUser = fmt.Errorf("%w: its user cannot be used", driver.ErrProgram)

// userOf is who a program runs as: the user of functions, or that of the image if
// containers are not unprivileged. Names, home and further groups are what the image's
// own files say, as with Docker.
func userOf(root *os.File, unprivileged bool, named string) (*user.ExecUser, error) {
	if unprivileged {
		named = driver.UnprivilegedUser
	}
	passwd, err := openInside(root, "etc/passwd")
	if err != nil {
		return nil, err
	}
	defer passwd.close()
	group, err := openInside(root, "etc/group")
	if err != nil {
		return nil, err
	}
	defer group.close()
	who, err := user.GetExecUser(named, &user.ExecUser{Home: "/"}, passwd.reader(), group.reader())
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %w", errUser, named, err)
	}
	for _, id := range append([]int{who.Uid, who.Gid}, who.Sgids...) {
		if id < 0 || id >= sandbox.IDsPerSandbox {
			return nil, fmt.Errorf("%w: %q: id %d is not from 0 to %d", errUser, named, id, sandbox.IDsPerSandbox-1)
		}
	}
	return who, nil
}

// insideFile is a file of an image, or none.
type insideFile struct{ file *os.File }

// openInside opens a file of an image, whatever links lead to, but not out of it. What
// is not a file is none.
func openInside(root *os.File, name string) (insideFile, error) {
	fd, err := unix.Openat2(int(root.Fd()), name, &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO):
		return insideFile{}, nil
	case err != nil:
		return insideFile{}, fmt.Errorf("open /%s of the image: %w", name, err)
	}
	file := os.NewFile(uintptr(fd), name)
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return insideFile{}, errors.Join(err, file.Close())
	}
	return insideFile{file}, nil
}

// reader is nil if there is no file.
func (f insideFile) reader() io.Reader {
	if f.file == nil {
		return nil
	}
	return io.LimitReader(f.file, maxUserFile)
}

func (f insideFile) close() {
	if f.file != nil {
		_ = f.file.Close() // only read
	}
}
