package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// blobPath is where a blob is, or would be.
func (s *Store) blobPath(digest v1.Hash) string {
	return s.path(blobsDir, digest.Algorithm, digest.Hex)
}

// HasBlob reports whether the store has a blob, and its size in bytes. A blob
// that was asked for is spared by Collect for Options.OrphanAge: whoever asks
// is about to refer to it.
func (s *Store) HasBlob(digest v1.Hash) (size int64, ok bool) {
	if checkDigest(digest) != nil {
		return 0, false
	}
	s.mu.Lock() // so that a collection does not come between
	defer s.mu.Unlock()
	info, err := os.Stat(s.blobPath(digest))
	if err != nil || !info.Mode().IsRegular() {
		return 0, false
	}
	s.recent[digest] = time.Now()
	return info.Size(), true
}

// hasBlobOf reports whether the store has a blob of that size. If it has
// another size, either the blob is damaged and leaves, so that it is fetched
// again, or who said the size is wrong, which is an error: a manifest from
// elsewhere must not be able to take blobs away from other images.
func (s *Store) hasBlobOf(digest v1.Hash, size int64) (bool, error) {
	path := s.blobPath(digest)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case info.Size() == size:
		return true, nil
	}
	cause, err := s.verify(context.Background(), path)
	if err != nil {
		return false, err
	}
	if cause == "" {
		return false, fmt.Errorf("%w: blob %s has %d bytes, a manifest says %d", ErrInvalid, digest, info.Size(), size)
	}
	problem := s.quarantine(path, cause)
	s.log.Warn("damaged blob of an image", "problem", problem.String())
	return false, nil
}

// OpenBlob opens a blob for reading, which stays possible when it is removed.
func (s *Store) OpenBlob(digest v1.Hash) (content io.ReadSeekCloser, size int64, err error) {
	if err := checkDigest(digest); err != nil {
		return nil, 0, err
	}
	file, err := os.Open(s.blobPath(digest))
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, fmt.Errorf("%w: blob %s", ErrNotFound, digest)
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

// readBlob reads a small blob and checks that it is what its name says.
func (s *Store) readBlob(digest v1.Hash, limit int64) ([]byte, error) {
	file, size, err := s.OpenBlob(digest)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if size > limit {
		return nil, fmt.Errorf("%w: blob %s has %d bytes, more than %d", ErrLimit, digest, size, limit)
	}
	content, err := io.ReadAll(io.LimitReader(file, limit))
	if err != nil {
		return nil, err
	}
	if got := DigestOf(content); got != digest {
		return nil, fmt.Errorf("%w: blob %s has the digest %s: run a verification, then pull again", ErrDamaged, digest, got)
	}
	return content, nil
}

// putBlob stores a small blob.
func (s *Store) putBlob(content []byte) (v1.Hash, error) {
	digest := DigestOf(content)
	if there, err := s.hasBlobOf(digest, int64(len(content))); there || err != nil {
		return digest, err
	}
	upload, err := s.NewUpload()
	if err != nil {
		return v1.Hash{}, err
	}
	if _, err := upload.Write(content); err != nil {
		return v1.Hash{}, errors.Join(err, upload.Discard())
	}
	_, err = upload.Commit(digest)
	return digest, err
}

// Upload is a blob that is being written aside. It is used by one goroutine at
// a time, and ends with Commit or Discard.
type Upload struct {
	store *Store
	file  *os.File
	hash  hash.Hash
	size  int64
	ended bool
}

// NewUpload begins a blob.
func (s *Store) NewUpload() (*Upload, error) {
	if err := s.alive(); err != nil {
		return nil, err
	}
	var file *os.File
	err := s.withRoom(context.Background(), func() (err error) {
		file, err = os.CreateTemp(s.path(tmpDir), "blob-")
		return s.noSpace(err)
	})
	if err != nil {
		return nil, err
	}
	return &Upload{store: s, file: file, hash: sha256.New()}, nil
}

// Size is how many bytes were written.
func (u *Upload) Size() int64 { return u.size }

// Write appends to the blob.
func (u *Upload) Write(p []byte) (int, error) {
	if limit := u.store.opts.Limits.BlobBytes; u.size+int64(len(p)) > limit {
		return 0, fmt.Errorf("%w: a blob has more than %d bytes", ErrLimit, limit)
	}
	written := 0
	err := u.store.withRoom(context.Background(), func() error {
		n, err := u.file.Write(p[written:])
		written += n
		return u.store.noSpace(err)
	})
	u.hash.Write(p[:written])
	u.size += int64(written)
	return written, err
}

// Commit puts the blob into the store if its digest is the one that is wanted;
// the zero digest wants any. It always ends the upload.
func (u *Upload) Commit(want v1.Hash) (v1.Hash, error) {
	digest := sumOf(u.hash)
	if want != (v1.Hash{}) && want != digest {
		return v1.Hash{}, errors.Join(fmt.Errorf("%w: %s instead of %s", ErrDigest, digest, want), u.Discard())
	}
	err := u.store.step("blob written")
	if err == nil {
		err = u.file.Sync()
	}
	if err == nil {
		err = u.store.step("blob synced")
	}
	if err == nil {
		// Before the rename, lest a collection sees an old orphan.
		u.store.mu.Lock()
		u.store.recent[digest] = time.Now()
		u.store.mu.Unlock()
		err = u.store.place(u.file.Name(), u.store.blobPath(digest))
	}
	if err == nil {
		u.ended = true
		err = errors.Join(u.store.step("blob placed"), u.file.Close())
		return digest, err
	}
	return v1.Hash{}, u.store.noSpace(errors.Join(err, u.Discard()))
}

// Discard drops the blob. After Commit it does nothing.
func (u *Upload) Discard() error {
	if u.ended {
		return nil
	}
	u.ended = true
	err := os.Remove(u.file.Name())
	if errors.Is(err, os.ErrNotExist) { // it reached its place before something else failed
		err = nil
	}
	return errors.Join(u.file.Close(), err)
}
