package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// opaqueXattr on a directory makes overlayfs hide what is below it. Source:
// Linux, Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
const opaqueXattr = "trusted.overlay.opaque"

// unixStat is what os tells about a file beyond fs.FileInfo.
type unixStat = syscall.Stat_t

// unpacker writes one layer's archive into a directory. Every path is walked
// from the layer's root through directories that are no symbolic links
// (parents_linux.go), and its last element is never followed, so nothing that an
// archive says reaches out of the root. Underneath os.Root makes the same sure.
type unpacker struct {
	ctx     context.Context
	opts    unpackOptions
	parents parents
	notes   Notes
	bytes   int64
	// times of directories are set at the end: each file in them changes them.
	times      map[string]time.Time
	timesBytes int
}

// mostTimesBytes bounds the memory that paths of a layer's directories take. An
// image with a hundred thousand directories needs ten million bytes.
const mostTimesBytes = 128 << 20

// unpack writes an archive into dir, an empty directory that nobody else uses.
func unpack(ctx context.Context, dir string, archive io.Reader, opts unpackOptions) (_ Notes, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Notes{}, err
	}
	defer root.Close()
	u := &unpacker{ctx: ctx, opts: opts, times: map[string]time.Time{}}
	u.parents.init(root, opts.limits, func(name string) { delete(u.times, name) })
	defer u.parents.close()
	reader := tar.NewReader(contextReader{ctx, archive})
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Notes{}, invalidUnlessKnown(ctx, fmt.Errorf("read the layer's archive: %w", err))
		}
		if err := u.parents.count(); err != nil {
			return Notes{}, err
		}
		if err := u.entry(header, reader); err != nil {
			return Notes{}, privilege(fmt.Errorf("unpack %q: %w", header.Name, invalidUnlessKnown(ctx, err)))
		}
	}
	return u.notes, u.setTimes()
}

// invalidUnlessKnown calls an error the image's fault if it is no other's:
// errors of archive/tar, and paths that contradict each other.
func invalidUnlessKnown(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, known := range []error{
		ErrInvalid, ErrLimit, ErrPrivilege, unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EPERM, unix.EACCES, unix.EROFS, unix.EMFILE, unix.ENFILE,
	} {
		if errors.Is(err, known) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrInvalid, err)
}

// privilege says what to do when the kernel refuses owners or opaque directories.
// Whiteouts are for everybody since Linux 5.8.
func privilege(err error) error {
	if (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)) && os.Geteuid() != 0 {
		return fmt.Errorf("%w (CAP_CHOWN, CAP_FOWNER, CAP_SYS_ADMIN): run the server as root, or functions with a container engine: %w", ErrPrivilege, err)
	}
	return err
}

func (u *unpacker) entry(header *tar.Header, content io.Reader) error {
	if header.Typeflag == tar.TypeXGlobalHeader {
		return nil // PAX records for all that follow, such as git's commit
	}
	name, kind, err := parseEntry(header.Name, u.opts.limits)
	if err != nil {
		return err
	}
	switch kind {
	case ignoredEntry:
		return nil
	case whiteoutEntry:
		return u.whiteout(name)
	case opaqueEntry:
		return u.opaque(name)
	case plainEntry:
	}
	if name == "." {
		if header.Typeflag != tar.TypeDir {
			return fmt.Errorf("%w: the layer's root is no directory", ErrInvalid)
		}
		return u.root(header)
	}
	at, base, err := u.parents.of(name, true)
	if err != nil {
		return err
	}
	// The path without symbolic links: two names of one directory are one.
	name = path.Join(at.path, base)
	switch header.Typeflag {
	case tar.TypeDir:
		return u.directory(at, base, name, header)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.file(at, base, header, content)
	case tar.TypeSymlink:
		return u.symlink(at, base, header)
	case tar.TypeLink:
		return u.hardLink(at, base, name, header)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		u.notes.skip(name)
		return nil
	}
	return fmt.Errorf("%w: an entry of the unknown type %q", ErrInvalid, header.Typeflag)
}

// root sets what the archive says about the layer's own directory.
func (u *unpacker) root(header *tar.Header) error {
	at, err := u.parents.open(".")
	if err != nil {
		return err
	}
	return u.setDirectory(int(at.dir.Fd()), ".", header)
}

func (u *unpacker) directory(at *parent, base, name string, header *tar.Header) error {
	info, err := at.root.Lstat(base)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || !info.IsDir() {
		// Not by its last element: that may be a symbolic link, which the
		// directory replaces.
		if err != nil {
			info = nil
		}
		u.parents.files-- // the entry was counted
		if err := u.parents.make(name, info); err != nil {
			return err
		}
	}
	dir, err := at.root.Open(base)
	if err != nil {
		return err
	}
	return errors.Join(u.setDirectory(int(dir.Fd()), name, header), dir.Close())
}

