package imageaccess

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/tinefn/tine/internal/durable"
)

// privateFile is the name of the record's file in Options.StateDir.
const privateFile = "private-images"

// Bounds of the record. Beyond them everything that came from a registry is
// private, which costs requests and gives nothing away.
const (
	maxPrivateRepos  = 10_000
	maxPrivateImages = 50_000
)

// privateRecord remembers what was pulled with credentials that are not the
// node's: an engine, or a driver's store, would give that to everybody who knows
// its name. It outlives the process in a file, as the images do. Servers may share
// the file: who changes it has its lock and begins with what it says, and who asks
// looks whether it is another one by now.
type privateRecord struct {
	file string // empty: it is in memory only

	saving sync.Mutex    // one change at a time; before mu
	mu     sync.Mutex    // guards the rest
	known  privateImages // replaced, not changed
	read   fs.FileInfo   // of the file that known is from; nil: there was none
}

// privateImages is the content of the record.
type privateImages struct {
	all    bool                // everything that came from a registry
	repos  map[string]struct{} // names of repositories, with their domain
	images map[string]struct{} // identifiers of images
}

// openPrivateRecord reads the record in a directory, which need not exist yet. A
// damaged one is reported and makes everything private.
func openPrivateRecord(dir string) (record *privateRecord, damage, err error) {
	if dir == "" {
		return &privateRecord{}, nil, nil
	}
	r := &privateRecord{file: filepath.Join(dir, privateFile)}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch err := r.reloadLocked(); {
	case errors.Is(err, errDamaged):
		return r, err, nil
	case err != nil:
		return nil, nil, fmt.Errorf("%w; let the server read it, or set FN_STATE_DIR to another directory", err)
	}
	return r, nil, nil
}

// reloadLocked reads the file if it is not the one that is known. After an error
// everything is private.
func (r *privateRecord) reloadLocked() error {
	if r.file == "" {
		return nil
	}
	file, err := os.Open(r.file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) { // whether there can be one, a change will tell
		r.known, r.read = privateImages{}, nil
		return nil
	}
	if err == nil {
		defer func() { _ = file.Close() }() // it is only read
		err = r.readLocked(file)
	}
	if err != nil {
		r.known, r.read = privateImages{all: true}, nil
		return fmt.Errorf("record of private images %s: %w", r.file, err)
	}
	return nil
}

