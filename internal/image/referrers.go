package image

import (
	"errors"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Subject is the manifest that this one says something about, such as a
// signature about an image; zero for none.
func (m *Manifest) Subject() v1.Hash {
	subject := (*v1.Descriptor)(nil)
	if m.Image != nil {
		subject = m.Image.Subject
	} else {
		subject = m.Index.Subject
	}
	if subject == nil {
		return v1.Hash{}
	}
	return subject.Digest
}

// Referrers describes the manifests of a repository whose subject is a digest,
// as the list of a registry has them. Source: OCI distribution spec, "Listing
// Referrers".
func (s *Store) Referrers(repository string, subject v1.Hash) ([]v1.Descriptor, error) {
	var found []v1.Hash
	s.mu.Lock()
	for name, target := range s.names {
		if r := s.images[target]; r != nil && r.Subject == subject && repositoryOf(name) == repository {
			found = append(found, target)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(found, func(a, b v1.Hash) int { return strings.Compare(a.Hex, b.Hex) })
	descriptors := []v1.Descriptor{}
	for _, digest := range slices.Compact(found) { // one may have several names
		m, err := s.readManifest(digest, "")
		if errors.Is(err, ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		descriptors = append(descriptors, m.describe())
	}
	return descriptors, nil
}

// describe is the manifest's entry in a list of referrers.
func (m *Manifest) describe() v1.Descriptor {
	d := v1.Descriptor{MediaType: m.Type, Digest: m.Digest, Size: int64(len(m.Content))}
	if m.Index != nil {
		d.ArtifactType, d.Annotations = m.Index.ArtifactType, m.Index.Annotations
		return d
	}
	d.ArtifactType, d.Annotations = m.Image.ArtifactType, m.Image.Annotations
	if d.ArtifactType == "" {
		d.ArtifactType = string(m.Image.Config.MediaType)
	}
	return d
}
