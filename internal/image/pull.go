package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"
)

// A blob whose transfer breaks off is fetched again, so many times in all and
// with such pauses. Requests that are refused are repeated by the registry client.
const (
	fetchAttempts = 3
	fetchPause    = 500 * time.Millisecond
)

// PullOptions says as whom an image is pulled, and how.
type PullOptions struct {
	Auth authn.Authenticator // the credentials; nil: none
	// Insecure allows plain HTTP. On loopback it is always allowed.
	Insecure bool
	// Once lets a request that failed for a passing reason end the pull, for callers
	// who try again themselves. The store keeps what was fetched completely.
	Once bool
	// Progress, if not nil, is told how far the pull is, at most ten times a
	// second and at the end. It must not block.
	Progress func(Progress)
}

// Progress is how far a pull is. Bytes are compressed ones, and those that the
// store had already count as done.
type Progress struct {
	Layers, LayersDone    int // done: unpacked
	BytesTotal, BytesDone int64
}

// Pull gets an image from its registry, or finds out that the store has what
// the name means there now. Callers who pull one image with the same
// credentials at one time share the pull; it ends when all of them left. It has
// no deadline but those of its callers' contexts.
func (s *Store) Pull(ctx context.Context, ref string, opts PullOptions) (Image, error) {
	p, err := s.newPull(ctx, ref, opts)
	if err != nil {
		return Image{}, err
	}
	r, err := s.share(ctx, p, opts.Progress)
	if err != nil {
		return Image{}, fmt.Errorf("pull %s: %w", p.name, err)
	}
	return s.describe(r), nil
}

// RemoteDigest asks an image's registry for the digest of what the name stands for
// there now, an image or an index. It has no deadline but the context's.
func (s *Store) RemoteDigest(ctx context.Context, ref string, opts PullOptions) (v1.Hash, error) {
	p, err := s.newPull(ctx, ref, opts)
	if err != nil {
		return v1.Hash{}, err
	}
	if err := p.connect(); err != nil {
		return v1.Hash{}, err
	}
	m, err := p.manifest(ctx, p.ref) // not its head alone: registries say more of a refusal then
	if err != nil {
		return v1.Hash{}, fmt.Errorf("ask for %s: %w", p.name, err)
	}
	return m.Digest, nil
}

func (s *Store) newPull(ctx context.Context, ref string, opts PullOptions) (*pull, error) {
	normalized, err := s.normalize(ref)
	if err == nil && s.Own(normalized) {
		err = fmt.Errorf("%w: %s: it is of this server's own registry, push it there", ErrNotFound, ref)
	}
	if err != nil {
		return nil, err
	}
	p := &pull{store: s, name: normalized, insecure: opts.Insecure, once: opts.Once}
	if p.ref, err = parseRemote(normalized, opts.Insecure); err != nil {
		return nil, err
	}
	if p.auth, err = credentials(ctx, opts.Auth); err != nil {
		return nil, fmt.Errorf("pull %s: credentials: %w", normalized, err)
	}
	return p, nil
}

func parseRemote(normalized string, insecure bool) (name.Reference, error) {
	options := []name.Option{name.StrictValidation}
	if insecure {
		options = append(options, name.Insecure)
	}
	ref, err := name.ParseReference(normalized, options...)
	if err != nil {
		return nil, fmt.Errorf("%w: name: %w", ErrInvalid, err)
	}
	return ref, nil
}

// credentials resolves who pulls to plain values, by which pulls are shared.
func credentials(ctx context.Context, auth authn.Authenticator) (authn.AuthConfig, error) {
	if auth == nil {
		auth = authn.Anonymous
	}
	config, err := authn.Authorization(ctx, auth)
	if err != nil {
		return authn.AuthConfig{}, err
	}
	return *config, nil
}

// pull is one pull, of all who share it.
type pull struct {
	store    *Store
	name     string // normalized
	ref      name.Reference
	auth     authn.AuthConfig
	insecure bool
	once     bool
	puller   *remote.Puller
	progress *progress
}

// connect makes the client for the registry.
func (p *pull) connect() (err error) {
	s := p.store
	options := []remote.Option{
		remote.WithAuth(authn.FromConfig(p.auth)),
		remote.WithTransport(plainGuard{s.opts.Transport, p.insecure}),
		remote.WithUserAgent("tine"),
		remote.WithJobs(s.opts.Parallel),
	}
	if p.once {
		options = append(options, remote.WithRetryBackoff(remote.Backoff{Steps: 1}))
	}
	p.puller, err = remote.NewPuller(options...)
	return err
}

func (p *pull) run(ctx context.Context, progress *progress) (*record, error) {
	s := p.store
	p.progress = progress
	if err := p.connect(); err != nil {
		return nil, err
	}
	target, err := p.manifest(ctx, p.ref)
	if err != nil {
		return nil, err
	}
	image := target
	if target.Index != nil {
		chosen, have := choose(target.Index, s.opts.Platform)
		if chosen == nil {
			return nil, &PlatformError{p.name, s.opts.Platform, have}
		}
		if image, err = p.manifest(ctx, p.ref.Context().Digest(chosen.Digest.String())); err != nil {
			return nil, err
		}
	}
	if !image.isContainer() {
		return nil, fmt.Errorf("%w: it is no container image, but another artifact of a registry", ErrInvalid)
	}
	return p.fetch(ctx, target, image)
}

