package image

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Image describes an image of the store.
type Image struct {
	ID       v1.Hash // digest of its config; zero for one that is for other hosts only
	Manifest v1.Hash // of the image for this host; zero as ID
	Target   v1.Hash // what names point to: Manifest, or an index that has it
	Names    []string
	Stored   time.Time
	LastUse  time.Time
	Bytes    int64 // on disk, with blobs and layers that others have too
	Leased   bool
	Notes    Notes // of all its layers
}

// List returns the store's images, the last used first.
func (s *Store) List() []Image {
	s.mu.Lock()
	records := make([]*record, 0, len(s.images))
	for _, r := range s.images {
		if !s.doomed[r.Target] {
			records = append(records, r)
		}
	}
	s.mu.Unlock()
	images := make([]Image, len(records))
	for i, r := range records {
		images[i] = s.describe(r)
	}
	slices.SortFunc(images, func(a, b Image) int {
		return cmp.Or(b.LastUse.Compare(a.LastUse), strings.Compare(a.Target.Hex, b.Target.Hex))
	})
	return images
}

// Get returns the image that a reference means: a name, name@digest, a
// manifest's digest, an image's identifier (its config's digest), or at least
// 12 of an identifier's digits, which then must mean one image only.
func (s *Store) Get(ref string) (Image, error) {
	s.mu.Lock()
	r, err := s.find(ref)
	s.mu.Unlock()
	if err != nil {
		return Image{}, err
	}
	return s.describe(r), nil
}

func (s *Store) describe(r *record) Image {
	image := Image{
		ID: r.Config, Manifest: r.Manifest, Target: r.Target,
		Stored: r.Stored, LastUse: time.Unix(0, r.lastUse.Load()),
	}
	s.mu.Lock()
	image.Leased = s.leases[r.Target] > 0
	for name, target := range s.names {
		if target == r.Target {
			image.Names = append(image.Names, name)
		}
	}
	s.mu.Unlock()
	slices.Sort(image.Names)
	for _, b := range r.Blobs {
		image.Bytes += b.Size
	}
	for _, layer := range r.Layers {
		if unpacked, err := s.readLayer(layer.DiffID); err == nil {
			image.Bytes += unpacked.Bytes
			image.Notes.add(unpacked.Notes)
		}
	}
	return image
}

// find returns an image's record. The caller holds mu.
func (s *Store) find(ref string) (*record, error) {
	if digits := digitsOf(ref); digits != "" {
		r, err := s.findDigits(ref, digits)
		if r != nil || err != nil {
			return r, err
		}
		if strings.HasPrefix(ref, algorithm+":") || len(digits) == 64 {
			return nil, fmt.Errorf("%w: %s: pull it by its name", ErrNotFound, ref)
		}
	}
	name, err := s.normalize(ref)
	if err != nil {
		return nil, err
	}
	if r := s.findNamed(name); r != nil {
		return r, nil
	}
	// What another registry has at an address of before comes first.
	if former := underOwnHost(name, s.formerHosts); former != name {
		if r := s.findNamed(former); r != nil {
			return r, nil
		}
	}
	if strings.HasPrefix(name, OwnHost+"/") {
		return nil, fmt.Errorf("%w: %s: push it first", ErrNotFound, name)
	}
	return nil, fmt.Errorf("%w: %s: pull it first", ErrNotFound, name)
}

// findNamed looks for a name in the store's form. The caller holds mu.
func (s *Store) findNamed(name string) *record {
	if r := s.images[s.names[name]]; r != nil || isTagged(name) {
		return r
	}
	return s.findInRepository(name)
}

// findDigits looks for identifiers and digests. Several records may have one
// config, such as an index and its image: they run the same, so any will do, and
// the one used last is the one that is kept longest.
func (s *Store) findDigits(ref, digits string) (*record, error) {
	var found *record
	for _, r := range s.images {
		matches := strings.HasPrefix(r.Config.Hex, digits) || strings.HasPrefix(r.Manifest.Hex, digits) || strings.HasPrefix(r.Target.Hex, digits)
		switch {
		case !matches || s.doomed[r.Target]:
		case found == nil:
			found = r
		case found.Config != r.Config:
			return nil, fmt.Errorf("%w: %s means %s and %s: give more digits", ErrAmbiguous, ref, found.Target, r.Target)
		case r.lastUse.Load() > found.lastUse.Load():
			found = r
		}
	}
	return found, nil
}

// findInRepository looks for what the repository has under a tag, or in an
// index.
// Digests of other repositories do not count: who may pull from one need not be
// allowed to pull from the other.
func (s *Store) findInRepository(name string) *record {
	repository, digest := splitName(name)
	for other, target := range s.names {
		if r := s.images[target]; r != nil && repositoryOf(other) == repository &&
			(r.Target.String() == digest || r.Manifest.String() == digest) {
			return r
		}
	}
	return nil
}
