package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// setOpen sets owner, attributes and mode of an open file or directory. The
// owner comes first: changing it clears bits of the mode.
func (u *unpacker) setOpen(fd int, header *tar.Header) error {
	uid, gid, err := owner(header)
	if err != nil {
		return err
	}
	if err := unix.Fchown(fd, uid, gid); err != nil {
		return os.NewSyscallError("fchown", err)
	}
	if err := u.setXattrs(fd, header); err != nil {
		return err
	}
	mode := uint32(header.Mode) & 0o7777
	if setID := mode & (unix.S_ISUID | unix.S_ISGID); setID != 0 && header.Typeflag != tar.TypeDir && !u.opts.keepSetID {
		mode &^= setID
		u.notes.SetID++
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	return nil
}

// xattrRecord is the prefix of PAX records that are extended attributes.
// Source: the convention of star and GNU tar that builders follow.
const xattrRecord = "SCHILY.xattr."

// setXattrs keeps the attributes that belong to users. Others give rights
// (security.capability), or mean something to the host or to overlayfs.
func (u *unpacker) setXattrs(fd int, header *tar.Header) error {
	for key, value := range header.PAXRecords {
		name, isXattr := strings.CutPrefix(key, xattrRecord)
		if !isXattr {
			continue
		}
		if !strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "user.overlay.") {
			u.notes.XattrsCut++
			continue
		}
		err := unix.Fsetxattr(fd, name, []byte(value), 0)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ERANGE) || errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOSPC) {
			// Attributes have little room of their own: ENOSPC is not the disk's.
			u.notes.XattrsCut++
			continue
		}
		if err != nil {
			return os.NewSyscallError("fsetxattr "+name, err)
		}
	}
	return nil
}

// owner returns the numbers of an entry's owner. Names in archives mean
// something on the builder's machine only.
func owner(header *tar.Header) (uid, gid int, err error) {
	const most = math.MaxUint32 - 1 // the largest one means: do not change
	if header.Uid < 0 || header.Gid < 0 || int64(header.Uid) > most || int64(header.Gid) > most {
		return 0, 0, fmt.Errorf("%w: owner %d:%d", ErrInvalid, header.Uid, header.Gid)
	}
	return header.Uid, header.Gid, nil
}

func (u *unpacker) setTimes() error {
	for name, modified := range u.times {
		// What was below a directory that was replaced is not there any more.
		if real, err := u.parents.walk(name, false, false); err != nil || real != name {
			continue
		}
		at, err := u.parents.open(name)
		if err != nil {
			return err
		}
		if err := setTime(int(at.dir.Fd()), ".", modified); err != nil {
			return err
		}
	}
	return nil
}

func setTime(fd int, base string, modified time.Time) error {
	stamp, err := unix.TimeToTimespec(modified)
	if err != nil {
		return fmt.Errorf("%w: time %v: %w", ErrInvalid, modified, err)
	}
	err = unix.UtimesNanoAt(fd, base, []unix.Timespec{stamp, stamp}, unix.AT_SYMLINK_NOFOLLOW)
	return os.NewSyscallError("utimensat", err)
}

// syncFilesystem makes everything last that was written to a directory's
// file system.
func syncFilesystem(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(file.Fd())), file.Close())
}
