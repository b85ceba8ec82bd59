package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// treeUsage is what an unpacked layer takes.
type treeUsage struct {
	bytes int64 // on disk, a file with several names once
	files int64 // names
}

// treeHasher reads a directory that was unpacked, in the order of its names.
type treeHasher struct {
	ctx   context.Context
	sum   hash.Hash
	usage treeUsage
	seen  map[uint64]int64 // inode with several names -> number of its first one
}

// hashTree returns a digest of all that a container would see of a directory:
// names, types, modes, owners, times, contents, link targets, whiteouts. The
// archive that it came from cannot be made again from it, so the diffID does not
// tell whether the directory is still what was unpacked; this does.
func hashTree(ctx context.Context, dir string) (v1.Hash, treeUsage, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return v1.Hash{}, treeUsage{}, err
	}
	defer root.Close()
	t := &treeHasher{ctx: ctx, sum: sha256.New(), seen: map[uint64]int64{}}
	info, err := root.Stat(".")
	if err != nil {
		return v1.Hash{}, treeUsage{}, err
	}
	if err := t.directory(root, ".", info); err != nil {
		return v1.Hash{}, treeUsage{}, err
	}
	return sumOf(t.sum), t.usage, nil
}

// line adds an entry. Quoting keeps one entry from looking like two.
func (t *treeHasher) line(name string, info fs.FileInfo, extra string) error {
	stat, ok := info.Sys().(*unixStat)
	if !ok {
		return fmt.Errorf("no attributes of %q", name)
	}
	fmt.Fprintf(t.sum, "%q %o %d:%d %d.%09d %d %q\n", name, stat.Mode, stat.Uid, stat.Gid, stat.Mtim.Sec, stat.Mtim.Nsec, stat.Rdev, extra)
	t.usage.files++
	t.usage.bytes += stat.Blocks * 512
	return nil
}

func (t *treeHasher) directory(root *os.Root, name string, info fs.FileInfo) error {
	if t.ctx.Err() != nil {
		return context.Cause(t.ctx)
	}
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	var opaque [1]byte
	n, err := unix.Fgetxattr(int(dir.Fd()), opaqueXattr, opaque[:])
	if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) {
		return errors.Join(os.NewSyscallError("fgetxattr", err), dir.Close())
	}
	if err := t.line(name, info, string(opaque[:max(n, 0)])); err != nil {
		return errors.Join(err, dir.Close())
	}
	entries, err := dir.ReadDir(-1)
	if err := errors.Join(err, dir.Close()); err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, entry := range entries {
		info, err := root.Lstat(entry.Name())
		if err != nil {
			return err
		}
		if err := t.entry(root, name+"/"+entry.Name(), info); err != nil {
			return err
		}
	}
	return nil
}

func (t *treeHasher) entry(root *os.Root, name string, info fs.FileInfo) error {
	base := info.Name()
	switch info.Mode().Type() {
	case fs.ModeDir:
		child, err := root.OpenRoot(base)
		if err != nil {
			return err
		}
		return errors.Join(t.directory(child, name, info), child.Close())
	case fs.ModeSymlink:
		target, err := root.Readlink(base)
		if err != nil {
			return err
		}
		return t.line(name, info, target)
	case 0:
		return t.file(root, base, name, info)
	default: // a whiteout, or what nobody unpacked
		return t.line(name, info, "")
	}
}

func (t *treeHasher) file(root *os.Root, base, name string, info fs.FileInfo) error {
	if stat, ok := info.Sys().(*unixStat); ok && stat.Nlink > 1 {
		if first, again := t.seen[stat.Ino]; again {
			t.usage.files++
			fmt.Fprintf(t.sum, "%q = %d\n", name, first)
			return nil
		}
		t.seen[stat.Ino] = t.usage.files
	}
	if err := t.line(name, info, fmt.Sprint(info.Size())); err != nil {
		return err
	}
	file, err := root.Open(base)
	if err != nil {
		return err
	}
	n, err := io.Copy(t.sum, contextReader{t.ctx, file})
	if err == nil && n != info.Size() {
		err = fmt.Errorf("%q has %d bytes instead of %d", name, n, info.Size())
	}
	return errors.Join(err, file.Close())
}