func (p *pull) manifest(ctx context.Context, ref name.Reference) (*Manifest, error) {
	found, err := p.puller.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	if limit := p.store.opts.Limits.ManifestBytes; int64(len(found.Manifest)) > limit {
		return nil, fmt.Errorf("%w: the manifest has more than %d bytes", ErrLimit, limit)
	}
	m, err := ParseManifest(found.Manifest, string(found.MediaType))
	if err != nil {
		return nil, err
	}
	if want, isDigest := ref.(name.Digest); isDigest && want.DigestStr() != m.Digest.String() {
		return nil, fmt.Errorf("%w: the manifest is %s instead of %s", ErrDigest, m.Digest, want.DigestStr())
	}
	return m, nil
}

// fetch gets and unpacks what the store lacks, and makes the image known.
func (p *pull) fetch(ctx context.Context, target, image *Manifest) (*record, error) {
	var got []v1.Hash
	r, err := p.fetchParts(ctx, target, image, &got)
	p.store.dropOnFullDisk(err, got)
	return r, err
}

// fetchParts also tells which blobs and layers it may have put into the store.
func (p *pull) fetchParts(ctx context.Context, target, image *Manifest, got *[]v1.Hash) (*record, error) {
	s := p.store
	parts := image.parts()
	digests := []v1.Hash{target.Digest, image.Digest}
	for _, part := range parts {
		digests = append(digests, part.Digest)
		p.progress.total(part.Size)
	}
	if err := s.checkSize(parts); err != nil {
		return nil, err
	}
	if limit := s.opts.Limits.ConfigBytes; parts[0].Size > limit {
		return nil, fmt.Errorf("%w: the config has %d bytes, more than %d", ErrLimit, parts[0].Size, limit)
	}
	defer s.pin(digests...)()
	*got = digests
	if err := p.blob(ctx, parts[0]); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	r, config, err := s.imageRecord(target, image)
	if err != nil {
		return nil, err
	}
	if !s.runsHere(config) {
		return nil, &PlatformError{p.name, s.opts.Platform, []v1.Platform{platformOf(config)}}
	}
	*got = append(*got, config.RootFS.DiffIDs...)
	p.progress.layers(len(r.Layers))
	defer s.pin(config.RootFS.DiffIDs...)()
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(s.opts.Parallel)
	for i, layer := range r.Layers {
		group.Go(func() error {
			if err := p.blob(groupCtx, parts[1+i]); err != nil {
				return fmt.Errorf("layer %d of %d: %w", i+1, len(r.Layers), err)
			}
			if err := s.ensureLayer(groupCtx, layer.Blob, layer.DiffID); err != nil {
				return err
			}
			p.progress.layerDone()
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, m := range []*Manifest{image, target} {
		if _, err := s.putBlob(m.Content); err != nil {
			return nil, err
		}
	}
	return s.commit(r, []string{p.name, withDigest(p.name, target.Digest)})
}

// blob fetches a blob unless the store has it.
func (p *pull) blob(ctx context.Context, want blobRef) error {
	s := p.store
	unlock, err := s.work.acquire(ctx, "blob "+want.Digest.Hex)
	if err != nil {
		return err
	}
	defer unlock()
	if there, err := s.hasBlobOf(want.Digest, want.Size); err != nil {
		return err
	} else if there {
		p.progress.add(want.Size)
		return nil
	}
	if limit := s.opts.Limits.BlobBytes; want.Size > limit {
		return fmt.Errorf("%w: blob %s has %d bytes, more than %d", ErrLimit, want.Digest, want.Size, limit)
	}
	for attempt := 1; ; attempt++ {
		err := p.attempt(ctx, want)
		if err == nil || ctx.Err() != nil || attempt == fetchAttempts || p.once || !isWorthRepeating(err) {
			return err
		}
		s.log.Debug("blob is fetched again", "image", p.name, "blob", want.Digest.String(), "error", err)
		select {
		case <-time.After(fetchPause * time.Duration(attempt)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// isWorthRepeating tells a transfer that broke off from what will be the same
// the next time.
func isWorthRepeating(err error) bool {
	if _, isLocal := errors.AsType[localError](err); isLocal || errors.Is(err, errPlainHTTP) {
		return false
	}
	refused, ok := errors.AsType[*transport.Error](err)
	return !ok || refused.Temporary()
}

func (p *pull) attempt(ctx context.Context, want blobRef) (err error) {
	layer, err := p.puller.Layer(ctx, p.ref.Context().Digest(want.Digest.String()))
	if err != nil {
		return err
	}
	content, err := layer.Compressed()
	if err != nil {
		return err
	}
	defer content.Close()
	upload, err := p.store.NewUpload()
	if err != nil {
		return localError{err}
	}
	counted := &progressReader{Reader: io.LimitReader(contextReader{ctx, content}, want.Size+1), progress: p.progress}
	if _, err = io.Copy(localWriter{upload}, counted); err == nil || upload.Size() >= want.Size {
		// Whatever the reader found at the end, the digest decides.
		err = p.commit(upload, want)
	}
	if err != nil {
		p.progress.add(-counted.bytes)
		return errors.Join(fmt.Errorf("blob %s: %w", want.Digest, err), upload.Discard())
	}
	return nil
}

func (p *pull) commit(upload *Upload, want blobRef) error {
	// Its digest can be right although the manifest has another size.
	if upload.Size() < want.Size {
		return localError{fmt.Errorf("%w: it has %d bytes, the manifest says %d", ErrInvalid, upload.Size(), want.Size)}
	}
	if _, err := upload.Commit(want.Digest); err != nil {
		return localError{err}
	}
	return nil
}

// localError is an error of the store, not of the transfer.
type localError struct{ error }

func (e localError) Unwrap() error { return e.error }

type localWriter struct{ io.Writer }

func (w localWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		err = localError{err}
	}
	return n, err
}
