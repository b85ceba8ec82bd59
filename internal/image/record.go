package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// record is what is known about an image that is complete. Only its last use
// and what of its config was needed change after it was made.
type record struct {
	// Target is what names point to: an image manifest, or an index.
	Target v1.Hash `json:"target"`
	// Manifest and Config are those of the image for this host; both are
	// missing if the target is for other hosts only, which the store keeps for
	// those who pushed it. Config is the image's identifier.
	Manifest v1.Hash    `json:"manifest,omitzero"`
	Config   v1.Hash    `json:"config,omitzero"`
	Layers   []layerRef `json:"layers,omitempty"` // the base first
	Blobs    []blobRef  `json:"blobs"`            // all that the target reaches, itself included
	Subject  v1.Hash    `json:"subject,omitzero"` // see Manifest.Subject
	Stored   time.Time  `json:"stored"`
	Loaded   bool       `json:"loaded,omitempty"` // from an archive, so that no registry need have it

	// Removed is in the file of an image that was removed while it was leased: if the
	// process ends before the lease does, the next one removes it. See Store.doomed.
	Removed bool `json:"removed,omitempty"`

	lastUse  atomic.Int64                  // Unix nanoseconds
	savedUse atomic.Int64                  // the last one that became the file's mtime
	needed   atomic.Pointer[v1.ConfigFile] // see Lease.Config
}

// layerRef is a layer of an image, and the blob that it is unpacked from.
type layerRef struct {
	DiffID v1.Hash `json:"diff_id"`
	Blob   v1.Hash `json:"blob"`
}

// blobRef is a blob of an image.
type blobRef struct {
	Type   types.MediaType `json:"type"`
	Digest v1.Hash         `json:"digest"`
	Size   int64           `json:"size"`
}

// runs reports whether the image is for this host.
func (r *record) runs() bool { return r.Manifest != v1.Hash{} }

func (r *record) blob(digest v1.Hash) (blobRef, bool) {
	for _, b := range r.Blobs {
		if b.Digest == digest {
			return b, true
		}
	}
	return blobRef{}, false
}

func (s *Store) recordPath(target v1.Hash) string {
	return s.path(imagesDir, target.Algorithm, target.Hex+".json")
}

// touchEvery is how long uses of an image may differ from what is on disk: they
// are days apart if it matters.
const touchEvery = 10 * time.Second

// touch remembers that an image is used now.
func (s *Store) touch(r *record) {
	now := time.Now()
	r.lastUse.Store(now.UnixNano())
	if saved := r.savedUse.Load(); now.UnixNano()-saved < int64(touchEvery) || !r.savedUse.CompareAndSwap(saved, now.UnixNano()) {
		return
	}
	// Without a sync: what is lost in a crash is an order of seconds.
	if err := os.Chtimes(s.recordPath(r.Target), now, now); err != nil {
		s.log.Warn("last use of an image is not remembered", "image", r.Target.String(), "error", err)
	}
}

// commit makes an image known, under names that meant others before. What it
// refers to is in the store, and pinned by the caller. It returns the record
// that is known from then on.
func (s *Store) commit(r *record, names []string) (known *record, err error) {
	err = s.withRoom(context.Background(), func() error {
		known, err = s.commitOnce(r, names)
		return err
	})
	if err == nil && s.opts.Stored != nil {
		s.opts.Stored()
	}
	return known, err
}

func (s *Store) commitOnce(r *record, names []string) (*record, error) {
	s.change.Lock()
	defer s.change.Unlock()
	if err := s.alive(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	old, doomed := s.images[r.Target], s.doomed[r.Target]
	s.mu.Unlock()
	if old != nil {
		s.keepParts(r, old)
		r.Loaded = r.Loaded || old.Loaded
	}
	if old != nil && !doomed && !old.Removed && old.Loaded == r.Loaded && old.Manifest == r.Manifest && slices.Equal(old.Layers, r.Layers) && slices.Equal(old.Blobs, r.Blobs) {
		r = old
		s.touch(r)
	} else if err := s.writeRecord(r); err != nil {
		return nil, fmt.Errorf("remember image %s: %w", r.Target, err)
	}
	s.mu.Lock()
	s.images[r.Target] = r
	delete(s.doomed, r.Target)
	for _, b := range r.Blobs {
		delete(s.recent, b.Digest)
	}
	s.mu.Unlock()
	if err := s.step("image written"); err != nil {
		return nil, err
	}
	return r, s.setNames(func(all map[string]v1.Hash) {
		for _, name := range names {
			all[name] = r.Target
		}
	})
}

func (s *Store) writeRecord(r *record) error {
	content, err := json.Marshal(r)
	if err != nil {
		return err
	}
	r.lastUse.Store(time.Now().UnixNano())
	return s.writeFile(s.recordPath(r.Target), content)
}

// markRemoved writes a record that is read as one of a removed image.
func (s *Store) markRemoved(r *record) error {
	content, err := json.Marshal(struct {
		*record
		Removed bool `json:"removed"`
	}{r, true})
	if err != nil {
		return err
	}
	return s.writeFile(s.recordPath(r.Target), content)
}

// keepParts makes a record refer to what an older one of the same target did,
// as far as it is there: an index that was pushed has images for other hosts,
// which a pull of the same index does not get.
func (s *Store) keepParts(r, old *record) {
	own := r.Blobs
	r.Blobs = slices.Clone(old.Blobs)
	for _, b := range own {
		r.add(b)
	}
	r.Blobs = slices.DeleteFunc(r.Blobs, func(b blobRef) bool {
		_, err := os.Stat(s.blobPath(b.Digest))
		return err != nil && !slices.Contains(own, b)
	})
}

// setNames changes the names on disk, then in memory. The caller holds change.
func (s *Store) setNames(edit func(map[string]v1.Hash)) error {
	// Maps of names are replaced, not changed, and only under change.
	all := maps.Clone(s.names)
	edit(all)
	if maps.Equal(all, s.names) {
		return nil
	}
	content, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return err
	}
	if err := s.writeFile(s.path(namesName), append(content, '\n')); err != nil {
		return fmt.Errorf("remember the names of images: %w", err)
	}
	s.mu.Lock()
	s.names = all
	s.mu.Unlock()
	return s.step("names written")
}

