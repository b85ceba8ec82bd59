package image

import (
	"context"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
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
	r := &record{Target: target.Digest, Manifest: image.Digest, Config: image.Image.Config.Digest, Stored: time.Now()}
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

// register makes an image known whose blobs are all in the store: one that was
// pushed or imported. If a part of it is for this host, its layers are unpacked.
func (s *Store) register(ctx context.Context, target *Manifest, names []string) (*record, error) {
	r := &record{Target: target.Digest, Stored: time.Now()}
	reached, err := s.reach(target, 0)
	if err != nil {
		return nil, err
	}
	var digests []v1.Hash
	for _, b := range reached {
		r.add(b)
		digests = append(digests, b.Digest)
	}
	defer s.pin(digests...)()
	for _, b := range r.Blobs { // seen after they were pinned, so they stay
		if b.Digest != target.Digest && !s.hasBlobOf(b.Digest, b.Size) {
			return nil, fmt.Errorf("%w: blob %s of manifest %s, with %d bytes", ErrNotFound, b.Digest, target.Digest, b.Size)
		}
	}
	image, err := s.forThisHost(target)
	if err != nil {
		return nil, err
	}
	if image != nil {
		runnable, config, err := s.imageRecord(target, image)
		if err != nil {
			return nil, err
		}
		if s.runsHere(config) {
			r.Manifest, r.Config, r.Layers = runnable.Manifest, runnable.Config, runnable.Layers
			defer s.pin(config.RootFS.DiffIDs...)()
			for _, layer := range r.Layers {
				if err := s.ensureLayer(ctx, layer.Blob, layer.DiffID); err != nil {
					return nil, err
				}
			}
		}
	}
	if _, err := s.putBlob(target.Content); err != nil {
		return nil, err
	}
	return r, s.commit(r, names)
}

// Bounds of what one manifest refers to: builders nest indexes once, and make an
// image for each of a dozen platforms.
const (
	mostNesting = 3
	mostBlobs   = 10_000
)

// reach lists all blobs of a manifest, itself first. Manifests below an index
// are read from the store.
func (s *Store) reach(m *Manifest, depth int) ([]blobRef, error) {
	all := []blobRef{m.ref()}
	if m.Image != nil {
		return append(all, m.parts()...), nil
	}
	if depth == mostNesting {
		return nil, fmt.Errorf("%w: more than %d indexes in one another", ErrLimit, mostNesting)
	}
	for _, d := range m.Index.Manifests {
		child, err := s.readManifest(d.Digest, string(d.MediaType))
		if err != nil {
			return nil, err
		}
		below, err := s.reach(child, depth+1)
		if err != nil {
			return nil, err
		}
		if all = append(all, below...); len(all) > mostBlobs {
			return nil, fmt.Errorf("%w: index %s refers to more than %d blobs", ErrLimit, m.Digest, mostBlobs)
		}
	}
	return all, nil
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
