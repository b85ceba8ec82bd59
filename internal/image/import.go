package image

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/moby/moby/client"
)

// Names in archives. Sources: OCI image spec, image-layout.md; Docker's
// docker save, moby/docker-image-spec, "Combined Image JSON + Filesystem
// Changeset Format".
const (
	ociIndexName       = "index.json"
	ociLayoutName      = "oci-layout"
	dockerManifestName = "manifest.json"

	// Annotations of descriptors in an index.json: containerd's full name, and
	// OCI's, which is a tag only as a rule.
	annotationName = "io.containerd.image.name"
	annotationRef  = "org.opencontainers.image.ref.name"
)

// archive is what Import has read: files are in the store as blobs already.
type archive struct {
	files map[string]blobRef // by path; without a media type
	links map[string]string  // symbolic and hard links: path -> path
	unpin []func()
	bytes int64
}

// Import reads images from an archive: an OCI layout, or what docker save
// writes, which may be compressed with gzip. It returns those that the archive
// lists, with the names that it gives them.
func (s *Store) Import(ctx context.Context, r io.Reader) ([]Image, error) {
	records, err := s.importArchive(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("import images: %w", err)
	}
	images := make([]Image, len(records))
	for i, r := range records {
		images[i] = s.describe(r)
	}
	return images, nil
}

// ImageSaver is what ImportFromEngine needs of an engine's client.
type ImageSaver interface {
	ImageSave(ctx context.Context, images []string, options ...client.ImageSaveOption) (client.ImageSaveResult, error)
}

// ImportFromEngine takes an image over from a Docker engine, for one that
// exists only there. It gets the tag that it is asked for by. By a digest it
// gets no name: an engine does not keep what the digest is of.
func (s *Store) ImportFromEngine(ctx context.Context, engine ImageSaver, ref string) (_ Image, err error) {
	stream, err := engine.ImageSave(ctx, []string{ref})
	if err != nil {
		return Image{}, fmt.Errorf("take image %s over from the engine: %w", ref, err)
	}
	defer stream.Close()
	images, err := s.Import(ctx, stream)
	if err != nil {
		return Image{}, fmt.Errorf("take image %s over from the engine: %w", ref, err)
	}
	if len(images) != 1 {
		return Image{}, fmt.Errorf("take image %s over from the engine: it sent %d images", ref, len(images))
	}
	if digitsOf(ref) != "" {
		return images[0], nil
	}
	if name, err := Normalize(ref); err == nil && isTagged(name) {
		if err := s.Tag(images[0].Target.String(), name); err != nil {
			return Image{}, err
		}
	}
	return s.Get(images[0].Target.String())
}

func (s *Store) importArchive(ctx context.Context, r io.Reader) ([]*record, error) {
	buffered := bufio.NewReader(contextReader{ctx, r})
	var content io.Reader = buffered
	if head, err := buffered.Peek(len(gzipMagic)); err == nil && string(head) == string(gzipMagic) {
		unzipped, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		content = unzipped
	}
	a := &archive{files: map[string]blobRef{}, links: map[string]string{}}
	defer func() {
		for _, unpin := range a.unpin {
			unpin()
		}
	}()
	if err := s.readArchive(ctx, a, content); err != nil {
		return nil, err
	}
	// Newer Docker writes both: its index has the manifests of registries, the
	// other file their names.
	if _, ok := a.find(ociIndexName); ok {
		return s.importLayout(ctx, a)
	}
	if _, ok := a.find(dockerManifestName); ok {
		return s.importDocker(ctx, a)
	}
	return nil, fmt.Errorf("%w: the archive has neither %s nor %s: make it with docker save, or as an OCI layout", ErrInvalid, ociIndexName, dockerManifestName)
}

// readArchive puts all files into the store, since only its end tells what
// they are. What turns out to be none of an image is an orphan that Collect
// removes.
func (s *Store) readArchive(ctx context.Context, a *archive, content io.Reader) error {
	reader := tar.NewReader(content)
	for count := 1; ; count++ {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("%w: read the archive: %w", ErrInvalid, err)
		}
		if count > s.opts.Limits.ArchiveFiles {
			return fmt.Errorf("%w: the archive has more than %d files", ErrLimit, s.opts.Limits.ArchiveFiles)
		}
		name, err := cleanPath(header.Name, s.opts.Limits)
		if err != nil {
			return err
		}
		switch header.Typeflag {
		case tar.TypeReg:
			if err := s.readFile(ctx, a, name, reader); err != nil {
				return fmt.Errorf("read %q of the archive: %w", header.Name, err)
			}
		case tar.TypeSymlink: // of a layer to the same one of another image
			a.links[name] = path.Join(path.Dir(name), header.Linkname)
		case tar.TypeLink:
			a.links[name] = path.Clean(header.Linkname)
		}
	}
}

func (s *Store) readFile(ctx context.Context, a *archive, name string, content io.Reader) error {
	upload, err := s.NewUpload()
	if err != nil {
		return err
	}
	if _, err := io.Copy(localWriter{upload}, content); err != nil {
		if _, isLocal := errors.AsType[localError](err); !isLocal && ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", ErrInvalid, err) // it ends early, as a rule
		}
		return errors.Join(err, upload.Discard())
	}
	digest := sumOf(upload.hash)
	if a.bytes += upload.Size(); a.bytes > s.opts.Limits.ImageBytes {
		return errors.Join(fmt.Errorf("%w: the archive has more than %d bytes", ErrLimit, s.opts.Limits.ImageBytes), upload.Discard())
	}
	a.unpin = append(a.unpin, s.pin(digest))
	a.files[name] = blobRef{Digest: digest, Size: upload.Size()}
	if there, err := s.hasBlobOf(digest, upload.Size()); there || err != nil {
		return errors.Join(err, upload.Discard())
	}
	_, err = upload.Commit(digest)
	return err
}

// find returns a file of the archive, through links.
func (a *archive) find(name string) (blobRef, bool) {
	name = path.Clean(name)
	for range mostSymlinksInArchive {
		if file, ok := a.files[name]; ok {
			return file, true
		}
		target, ok := a.links[name]
		if !ok {
			return blobRef{}, false
		}
		name = target
	}
	return blobRef{}, false
}

const mostSymlinksInArchive = 10

func (s *Store) readArchiveFile(a *archive, name string, limit int64) ([]byte, error) {
	file, ok := a.find(name)
	if !ok {
		return nil, fmt.Errorf("%w: the archive has no %q", ErrInvalid, name)
	}
	return s.readBlob(file.Digest, limit)
}

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
		normalized, err := normalizeAll(names)
		if err != nil {
			return nil, err
		}
		r, err := s.register(ctx, m, normalized, true)
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

func normalizeAll(names []string) ([]string, error) {
	var all []string
	for _, name := range names {
		normalized, err := Normalize(name)
		if err != nil {
			return nil, err
		}
		all = append(all, normalized)
	}
	return all, nil
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
		names, err := normalizeAll(image.RepoTags)
		if err != nil {
			return nil, err
		}
		r, err := s.register(ctx, m, names, false)
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