func (r *privateRecord) readLocked(file *os.File) error {
	info, err := file.Stat()
	// It is replaced, never written to; but numbers of files are used again.
	if err != nil || r.read != nil && os.SameFile(info, r.read) && info.ModTime().Equal(r.read.ModTime()) {
		return err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	known, err := decodePrivate(text)
	if err == nil {
		r.known, r.read = known, info
	}
	return err
}

// current is what the record says now.
func (r *privateRecord) current() privateImages {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.reloadLocked() // it was reported at start; everything is private then
	return r.known
}

// holds reports whether an image is private: it has been pulled, under any of its
// names, with credentials that are not the node's.
func (r *privateRecord) holds(image *Image) bool {
	known := r.current()
	if known.all && len(image.digests) > 0 {
		return true
	}
	if len(known.repos) == 0 && len(known.images) == 0 {
		return false
	}
	if _, found := known.images[image.ID]; found {
		return true
	}
	isPrivate := func(name string) bool { _, found := known.repos[name]; return found }
	return slices.ContainsFunc(image.repos(), isPrivate)
}

// addRepo records that a repository is private. It returns when that is on disk.
func (r *privateRecord) addRepo(name string) error {
	return r.change(func(known *privateImages) bool {
		if _, found := known.repos[name]; found || known.all {
			return false
		}
		known.repos = with(known.repos, name)
		known.all = len(known.repos) > maxPrivateRepos
		return true
	})
}

// addImage likewise records an image.
func (r *privateRecord) addImage(id string) error {
	return r.change(func(known *privateImages) bool {
		if _, found := known.images[id]; found || known.all {
			return false
		}
		known.images = with(known.images, id)
		known.all = len(known.images) > maxPrivateImages
		return true
	})
}

// with is a set with one more element.
func with(set map[string]struct{}, element string) map[string]struct{} {
	larger := make(map[string]struct{}, len(set)+1)
	maps.Copy(larger, set)
	larger[element] = struct{}{}
	return larger
}

const privateAdvice = "record that the image is private: %w; let the server write there, or set FN_STATE_DIR to another directory"

// change makes a change that may be none. Nobody sees it before it is on disk.
func (r *privateRecord) change(add func(*privateImages) bool) error {
	r.saving.Lock()
	defer r.saving.Unlock()
	if r.file != "" {
		if next := r.current(); !add(&next) { // nearly always, and it takes no lock
			return nil
		}
		unlock, err := lockBeside(r.file)
		if err != nil {
			return fmt.Errorf(privateAdvice, err)
		}
		defer unlock()
	}
	next := r.current()
	if !add(&next) {
		return nil
	}
	if next.all { // the rest says nothing more
		next = privateImages{all: true}
	}
	if r.file != "" {
		if err := durable.Replace(r.file, next.encode(), 0o600); err != nil {
			return fmt.Errorf(privateAdvice, err)
		}
		return nil // current reads it
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = next
	return nil
}

// lockBeside waits for the lock of a file that is replaced, which therefore cannot
// be locked itself. Its directory is made if there is none.
func lockBeside(name string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(name+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return func() { _ = lock.Close() }, nil // which ends the lock
}

// The record's form: a line that says what it is, a line for each entry, and one
// with the digest of those before it.
const (
	privateTitle = "tine private images 1"
	privateAll   = "all"
	privateRepo  = "repository "
	privateImage = "image "
	privateSum   = "sha256 "
)

func (p privateImages) encode() []byte {
	var text bytes.Buffer
	text.WriteString(privateTitle + "\n")
	if p.all {
		text.WriteString(privateAll + "\n")
	}
	for _, name := range slices.Sorted(maps.Keys(p.repos)) {
		text.WriteString(privateRepo + name + "\n")
	}
	for _, id := range slices.Sorted(maps.Keys(p.images)) {
		text.WriteString(privateImage + id + "\n")
	}
	sum := sha256.Sum256(text.Bytes())
	text.WriteString(privateSum + hex.EncodeToString(sum[:]) + "\n")
	return text.Bytes()
}

var errDamaged = errors.New("it is damaged")

// decodePrivate reads what encode wrote.
func decodePrivate(text []byte) (privateImages, error) {
	body, last, found := cutLast(text, privateSum)
	sum := sha256.Sum256(body)
	if !found || last != hex.EncodeToString(sum[:])+"\n" {
		return privateImages{}, errDamaged
	}
	p := privateImages{repos: map[string]struct{}{}, images: map[string]struct{}{}}
	for i, line := range strings.Split(strings.TrimSuffix(string(body), "\n"), "\n") {
		name, isRepo := strings.CutPrefix(line, privateRepo)
		id, isImage := strings.CutPrefix(line, privateImage)
		switch {
		case i == 0 && line != privateTitle:
			return privateImages{}, fmt.Errorf("it is of another version: it begins with %.40q", line)
		case i == 0:
		case line == privateAll:
			p.all = true
		case isRepo:
			p.repos[name] = struct{}{}
		case isImage:
			p.images[id] = struct{}{}
		default:
			return privateImages{}, errDamaged
		}
	}
	return p, nil
}

// cutLast cuts a text before its last line if that has the prefix.
func cutLast(text []byte, prefix string) (body []byte, rest string, found bool) {
	begin := bytes.LastIndexByte(bytes.TrimSuffix(text, []byte("\n")), '\n') + 1
	rest, found = strings.CutPrefix(string(text[begin:]), prefix)
	return text[:begin], rest, found
}
