package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/tinefn/tine/internal/durable"
)

// Tag gives an image a further name, which may have meant another before.
func (s *Store) Tag(ref, name string) error {
	normalized, err := s.normalize(name)
	if err != nil {
		return err
	}
	if !isTagged(normalized) {
		return fmt.Errorf("%w: a name that is given must not have a digest: %q", ErrInvalid, name)
	}
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.Lock()
	r, err := s.find(ref)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.setNames(func(all map[string]v1.Hash) { all[normalized] = r.Target })
}

// Untag removes a name, and nothing else: an image without names stays until
// it is removed by its identifier or collected.
func (s *Store) Untag(name string) error {
	normalized, err := s.normalize(name)
	if err != nil {
		return err
	}
	s.change.Lock()
	defer s.change.Unlock()
	if _, known := s.names[normalized]; !known { // maps of names change under change only
		return fmt.Errorf("%w: %s", ErrNotFound, normalized)
	}
	return s.setNames(func(all map[string]v1.Hash) { delete(all, normalized) })
}

// Remove removes an image by a reference as [Store.Get] takes it. A name with a
// tag removes that name, and the image with its last one; a name with a digest
// all of its names in that repository; an identifier all names. An image that
// is leased loses its names at once and leaves the disk with its last lease.
func (s *Store) Remove(ref string) error {
	return errors.Join(s.remove(ref), s.emptyTrash())
}

