package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	openParents  = 16     // directories that are kept open: archives go directory by directory
	mostSymlinks = 40     // of one path, as the kernel's own limit
	mostKnown    = 10_000 // directories that need not be looked up again
	// implicitMode is that of directories that an archive has files in, but
	// does not list.
	implicitMode = 0o755
)

// parents finds the directories that entries are in. Symbolic links that the
// layer itself has on the way are followed as if the layer's root were the
// system's, so that neither absolute links nor .. lead out of it.
type parents struct {
	root   *os.Root
	limits Limits
	known  map[string]bool // some paths that are directories, with none but directories above
	files  int             // that the layer has, with directories that it does not list
	opened []*parent       // the last used first
	forget func(name string)
}

// parent is an open directory of the layer. It may be closed by the second
// call after the one that returned it, or when a directory is removed.
type parent struct {
	path string // from the layer's root, without symbolic links
	root *os.Root
	dir  *os.File // the same directory, for system calls that os.Root does not have
}

func (p *parents) init(root *os.Root, limits Limits, forget func(string)) {
	*p = parents{root: root, limits: limits, known: map[string]bool{".": true}, forget: forget}
}

func (p *parents) close() {
	for _, open := range p.opened {
		open.close()
	}
	p.opened = nil
}

func (p *parent) close() {
	_ = p.dir.Close()
	_ = p.root.Close()
}

// of returns the directory that a path is in, and its last element. What is
// missing on the way is made if create is set.
func (p *parents) of(name string, create bool) (*parent, string, error) {
	dir, base := path.Split(name)
	at, err := p.directory(path.Clean(dir), create)
	return at, base, err
}

// directory returns the directory that a path leads to.
func (p *parents) directory(name string, create bool) (*parent, error) {
	real, err := p.walk(name, create, true)
	if err != nil {
		return nil, err
	}
	return p.open(real)
}

// walk resolves a path of directories to one without symbolic links.
func (p *parents) walk(name string, create, follow bool) (string, error) {
	if p.known[name] {
		return name, nil
	}
	at, links := ".", 0
	left := strings.Split(name, "/")
	for len(left) > 0 {
		part := left[0]
		left = left[1:]
		switch part {
		case "", ".":
			continue
		case "..": // of a symbolic link's target
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		if p.known[next] {
			at = next
			continue
		}
		info, err := p.root.Lstat(next)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		switch {
		case err == nil && info.IsDir():
		case err == nil && info.Mode()&fs.ModeSymlink != 0 && follow:
			if links++; links > mostSymlinks {
				return "", fmt.Errorf("%w: more than %d symbolic links", ErrInvalid, mostSymlinks)
			}
			target, err := p.root.Readlink(next)
			if err != nil {
				return "", err
			}
			if path.IsAbs(target) {
				at = "."
			}
			left = append(strings.Split(target, "/"), left...)
			continue
		case !create:
			return "", fmt.Errorf("%w: the layer has no directory %q", ErrInvalid, next)
		default:
			if err := p.make(next, info); err != nil {
				return "", err
			}
		}
		if len(p.known) >= mostKnown {
			p.known = map[string]bool{".": true}
		}
		p.known[next] = true
		at = next
	}
	return at, nil
}

// make makes a directory that the archive did not list, in place of what the
// archive has there, if it has anything.
func (p *parents) make(name string, inTheWay fs.FileInfo) error {
	if depth := strings.Count(name, "/") + 1; depth > p.limits.PathDepth || len(name) > p.limits.PathLength {
		return fmt.Errorf("%w: a path has %d bytes in %d directories, more than %d in %d", ErrLimit, len(name), depth, p.limits.PathLength, p.limits.PathDepth)
	}
	if err := p.count(); err != nil {
		return err
	}
	if inTheWay != nil {
		if err := p.root.Remove(name); err != nil {
			return err
		}
	}
	if err := p.root.Mkdir(name, implicitMode); err != nil {
		return err
	}
	if err := p.root.Chmod(name, implicitMode); err != nil { // whatever the umask is
		return err
	}
	if inTheWay == nil || !isWhiteout(inTheWay) {
		return nil
	}
	made, err := p.open(name)
	if err != nil {
		return err
	}
	return setOpaque(made.dir)
}

// count counts a file of the layer.
func (p *parents) count() error {
	if p.files++; p.files > p.limits.LayerFiles {
		return fmt.Errorf("%w: the layer has more than %d files", ErrLimit, p.limits.LayerFiles)
	}
	return nil
}

// open returns a directory by its path without symbolic links.
func (p *parents) open(name string) (*parent, error) {
	if i := slices.IndexFunc(p.opened, func(o *parent) bool { return o.path == name }); i >= 0 {
		found := p.opened[i]
		p.opened = slices.Insert(slices.Delete(p.opened, i, i+1), 0, found)
		return found, nil
	}
	root, err := p.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	dir, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	opened := &parent{name, root, dir}
	p.opened = slices.Insert(p.opened, 0, opened)
	if len(p.opened) > openParents {
		p.opened[openParents].close()
		p.opened = p.opened[:openParents]
	}
	return opened, nil
}

// remove removes a path, and returns the directory that it was in, anew.
func (p *parents) remove(at *parent, base string, info fs.FileInfo) (*parent, error) {
	if !info.IsDir() {
		return at, at.root.Remove(base)
	}
	if err := at.root.RemoveAll(base); err != nil {
		return nil, err
	}
	p.forget(path.Join(at.path, base))
	p.close()
	p.known = map[string]bool{".": true}
	return p.open(at.path)
}

// isWhiteout recognizes overlayfs's character device 0:0.
func isWhiteout(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*unixStat)
	return ok && info.Mode()&fs.ModeCharDevice != 0 && stat.Rdev == 0
}

func setOpaque(dir *os.File) error {
	err := unix.Fsetxattr(int(dir.Fd()), opaqueXattr, []byte("y"), 0)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("the file system of the image store has no extended attributes, use another: %w", unix.EIO)
	}
	return os.NewSyscallError("fsetxattr "+opaqueXattr, err)
}