// load reads what is on disk when the store is opened, and looks whether what
// images refer to is there. Contents are read by Verify only.
func (s *Store) load() error {
	dir := s.path(imagesDir, algorithm)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		r, err := readRecord(path)
		if err != nil {
			s.problems = append(s.problems, s.quarantine(path, err.Error()))
			continue
		}
		s.images[r.Target] = r
		if !r.Removed {
			s.problems = append(s.problems, s.missing(r)...)
		}
	}
	content, err := os.ReadFile(s.path(namesName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, &s.names); err != nil {
		s.problems = append(s.problems, s.quarantine(s.path(namesName), err.Error()))
		s.names = nil
	}
	if s.names == nil {
		s.names = map[string]v1.Hash{}
	}
	for name, target := range s.names {
		if s.images[target] == nil {
			delete(s.names, name)
			s.problems = append(s.problems, Problem{name, "its image " + target.String() + " is not in the store", "pull or push it again"})
		}
	}
	return nil
}

func readRecord(path string) (*record, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	r := &record{}
	if err := json.Unmarshal(content, r); err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	if r.Target.Hex != strings.TrimSuffix(filepath.Base(path), ".json") {
		return nil, fmt.Errorf("it describes image %s", r.Target)
	}
	r.lastUse.Store(info.ModTime().UnixNano())
	return r, nil
}

// check refuses a record that is JSON but not whole: its digests become paths.
func (r *record) check() error {
	digests := []v1.Hash{r.Target}
	for _, b := range r.Blobs {
		digests = append(digests, b.Digest)
	}
	for _, layer := range r.Layers {
		digests = append(digests, layer.DiffID, layer.Blob)
	}
	if r.runs() {
		digests = append(digests, r.Manifest, r.Config)
	}
	for _, digest := range digests {
		if err := checkDigest(digest); err != nil {
			return err
		}
	}
	if _, ok := r.blob(r.Target); !ok {
		return fmt.Errorf("it lists no blob %s", r.Target)
	}
	return nil
}

// missing tells what an image refers to that is not there.
func (s *Store) missing(r *record) []Problem {
	var problems []Problem
	repair := "pull or push image " + r.Target.String() + " again"
	for _, b := range r.Blobs {
		// One of another size is read, and leaves if it is damaged.
		switch there, err := s.hasBlobOf(b.Digest, b.Size); {
		case err != nil:
			problems = append(problems, Problem{"blob " + b.Digest.String(), err.Error(), repair})
		case !there:
			problems = append(problems, Problem{"blob " + b.Digest.String(), "it is not there, or was damaged and is in " + quarantineDir, repair})
		}
	}
	for _, layer := range r.Layers {
		if _, err := s.readLayer(layer.DiffID); err != nil {
			problems = append(problems, Problem{"layer " + layer.DiffID.String(), err.Error(), repair + ", or let Repair unpack it"})
		}
	}
	return problems
}

// quarantine moves what is damaged out of the way.
func (s *Store) quarantine(path, cause string) Problem {
	name, err := filepath.Rel(s.dir, path)
	if err != nil {
		name = path
	}
	to := s.path(quarantineDir, fmt.Sprintf("%d-%s", time.Now().UnixNano(), strings.ReplaceAll(name, string(filepath.Separator), "-")))
	if err := os.Rename(path, to); err != nil {
		return Problem{name, cause, "move it away, it could not be: " + err.Error()}
	}
	return Problem{name, cause, "moved to " + quarantineDir + "/" + filepath.Base(to) + ", which may be removed; pull or push the image again"}
}
