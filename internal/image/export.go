package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Export writes an image as an archive that is both an OCI layout and what
// docker load takes: the image for this host, without the others of its index.
// Older engines load gzip and uncompressed layers, but not those with zstd.
func (s *Store) Export(ctx context.Context, ref string, w io.Writer) error {
	lease, err := s.Acquire(ref)
	if err != nil {
		return err
	}
	defer lease.Release()
	m, err := s.readManifest(lease.Manifest, "")
	if err != nil {
		return fmt.Errorf("export %s: %w", ref, err)
	}
	found, err := s.Get(ref)
	if err != nil {
		return err
	}
	var tags []string
	for _, name := range found.Names {
		if isTagged(name) {
			tags = append(tags, name)
		}
	}
	out := &exporter{store: s, ctx: ctx, tar: tar.NewWriter(w), written: map[v1.Hash]bool{}}
	if err := out.image(m, tags); err != nil {
		return fmt.Errorf("export %s: %w", ref, err)
	}
	return nil
}

type exporter struct {
	store   *Store
	ctx     context.Context
	tar     *tar.Writer
	written map[v1.Hash]bool
}

func (e *exporter) image(m *Manifest, tags []string) error {
	for _, part := range append(m.parts(), m.ref()) {
		if err := e.blob(part.Digest); err != nil {
			return err
		}
	}
	listed := v1.Descriptor{MediaType: m.Type, Digest: m.Digest, Size: int64(len(m.Content))}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}
	for _, tag := range tags { // an entry for each name, as containerd does
		named := listed
		_, short := splitName(tag)
		named.Annotations = map[string]string{annotationName: tag, annotationRef: short}
		index.Manifests = append(index.Manifests, named)
	}
	if len(tags) == 0 {
		index.Manifests = append(index.Manifests, listed)
	}
	docker := dockerImage{Config: blobName(m.Image.Config.Digest), RepoTags: tags}
	for _, layer := range m.Image.Layers {
		docker.Layers = append(docker.Layers, blobName(layer.Digest))
	}
	for _, file := range []struct {
		name  string
		value any
	}{
		{ociIndexName, index},
		{dockerManifestName, []dockerImage{docker}},
		{ociLayoutName, map[string]string{"imageLayoutVersion": "1.0.0"}},
	} {
		content, err := json.Marshal(file.value)
		if err != nil {
			return err
		}
		if err := e.header(file.name, int64(len(content))); err != nil {
			return err
		}
		if _, err := e.tar.Write(content); err != nil {
			return err
		}
	}
	return e.tar.Close()
}

func blobName(digest v1.Hash) string { return "blobs/" + digest.Algorithm + "/" + digest.Hex }

func (e *exporter) header(name string, size int64) error {
	return e.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size})
}

func (e *exporter) blob(digest v1.Hash) error {
	if e.written[digest] {
		return nil
	}
	e.written[digest] = true
	file, size, err := e.store.OpenBlob(digest)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := e.header(blobName(digest), size); err != nil {
		return err
	}
	_, err = io.Copy(e.tar, contextReader{e.ctx, file})
	return err
}
