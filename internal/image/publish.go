package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// What a registry serves from a store. Repositories here are normalized names
// without a tag, such as 127.0.0.1:5000/fn/hello.

// PutManifest stores a manifest that was pushed to a repository under a
// reference, a tag or a digest. All that it refers to must be there. The image
// for this host is unpacked before the call returns, so that it starts without a
// pull.
func (s *Store) PutManifest(ctx context.Context, repository, reference, mediaType string, content []byte) (*Manifest, error) {
	if limit := s.opts.Limits.ManifestBytes; int64(len(content)) > limit {
		return nil, fmt.Errorf("%w: the manifest has more than %d bytes", ErrLimit, limit)
	}
	m, err := ParseManifest(content, mediaType)
	if err != nil {
		return nil, err
	}
	name, err := s.nameIn(repository, reference)
	if err != nil {
		return nil, err
	}
	byDigest := withDigest(name, m.Digest)
	if !isTagged(name) && name != byDigest {
		return nil, fmt.Errorf("%w: the manifest has the digest %s, not that of the request, %s", ErrDigest, m.Digest, reference)
	}
	if _, err := s.register(ctx, m, []string{name, byDigest}, origin{}); err != nil {
		return nil, err
	}
	return m, nil
}

// nameIn is a tag's or digest's normalized name in a repository.
func (s *Store) nameIn(repository, reference string) (string, error) {
	separator := ":"
	if strings.Contains(reference, ":") {
		separator = "@"
	}
	name, err := s.normalize(repository + separator + reference)
	if err == nil && repositoryOf(name) != repository {
		err = fmt.Errorf("%w: repository %q is not normalized", ErrInvalid, repository)
	}
	return name, err
}

// FindManifest returns a manifest that a repository has under a reference.
// Reading one counts as a use of its image.
func (s *Store) FindManifest(repository, reference string) (*Manifest, error) {
	name, err := s.nameIn(repository, reference)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	r := s.images[s.names[name]]
	digest := v1.Hash{}
	if r != nil {
		digest = r.Target
	} else if !isTagged(name) {
		r, digest = s.manifestIn(name)
	}
	s.mu.Unlock()
	if r == nil {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	s.touch(r)
	b, _ := r.blob(digest)
	return s.readManifest(digest, string(b.Type))
}

// manifestIn looks for a manifest below the indexes of a repository. The
// caller holds mu.
func (s *Store) manifestIn(name string) (*record, v1.Hash) {
	repository, digest := splitName(name)
	for other, target := range s.names {
		r := s.images[target]
		if r == nil || repositoryOf(other) != repository {
			continue
		}
		for _, b := range r.Blobs {
			if b.Digest.String() == digest && (b.Type.IsImage() || b.Type.IsIndex()) {
				return r, b.Digest
			}
		}
	}
	return nil, v1.Hash{}
}

// Tags lists the tags of a repository in their order. It returns false for a
// repository without any name.
func (s *Store) Tags(repository string) (tags []string, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.names {
		in, reference := splitName(name)
		if in != repository {
			continue
		}
		known = true
		if isTagged(name) {
			tags = append(tags, reference)
		}
	}
	slices.Sort(tags)
	return tags, known
}

// Repositories lists the repositories below a host, without it.
func (s *Store) Repositories(host string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for name := range s.names {
		if repository, ok := strings.CutPrefix(repositoryOf(name), host+"/"); ok {
			all = append(all, repository)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
