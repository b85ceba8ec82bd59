package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Manifest is an image manifest or an index, as bytes and parsed. One of Image
// and Index is set.
type Manifest struct {
	Type    types.MediaType
	Content []byte
	Digest  v1.Hash
	Image   *v1.Manifest
	Index   *v1.IndexManifest
}

// ParseManifest parses a manifest of the media type that came with it, which
// may be empty if the manifest has one in it. Schema 1 is refused: its layers
// have no diffIDs.
func ParseManifest(content []byte, mediaType string) (*Manifest, error) {
	var head struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     types.MediaType `json:"mediaType"`
		Config        json.RawMessage `json:"config"`
		Manifests     json.RawMessage `json:"manifests"`
		FSLayers      json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(content, &head); err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", ErrInvalid, err)
	}
	if head.FSLayers != nil || head.SchemaVersion == 1 || types.MediaType(mediaType).IsSchema1() && head.SchemaVersion != 2 {
		return nil, fmt.Errorf("%w: the manifest is of Docker's schema 1: push the image with a newer program", ErrInvalid)
	}
	// Not both, as the OCI image spec warns: what is an image for one reader
	// must not be an index for another.
	if head.Config != nil && head.Manifests != nil {
		return nil, fmt.Errorf("%w: the manifest is both an image's and an index", ErrInvalid)
	}
	m := &Manifest{Type: types.MediaType(mediaType), Content: content, Digest: DigestOf(content)}
	if head.MediaType != "" {
		if m.Type != "" && m.Type != head.MediaType && (m.Type.IsImage() || m.Type.IsIndex()) {
			return nil, fmt.Errorf("%w: the manifest is %q inside and came as %q", ErrInvalid, head.MediaType, m.Type)
		}
		m.Type = head.MediaType
	}
	if !m.Type.IsImage() && !m.Type.IsIndex() {
		m.Type = types.OCIManifestSchema1
		if head.Manifests != nil {
			m.Type = types.OCIImageIndex
		}
	}
	var err error
	if m.Type.IsIndex() {
		if m.Index, err = v1.ParseIndexManifest(bytes.NewReader(content)); err == nil {
			err = checkDescriptors(m.Index.Manifests)
		}
	} else if m.Image, err = v1.ParseManifest(bytes.NewReader(content)); err == nil {
		err = checkDescriptors(append([]v1.Descriptor{m.Image.Config}, m.Image.Layers...))
	}
	if err == nil && m.Subject() != (v1.Hash{}) {
		err = checkDigest(m.Subject())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: manifest %s: %w", ErrInvalid, m.Digest, err)
	}
	return m, nil
}

func checkDescriptors(descriptors []v1.Descriptor) error {
	for _, d := range descriptors {
		if err := checkDigest(d.Digest); err != nil {
			return err
		}
		if d.Size < 0 {
			return fmt.Errorf("%w: %s has %d bytes", ErrInvalid, d.Digest, d.Size)
		}
	}
	return nil
}

func (m *Manifest) ref() blobRef {
	return blobRef{m.Type, m.Digest, int64(len(m.Content))}
}

// parts are the config and layers of an image's manifest.
func (m *Manifest) parts() []blobRef {
	var parts []blobRef
	for _, d := range append([]v1.Descriptor{m.Image.Config}, m.Image.Layers...) {
		parts = append(parts, blobRef{d.MediaType, d.Digest, d.Size})
	}
	return parts
}

// isContainer tells images from what else registries keep as manifests:
// signatures, attestations, charts. Those have other configs, or other layers.
func (m *Manifest) isContainer() bool {
	if m.Image == nil || !m.Image.Config.MediaType.IsConfig() {
		return false
	}
	for _, layer := range m.Image.Layers {
		if strings.Contains(string(layer.MediaType), "in-toto") {
			return false // BuildKit's attestations have an image's config
		}
	}
	return true
}

// parseConfig parses an image's config.
func parseConfig(content []byte, limits Limits) (*v1.ConfigFile, error) {
	config, err := v1.ParseConfigFile(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("%w: config: %w", ErrInvalid, err)
	}
	if len(config.RootFS.DiffIDs) > limits.Layers {
		return nil, fmt.Errorf("%w: the image has %d layers, more than %d", ErrLimit, len(config.RootFS.DiffIDs), limits.Layers)
	}
	says := config.Config
	if entries := len(says.Env) + len(says.Entrypoint) + len(says.Cmd) + len(says.Volumes); entries > limits.ConfigEntries {
		return nil, fmt.Errorf("%w: the config has %d variables, arguments and volumes, more than %d", ErrLimit, entries, limits.ConfigEntries)
	}
	for _, diffID := range config.RootFS.DiffIDs {
		if err := checkDigest(diffID); err != nil {
			return nil, err
		}
	}
	return config, nil
}

// checkLayers checks that a manifest and a config describe the same layers.
func checkLayers(m *Manifest, config *v1.ConfigFile) error {
	if len(m.Image.Layers) != len(config.RootFS.DiffIDs) {
		return fmt.Errorf("%w: manifest %s has %d layers, its config %d", ErrInvalid, m.Digest, len(m.Image.Layers), len(config.RootFS.DiffIDs))
	}
	for _, layer := range m.Image.Layers {
		if !layer.MediaType.IsDistributable() {
			return fmt.Errorf("%w: layer %s must not be distributed (%s), which this store does not fetch: build the image from another base", ErrInvalid, layer.Digest, layer.MediaType)
		}
	}
	return nil
}
