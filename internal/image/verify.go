package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Verify reads all blobs and unpacked layers, moves those that are not what
// their name says to quarantine, and tells what images lack. It is for
// operators: it reads everything.
func (s *Store) Verify(ctx context.Context) ([]Problem, error) {
	paths, err := s.content(ctx)
	if err != nil {
		return nil, err
	}
	var problems []Problem
	for _, path := range paths {
		cause, err := s.verify(ctx, path)
		if ctx.Err() != nil {
			return problems, context.Cause(ctx)
		}
		if _, gone := os.Lstat(path); errors.Is(gone, os.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			cause = err.Error()
		}
		if cause != "" {
			problems = append(problems, s.quarantine(path, cause))
		}
	}
	s.mu.Lock()
	records := make([]*record, 0, len(s.images))
	for _, r := range s.images {
		records = append(records, r)
	}
	s.mu.Unlock()
	for _, r := range records {
		problems = append(problems, s.missing(r)...)
	}
	return problems, nil
}

// verify tells what is wrong with a blob or a layer.
func (s *Store) verify(ctx context.Context, path string) (cause string, err error) {
	want := v1.Hash{Algorithm: algorithm, Hex: filepath.Base(path)}
	if err := checkDigest(want); err != nil {
		return err.Error(), nil
	}
	if filepath.Dir(path) == s.path(layersDir, algorithm) {
		layer, err := s.readLayer(want)
		if err != nil {
			return "", err
		}
		got, _, err := hashTree(ctx, filepath.Join(path, layerTree))
		if err != nil {
			return "", err
		}
		if got != layer.Tree {
			return fmt.Sprintf("its files changed since it was unpacked (%s instead of %s)", got, layer.Tree), nil
		}
		return "", nil
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	got, _, err := v1.SHA256(contextReader{ctx, file})
	if err := errors.Join(err, file.Close()); err != nil {
		return "", err
	}
	if got != want {
		return "it has the digest " + got.String(), nil
	}
	return "", nil
}

// Repair unpacks the layers that images lack and whose blobs are there, and
// returns what still is missing, which a pull brings. Configs that are damaged, and
// blobs that cannot be unpacked for that reason, go to quarantine, as a pull takes
// what is there.
func (s *Store) Repair(ctx context.Context) ([]Problem, error) {
	s.mu.Lock()
	records := make([]*record, 0, len(s.images))
	for _, r := range s.images {
		records = append(records, r)
	}
	s.mu.Unlock()
	var left []Problem
	for _, r := range records {
		if err := s.repair(ctx, r); err != nil {
			return left, err
		}
		left = append(left, s.missing(r)...)
	}
	return left, nil
}

// RepairImage does for one image what Repair does for all. Whether the image is
// whole by then, [Store.Acquire] tells. References are those of [Store.Get].
func (s *Store) RepairImage(ctx context.Context, ref string) error {
	s.mu.Lock()
	r, err := s.find(ref)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.repair(ctx, r)
}

func (s *Store) repair(ctx context.Context, r *record) error {
	if r.runs() {
		s.removeDamaged(ctx, r.Config)
	}
	for _, layer := range r.Layers {
		unpin := s.pin(layer.Blob, layer.DiffID)
		err := s.ensureLayer(ctx, layer.Blob, layer.DiffID)
		unpin()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, ErrNoSpace) {
			return err
		}
		if err != nil {
			s.log.Warn("layer cannot be repaired", "layer", layer.DiffID.String(), "error", err)
			s.removeDamaged(ctx, layer.Blob)
		}
	}
	return nil
}

// removeDamaged moves a blob to quarantine if it is there and damaged.
func (s *Store) removeDamaged(ctx context.Context, digest v1.Hash) {
	path := s.blobPath(digest)
	if cause, err := s.verify(ctx, path); err == nil && cause != "" {
		problem := s.quarantine(path, cause)
		s.log.Warn("damaged blob of an image", "problem", problem.String())
	}
}
