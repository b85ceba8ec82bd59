package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// imageRecord makes the record of an image for this host whose config is in
// the store. Target is the manifest itself, or an index that has it.
func (s *Store) imageRecord(target, image *Manifest) (*record, *v1.ConfigFile, error) {
	content, err := s.readBlob(image.Image.Config.Digest, s.opts.Limits.ConfigBytes)
	if err != nil {
		return nil, nil, err
	}
	config, err := parseConfig(content, s.opts.Limits)
	if err != nil {
		return nil, nil, err
	}
	if err := checkLayers(image, config); err != nil {
		return nil, nil, err
	}
	r := &record{
		Target: target.Digest, Manifest: image.Digest, Config: image.Image.Config.Digest,
		Subject: target.Subject(), Stored: time.Now(),
	}
	for i, layer := range image.Image.Layers {
		r.Layers = append(r.Layers, layerRef{config.RootFS.DiffIDs[i], layer.Digest})
	}
	if target != image {
		r.add(target.ref())
	}
	r.add(image.ref())
	for _, part := range image.parts() {
		r.add(part)
	}
	return r, config, nil
}

// add adds a blob that the image reaches, once.
func (r *record) add(b blobRef) {
	if _, known := r.blob(b.Digest); !known {
		r.Blobs = append(r.Blobs, b)
	}
}

// checkSize bounds what an image takes compressed.
func (s *Store) checkSize(parts []blobRef) error {
	left := s.opts.Limits.ImageBytes
	for _, part := range parts {
		if part.Size > left {
			return fmt.Errorf("%w: its blobs have more than %d bytes", ErrLimit, s.opts.Limits.ImageBytes)
		}
		left -= part.Size
	}
	return nil
}

// origin tells where an image is from that is registered.
type origin struct {
	sparse bool // an index of which parts may be missing: engines save the images that they have under the index that they pulled
	loaded bool // see record.Loaded
}

// register makes an image known whose blobs are in the store: one that was
// pushed or imported. If a part of it is for this host, its layers are unpacked.
func (s *Store) register(ctx context.Context, target *Manifest, names []string, from origin) (*record, error) {
	var parts []v1.Hash
	r, err := s.registerParts(ctx, target, names, from, &parts)
	s.dropOnFullDisk(err, parts)
	return r, err
}

// registerParts also tells which blobs and layers the image has.
func (s *Store) registerParts(ctx context.Context, target *Manifest, names []string, from origin, parts *[]v1.Hash) (*record, error) {
	r := &record{Target: target.Digest, Subject: target.Subject(), Stored: time.Now(), Loaded: from.loaded}
	reached, err := s.reach(target, 0, from.sparse)
	if err != nil {
		return nil, err
	}
	var digests []v1.Hash
	for _, b := range reached {
		r.add(b)
		digests = append(digests, b.Digest)
	}
	defer s.pin(digests...)()
	*parts = digests
	for _, b := range r.Blobs { // seen after they were pinned, so they stay
		if b.Digest == target.Digest {
			continue
		}
		if there, err := s.hasBlobOf(b.Digest, b.Size); err != nil {
			return nil, err
		} else if !there {
			return nil, fmt.Errorf("%w: blob %s of manifest %s", ErrNotFound, b.Digest, target.Digest)
		}
	}
	image, err := s.forThisHost(target)
	if err != nil {
		return nil, err
	}
	if image != nil {
		if _, whole := r.blob(image.Digest); !whole {
			return nil, fmt.Errorf("%w: parts of manifest %s, the one for this host", ErrNotFound, image.Digest)
		}
		runnable, config, err := s.imageRecord(target, image)
		if err != nil {
			return nil, err
		}
		if s.runsHere(config) {
			r.Manifest, r.Config, r.Layers = runnable.Manifest, runnable.Config, runnable.Layers
			defer s.pin(config.RootFS.DiffIDs...)()
			*parts = append(*parts, config.RootFS.DiffIDs...)
			group, groupCtx := errgroup.WithContext(ctx)
			group.SetLimit(s.opts.Parallel)
			for _, layer := range r.Layers {
				group.Go(func() error { return s.ensureLayer(groupCtx, layer.Blob, layer.DiffID) })
			}
			if err := group.Wait(); err != nil {
				return nil, err
			}
		}
	}
	if _, err := s.putBlob(target.Content); err != nil {
		return nil, err
	}
	return s.commit(r, names)
}

// Bounds of what one manifest refers to: builders nest indexes once, and make an
// image for each of a dozen platforms.
const (
	mostNesting = 3
	mostBlobs   = 10_000
)

// reach lists all blobs of a manifest, itself first. Manifests below an index
// are read from the store; of a sparse one, those are left out of which
// something is missing.
func (s *Store) reach(m *Manifest, depth int, sparse bool) ([]blobRef, error) {
	all := []blobRef{m.ref()}
	if m.Image != nil {
		return append(all, m.parts()...), s.checkSize(m.parts())
	}
	if depth == mostNesting {
		return nil, fmt.Errorf("%w: more than %d indexes in one another", ErrLimit, mostNesting)
	}
	for _, d := range m.Index.Manifests {
		child, err := s.readManifest(d.Digest, string(d.MediaType))
		if sparse && errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		below, err := s.reach(child, depth+1, sparse)
		if err != nil {
			return nil, err
		}
		if sparse && !s.hasAll(below) {
			continue
		}
		if all = append(all, below...); len(all) > mostBlobs {
			return nil, fmt.Errorf("%w: index %s refers to more than %d blobs", ErrLimit, m.Digest, mostBlobs)
		}
	}
	return all, nil
}

func (s *Store) hasAll(blobs []blobRef) bool {
	for _, b := range blobs {
		if _, err := os.Stat(s.blobPath(b.Digest)); err != nil {
			return false
		}
	}
	return true
}

func (s *Store) readManifest(digest v1.Hash, mediaType string) (*Manifest, error) {
	content, err := s.readBlob(digest, s.opts.Limits.ManifestBytes)
	if err != nil {
		return nil, err
	}
	return ParseManifest(content, mediaType)
}

// forThisHost returns the image of a manifest that may run here, or nil.
func (s *Store) forThisHost(m *Manifest) (*Manifest, error) {
	if m.Index != nil {
		chosen, _ := choose(m.Index, s.opts.Platform)
		if chosen == nil {
			return nil, nil
		}
		var err error
		if m, err = s.readManifest(chosen.Digest, string(chosen.MediaType)); err != nil {
			return nil, err
		}
	}
	if !m.isContainer() {
		return nil, nil
	}
	return m, nil
}
