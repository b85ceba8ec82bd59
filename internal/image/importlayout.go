package image

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// importLayout registers what an OCI layout lists.
func (s *Store) importLayout(ctx context.Context, a *archive) ([]*record, error) {
	content, err := s.readArchiveFile(a, ociIndexName, s.opts.Limits.ManifestBytes)
	if err != nil {
		return nil, err
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(content, &index); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, ociIndexName, err)
	}
	if err := checkDescriptors(index.Manifests); err != nil {
		return nil, err
	}
	if err := s.checkBlobNames(a); err != nil {
		return nil, err
	}
	dockerNames := map[v1.Hash][]string{} // by config
	if _, ok := a.find(dockerManifestName); ok {
		images, err := s.dockerImages(a)
		if err != nil {
			return nil, err
		}
		for _, image := range images {
			if config, ok := a.find(image.Config); ok {
				dockerNames[config.Digest] = append(dockerNames[config.Digest], image.RepoTags...)
			}
		}
	}
	var records []*record
	seen := map[v1.Hash]int{}
	for _, d := range index.Manifests {
		m, err := s.readManifest(d.Digest, string(d.MediaType))
		if err != nil {
			return nil, fmt.Errorf("manifest %s of %s: %w", d.Digest, ociIndexName, err)
		}
		names := layoutNames(d)
		if m.Image != nil {
			names = append(names, dockerNames[m.Image.Config.Digest]...)
		}
		normalized, err := s.normalizeAll(names)
		if err != nil {
			return nil, err
		}
		r, err := s.register(ctx, m, normalized, origin{sparse: true, loaded: a.loaded})
		if err != nil {
			return nil, fmt.Errorf("image %s %q: %w", d.Digest, names, err)
		}
		if at, again := seen[r.Target]; again { // once for each of its names
			records[at] = r
			continue
		}
		seen[r.Target] = len(records)
		records = append(records, r)
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("%w: the archive lists no image", ErrInvalid)
	}
	return records, nil
}

// checkBlobNames refuses a layout whose files are not what their names say.
func (s *Store) checkBlobNames(a *archive) error {
	for name, file := range a.files {
		hex, isBlob := strings.CutPrefix(name, "blobs/"+algorithm+"/")
		if isBlob && hex != file.Digest.Hex {
			return fmt.Errorf("%w: %s of the archive is %s", ErrDigest, name, file.Digest)
		}
	}
	return nil
}

// layoutNames are the names that an index.json gives an image. A tag alone
// says nothing about the repository, so it is no name.
func layoutNames(d v1.Descriptor) []string {
	if name := d.Annotations[annotationName]; name != "" {
		return []string{name}
	}
	if name := d.Annotations[annotationRef]; strings.ContainsAny(name, ":/") {
		return []string{name}
	}
	return nil
}

func (s *Store) normalizeAll(names []string) ([]string, error) {
	var all []string
	for _, name := range names {
		normalized, err := s.normalize(name)
		if err != nil {
			return nil, err
		}
		all = append(all, normalized)
	}
	return all, nil
}
