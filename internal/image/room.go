package image

import (
	"context"
	"errors"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// withRoom does something that may find the disk full, and does it again as
// often as Options.MakeRoom could free something. What f does must be
// repeatable, and not hold change.
func (s *Store) withRoom(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !errors.Is(err, ErrNoSpace) || !s.makeRoom(ctx) {
			return err
		}
	}
}

// makeRoom reports whether something was freed on a full disk.
func (s *Store) makeRoom(ctx context.Context) bool {
	return s.opts.MakeRoom != nil && ctx.Err() == nil && s.opts.MakeRoom(ctx)
}

// dropOnFullDisk removes blobs and layers of an image that there was no room for,
// as far as no other image has them: what is left of it would keep everything
// else on the disk from working. The caller has unpinned them.
func (s *Store) dropOnFullDisk(err error, digests []v1.Hash) {
	if !errors.Is(err, ErrNoSpace) {
		return
	}
	var paths []string
	for _, digest := range digests {
		if checkDigest(digest) == nil {
			paths = append(paths, s.blobPath(digest), s.layerPath(digest))
		}
	}
	s.change.Lock()
	s.mu.Lock()
	for _, digest := range digests {
		delete(s.recent, digest)
	}
	s.mu.Unlock()
	_, dropErr := s.removeUnused(paths, func(v1.Hash, string) bool { return true })
	s.change.Unlock()
	if dropErr = errors.Join(dropErr, s.emptyTrash()); dropErr != nil {
		s.log.Warn("cannot remove what there was no room for", "error", dropErr)
	}
}
