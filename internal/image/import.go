package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
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

	loaded bool // see record.Loaded
}

// Import reads images from an archive: an OCI layout, or what docker save
// writes, which may be compressed with gzip. It returns those that the archive
// lists, with the names that it gives them.
func (s *Store) Import(ctx context.Context, r io.Reader) ([]Image, error) {
	return s.importAs(ctx, r, true)
}

func (s *Store) importAs(ctx context.Context, r io.Reader, loaded bool) ([]Image, error) {
	a := &archive{files: map[string]blobRef{}, links: map[string]string{}, loaded: loaded}
	records, err := s.importArchive(ctx, a, r)
	if err != nil {
		var got []v1.Hash
		for _, file := range a.files {
			got = append(got, file.Digest)
		}
		s.dropOnFullDisk(err, got)
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
	images, err := s.importAs(ctx, stream, false)
	if err != nil {
		return Image{}, fmt.Errorf("take image %s over from the engine: %w", ref, err)
	}
	if len(images) != 1 {
		return Image{}, fmt.Errorf("take image %s over from the engine: it sent %d images", ref, len(images))
	}
	if digitsOf(ref) != "" {
		return images[0], nil
	}
	if name, err := s.normalize(ref); err == nil && isTagged(name) {
		if err := s.Tag(images[0].Target.String(), name); err != nil {
			return Image{}, err
		}
	}
	return s.Get(images[0].Target.String())
}

func (s *Store) importArchive(ctx context.Context, a *archive, r io.Reader) ([]*record, error) {
	buffered := bufio.NewReader(contextReader{ctx, r})
	var content io.Reader = buffered
	if head, err := buffered.Peek(len(gzipMagic)); err == nil && string(head) == string(gzipMagic) {
		unzipped, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		content = unzipped
	}
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
