package image

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// First bytes of compressed streams. Sources: RFC 1952 section 2.3.1, RFC 8878
// section 3.1.1 (and 3.1.2 for a skippable frame, with which some writers begin).
var (
	gzipMagic      = []byte{0x1f, 0x8b}
	zstdMagic      = []byte{0x28, 0xb5, 0x2f, 0xfd}
	skippableMagic = []byte{0x2a, 0x4d, 0x18} // after a first byte of 0x50 to 0x5f
)

// zstdWindow is how far a stream may refer back, in bytes, which is memory for
// each layer that is unpacked (see Store.unpacking): what zstd --long=27, its largest usual one, needs.
const zstdWindow = 128 << 20

// layerReader is a layer's uncompressed archive. It hashes what is read and
// stops what is too large.
type layerReader struct {
	content io.Reader
	close   func()
	source  *countingReader
	hash    hash.Hash
	bytes   int64
	limits  Limits
}

type countingReader struct {
	io.Reader
	count int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.count += int64(n)
	return n, err
}

// decompress reads a layer's blob. It looks at the content, not at a media
// type: registries and builders disagree about those.
func decompress(blob io.Reader, limits Limits) (*layerReader, error) {
	source := &countingReader{Reader: blob}
	buffered := bufio.NewReaderSize(source, 1<<16)
	l := &layerReader{source: source, hash: sha256.New(), limits: limits, close: func() {}, content: buffered}
	head, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		reader, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, fmt.Errorf("%w: gzip: %w", ErrInvalid, err)
		}
		l.content, l.close = reader, func() { _ = reader.Close() }
	case bytes.HasPrefix(head, zstdMagic), len(head) == 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:], skippableMagic):
		reader, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, fmt.Errorf("%w: zstd: %w", ErrInvalid, err)
		}
		l.content, l.close = reader, reader.Close
	}
	return l, nil
}

func (l *layerReader) Read(p []byte) (int, error) {
	n, err := l.content.Read(p)
	l.hash.Write(p[:n])
	l.bytes += int64(n)
	switch {
	case l.bytes > l.limits.LayerBytes:
		return n, fmt.Errorf("%w: the layer has more than %d bytes", ErrLimit, l.limits.LayerBytes)
	case l.bytes > l.limits.RatioFloor && l.bytes/l.limits.Ratio > l.source.count:
		return n, fmt.Errorf("%w: %d bytes of the layer come from %d, more than %d for one", ErrLimit, l.bytes, l.source.count, l.limits.Ratio)
	case err != nil && !errors.Is(err, io.EOF):
		return n, fmt.Errorf("%w: read the layer: %w", ErrInvalid, err)
	}
	return n, err
}

// drain reads what follows the archive's end, which belongs to the diffID.
func (l *layerReader) drain(ctx context.Context) (v1.Hash, error) {
	if _, err := io.Copy(io.Discard, contextReader{ctx, l}); err != nil {
		return v1.Hash{}, err
	}
	return sumOf(l.hash), nil
}

func (l *layerReader) Close() { l.close() }

// contextReader ends reading with its context.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.Reader.Read(p)
}