func (s *Store) remove(ref string) error {
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.Lock()
	r, err := s.find(ref)
	var byName string
	if name, nameErr := s.normalize(ref); err == nil && nameErr == nil {
		if s.names[name] == r.Target || !isTagged(name) {
			byName = name
		}
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	left := false
	err = s.setNames(func(all map[string]v1.Hash) {
		otherTag := false
		for name, target := range all {
			otherTag = otherTag || target == r.Target && isTagged(name) && name != byName && repositoryOf(name) == repositoryOf(byName)
		}
		for name, target := range all {
			switch {
			case target != r.Target:
			case byName == "", name == byName,
				repositoryOf(name) == repositoryOf(byName) && (!isTagged(byName) || !isTagged(name) && !otherTag):
				delete(all, name)
			default:
				left = true
			}
		}
	})
	if err != nil || left {
		return err
	}
	s.mu.Lock()
	s.doomed[r.Target] = true // from here on it cannot be leased
	s.mu.Unlock()
	if _, err = s.discard([]*record{r}); err != nil {
		return err
	}
	s.mu.Lock()
	isLeased := s.images[r.Target] == r
	s.mu.Unlock()
	if !isLeased {
		return nil
	}
	if err := s.markRemoved(r); err != nil {
		return fmt.Errorf("remember that image %s is removed: %w", r.Target, err)
	}
	return nil
}

// dropRemoved removes what was removed while it was leased, before the store was
// opened.
func (s *Store) dropRemoved() {
	var victims []*record
	for _, r := range s.images {
		if r.Removed {
			victims = append(victims, r)
		}
	}
	if len(victims) == 0 {
		return
	}
	_, err := s.discard(victims)
	if err = errors.Join(err, s.emptyTrash()); err != nil {
		s.log.Warn("images that were removed before stay on disk until the next start", "error", err)
	}
}

// drop removes an image that was removed while it was leased.
func (s *Store) drop(target v1.Hash) error {
	return errors.Join(s.dropDoomed(target), s.emptyTrash())
}

func (s *Store) dropDoomed(target v1.Hash) error {
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.Lock()
	r := s.images[target]
	wanted := r == nil || !s.doomed[target] || s.leases[target] > 0
	s.mu.Unlock()
	if wanted { // it came back meanwhile
		return nil
	}
	_, err := s.discard([]*record{r})
	return err
}

// discard removes images, and the blobs and layers that only they had. The
// caller holds change and has seen that nobody leases them; who leases one now
// keeps it. It returns how many bytes were freed.
func (s *Store) discard(victims []*record) (freed int64, err error) {
	gone := map[v1.Hash]bool{}
	s.mu.Lock()
	for _, r := range victims {
		if s.leases[r.Target] == 0 && s.images[r.Target] == r {
			delete(s.images, r.Target)
			delete(s.doomed, r.Target)
			gone[r.Target] = true
		}
	}
	s.mu.Unlock()
	forget := func(all map[string]v1.Hash) {
		for name, target := range all {
			if gone[target] {
				delete(all, name)
			}
		}
	}
	// On a full disk the names cannot be written before something is removed.
	namesErr := s.setNames(forget)
	for target := range gone {
		if removeErr := os.Remove(s.recordPath(target)); removeErr != nil && !errors.Is(removeErr, os.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}
	if err := errors.Join(err, durable.SyncDir(s.path(imagesDir, algorithm)), s.step("image removed")); err != nil {
		// What they have is still referred to on disk, so they stay.
		s.mu.Lock()
		for _, r := range victims {
			if gone[r.Target] {
				s.images[r.Target] = r
			}
		}
		s.mu.Unlock()
		return 0, err
	}
	var paths []string
	for _, r := range victims {
		if !gone[r.Target] {
			continue
		}
		for _, b := range r.Blobs {
			paths = append(paths, s.blobPath(b.Digest))
		}
		for _, layer := range r.Layers {
			paths = append(paths, s.layerPath(layer.DiffID))
		}
	}
	freed, err = s.removeUnused(paths, func(v1.Hash, string) bool { return true })
	if namesErr != nil {
		err = errors.Join(err, s.emptyTrash())
		namesErr = s.setNames(forget)
	}
	return freed, errors.Join(err, namesErr)
}

// removeUnused removes those of some blobs and layers that no image refers to,
// nobody works with, and also may agrees to. The caller holds change, and calls
// emptyTrash when it does not any more.
func (s *Store) removeUnused(paths []string, also func(digest v1.Hash, path string) bool) (freed int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := map[v1.Hash]bool{}
	for _, r := range s.images {
		for _, b := range r.Blobs {
			used[b.Digest] = true
		}
		for _, layer := range r.Layers {
			used[layer.DiffID] = true
		}
	}
	for _, path := range paths {
		digest := v1.Hash{Algorithm: algorithm, Hex: filepath.Base(path)}
		if used[digest] || s.pins[digest] > 0 || !also(digest, path) {
			continue
		}
		bytes := s.bytesOf(path)
		// Renamed with mu held, so that who pins and then looks sees either
		// that it is there to stay or that it is not. Removing takes longer.
		s.removed++
		aside := s.path(removedDir, fmt.Sprint(s.removed))
		switch renameErr := os.Rename(path, aside); {
		case renameErr == nil:
			freed += bytes
			s.trash = append(s.trash, aside)
		case !errors.Is(renameErr, os.ErrNotExist):
			err = errors.Join(err, renameErr)
		}
	}
	return freed, err
}

// emptyTrash removes what was moved away. A layer with many files takes
// seconds, so nobody waits for it who changes something else.
func (s *Store) emptyTrash() error {
	s.mu.Lock()
	trash := s.trash
	s.trash = nil
	s.mu.Unlock()
	var err error
	for _, path := range trash {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// bytesOf is what a blob or an unpacked layer takes on disk.
func (s *Store) bytesOf(path string) int64 {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return 0
	case !info.IsDir():
		return info.Size()
	}
	layer, err := s.readLayer(v1.Hash{Algorithm: algorithm, Hex: filepath.Base(path)})
	if err != nil {
		return 0
	}
	return layer.Bytes
}

// content lists the paths of all blobs and layers on disk.
func (s *Store) content(ctx context.Context) ([]string, error) {
	var paths []string
	for _, kind := range []string{blobsDir, layersDir} {
		dir := s.path(kind, algorithm)
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			paths = append(paths, filepath.Join(dir, entry.Name()))
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return paths, nil
}
