package docker

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
// node's: an engine would give that to everybody who knows its name. It outlives
// the process in a file, as the engine's images do.
type privateRecord struct {
	file string // empty: it is in memory only

	saving sync.Mutex // one change at a time; before mu
	mu     sync.RWMutex
	known  privateImages // replaced, not changed
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
	text, err := os.ReadFile(r.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, nil, nil
	case err != nil:
		return nil, nil, fmt.Errorf("record of private images: %w; let the server read it, or set FN_STATE_DIR to another directory", err)
	}
	if r.known, err = decodePrivate(text); err != nil {
		r.known = privateImages{all: true}
		return r, fmt.Errorf("record of private images %s: %w", r.file, err), nil
	}
	return r, nil, nil
}

// holds reports whether an image is private: it has been pulled, under any of its
// names, with credentials that are not the node's.
func (r *privateRecord) holds(image *localImage) bool {
	r.mu.RLock()
	known := r.known
	r.mu.RUnlock()
	if known.all && len(image.digests) > 0 {
		return true
	}
	if len(known.repos) == 0 && len(known.images) == 0 {
		return false
	}
	if _, found := known.images[image.id]; found {
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

// change makes a change that may be none. Nobody sees it before it is on disk.
func (r *privateRecord) change(add func(*privateImages) bool) error {
	r.saving.Lock()
	defer r.saving.Unlock()
	r.mu.RLock()
	next := r.known
	r.mu.RUnlock()
	if !add(&next) {
		return nil
	}
	if next.all { // the rest says nothing more
		next = privateImages{all: true}
	}
	if r.file != "" {
		if err := replaceFile(r.file, next.encode()); err != nil {
			return fmt.Errorf("record that the image is private: %w; let the server write there, or set FN_STATE_DIR to another directory", err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = next
	return nil
}

// replaceFile gives a file new content so that after a crash it has either the
// old or the new one. The directory is made if there is none.
func replaceFile(name string, content []byte) error {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	aside, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) // or what a crash left
	if err != nil {
		return err
	}
	_, err = aside.Write(content)
	if err == nil {
		err = aside.Sync()
	}
	if err := errors.Join(err, aside.Close()); err != nil {
		return err
	}
	if err := os.Rename(aside.Name(), name); err != nil {
		return err
	}
	opened, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(opened.Sync(), opened.Close())
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
