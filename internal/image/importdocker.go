package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// dockerImage is an entry of manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func (s *Store) dockerImages(a *archive) ([]dockerImage, error) {
	content, err := s.readArchiveFile(a, dockerManifestName, s.opts.Limits.ManifestBytes)
	if err != nil {
		return nil, err
	}
	var images []dockerImage
	if err := json.Unmarshal(content, &images); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, dockerManifestName, err)
	}
	return images, nil
}

// importDocker registers what an archive of an older docker save lists. It has
// no manifests, so they are made: with the config as it is, so that the image
// keeps its identifier, and the layers as they are, mostly uncompressed.
func (s *Store) importDocker(ctx context.Context, a *archive) ([]*record, error) {
	images, err := s.dockerImages(a)
	if err != nil {
		return nil, err
	}
	var records []*record
	for _, image := range images {
		m, err := s.dockerManifest(a, image)
		if err != nil {
			return nil, fmt.Errorf("image %q: %w", image.RepoTags, err)
		}
		names, err := s.normalizeAll(image.RepoTags)
		if err != nil {
			return nil, err
		}
		r, err := s.register(ctx, m, names, origin{loaded: a.loaded})
		if err != nil {
			return nil, fmt.Errorf("image %q: %w", image.RepoTags, err)
		}
		records = append(records, r)
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("%w: the archive lists no image", ErrInvalid)
	}
	return records, nil
}

func (s *Store) dockerManifest(a *archive, image dockerImage) (*Manifest, error) {
	config, ok := a.find(image.Config)
	if !ok {
		return nil, fmt.Errorf("%w: the archive has no config %q", ErrInvalid, image.Config)
	}
	made := v1.Manifest{
		SchemaVersion: 2, MediaType: types.DockerManifestSchema2,
		Config: v1.Descriptor{MediaType: types.DockerConfigJSON, Digest: config.Digest, Size: config.Size},
		Layers: []v1.Descriptor{},
	}
	for _, name := range image.Layers {
		layer, ok := a.find(name)
		if !ok {
			return nil, fmt.Errorf("%w: the archive has no layer %q", ErrInvalid, name)
		}
		mediaType, err := s.layerType(layer.Digest)
		if err != nil {
			return nil, err
		}
		made.Layers = append(made.Layers, v1.Descriptor{MediaType: mediaType, Digest: layer.Digest, Size: layer.Size})
	}
	content, err := json.Marshal(made)
	if err != nil {
		return nil, err
	}
	return ParseManifest(content, string(types.DockerManifestSchema2))
}

// layerType tells a layer's media type from its first bytes.
func (s *Store) layerType(digest v1.Hash) (types.MediaType, error) {
	file, _, err := s.OpenBlob(digest)
	if err != nil {
		return "", err
	}
	defer file.Close()
	head := make([]byte, len(zstdMagic))
	n, err := io.ReadFull(file, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", err
	}
	switch head = head[:n]; {
	case strings.HasPrefix(string(head), string(gzipMagic)):
		return types.DockerLayer, nil
	case string(head) == string(zstdMagic):
		return types.OCILayerZStd, nil
	}
	return types.DockerUncompressedLayer, nil
}