// setDirectory sets owner, mode and attributes of an open directory.
func (u *unpacker) setDirectory(fd int, name string, header *tar.Header) error {
	if _, known := u.times[name]; !known {
		u.timesBytes += len(name)
	}
	if u.timesBytes > mostTimesBytes {
		return fmt.Errorf("%w: paths of the layer's directories have more than %d bytes", ErrLimit, mostTimesBytes)
	}
	u.times[name] = header.ModTime
	return u.setOpen(fd, header)
}

func (u *unpacker) file(at *parent, base string, header *tar.Header, content io.Reader) error {
	// Sparse files have more bytes than the archive has for them.
	if header.Size < 0 || header.Size > u.opts.limits.LayerBytes-u.bytes {
		return fmt.Errorf("%w: the layer's files have more than %d bytes", ErrLimit, u.opts.limits.LayerBytes)
	}
	u.bytes += header.Size
	at, err := u.clear(at, base)
	if err != nil {
		return err
	}
	file, err := at.root.OpenFile(base, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// The zeros of a sparse file do not come from the archive, whose reader
	// would see that the context ended.
	_, err = io.Copy(file, contextReader{u.ctx, content})
	if err == nil {
		err = u.setOpen(int(file.Fd()), header)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return setTime(int(at.dir.Fd()), base, header.ModTime)
}

func (u *unpacker) symlink(at *parent, base string, header *tar.Header) error {
	// Its target means something in the container only, so it may be anything.
	if len(header.Linkname) > u.opts.limits.PathLength {
		return fmt.Errorf("%w: the target has %d bytes, more than %d", ErrLimit, len(header.Linkname), u.opts.limits.PathLength)
	}
	at, err := u.clear(at, base)
	if err != nil {
		return err
	}
	fd := int(at.dir.Fd())
	if err := unix.Symlinkat(header.Linkname, fd, base); err != nil {
		return os.NewSyscallError("symlinkat", err)
	}
	uid, gid, err := owner(header)
	if err != nil {
		return err
	}
	if err := unix.Fchownat(fd, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return os.NewSyscallError("fchownat", err)
	}
	return setTime(fd, base, header.ModTime)
}

func (u *unpacker) hardLink(at *parent, base, name string, header *tar.Header) error {
	target, kind, err := parseEntry(header.Linkname, u.opts.limits)
	if err != nil {
		return err
	}
	if kind != plainEntry || target == "." {
		return fmt.Errorf("%w: a hard link to %q", ErrInvalid, header.Linkname)
	}
	from, fromBase, err := u.parents.of(target, false)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", header.Linkname, err)
	}
	if path.Join(from.path, fromBase) == name {
		return fmt.Errorf("%w: a hard link to itself", ErrInvalid)
	}
	info, err := from.root.Lstat(fromBase)
	if err != nil {
		return fmt.Errorf("%w: hard link to %q, which the layer does not have: %w", ErrInvalid, header.Linkname, err)
	}
	if kind := info.Mode().Type(); kind != 0 && kind != fs.ModeSymlink {
		return fmt.Errorf("%w: a hard link to %q, which is no file", ErrInvalid, header.Linkname)
	}
	if at, err = u.clear(at, base); err != nil {
		return err
	}
	// What was in the way may have been what the target is in.
	if from, fromBase, err = u.parents.of(target, false); err != nil {
		return fmt.Errorf("hard link to %q: %w", header.Linkname, err)
	}
	if err := unix.Linkat(int(from.dir.Fd()), fromBase, int(at.dir.Fd()), base, 0); err != nil {
		return os.NewSyscallError("linkat", err)
	}
	return nil
}

// clear removes what an earlier entry made of the same path.
func (u *unpacker) clear(at *parent, base string) (*parent, error) {
	info, err := at.root.Lstat(base)
	if errors.Is(err, fs.ErrNotExist) {
		return at, nil
	}
	if err != nil {
		return nil, err
	}
	return u.parents.remove(at, base, info)
}

// whiteout hides a path of the layers below. What the same layer has under
// that path stays: whiteouts are for lower layers only, in whatever order the
// entries come.
func (u *unpacker) whiteout(name string) error {
	at, base, err := u.parents.of(name, true)
	if err != nil {
		return err
	}
	info, err := at.root.Lstat(base)
	switch {
	case err == nil && info.IsDir():
		return u.opaque(path.Join(at.path, base))
	case err == nil:
		return nil // a file hides what is below it anyway
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := unix.Mknodat(int(at.dir.Fd()), base, unix.S_IFCHR, 0); err != nil {
		return os.NewSyscallError("mknodat", err)
	}
	return nil
}

// opaque makes a directory hide those below it.
func (u *unpacker) opaque(name string) error {
	at, err := u.parents.directory(name, true)
	if err != nil {
		return err
	}
	return setOpaque(at.dir)
}
