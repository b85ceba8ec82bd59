package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Names in a layer's directory.
const (
	layerTree = "fs"
	layerFile = "layer.json"
)

// layerRecord is what is known about an unpacked layer.
type layerRecord struct {
	DiffID v1.Hash `json:"diff_id"`
	// Tree is the digest of the directory as it was unpacked, see hashTree.
	Tree  v1.Hash `json:"tree"`
	Bytes int64   `json:"bytes"` // on disk
	Files int64   `json:"files"`
	Notes Notes   `json:"notes,omitzero"`
}

// Notes say what of a layer was not unpacked as it is in its archive.
type Notes struct {
	Skipped   int      `json:"skipped,omitempty"`    // device nodes, FIFOs, sockets
	Examples  []string `json:"examples,omitempty"`   // some of those that were skipped
	SetID     int      `json:"set_id,omitempty"`     // files that lost their set-uid or set-gid bit
	XattrsCut int      `json:"xattrs_cut,omitempty"` // extended attributes that were left out, as security.capability
}

const noteExamples = 10

func (n *Notes) skip(what string) {
	n.Skipped++
	if len(n.Examples) < noteExamples {
		n.Examples = append(n.Examples, what)
	}
}

func (n *Notes) add(other Notes) {
	n.Skipped += other.Skipped
	n.SetID += other.SetID
	n.XattrsCut += other.XattrsCut
	n.Examples = append(n.Examples, other.Examples[:min(len(other.Examples), noteExamples-len(n.Examples))]...)
}

func (n Notes) String() string {
	return fmt.Sprintf("%d special files skipped %q, %d set-id bits removed, %d extended attributes left out", n.Skipped, n.Examples, n.SetID, n.XattrsCut)
}

func (s *Store) layerPath(diffID v1.Hash) string {
	return s.path(layersDir, diffID.Algorithm, diffID.Hex)
}

// readLayer returns what is known about a layer that is unpacked.
func (s *Store) readLayer(diffID v1.Hash) (layerRecord, error) {
	var layer layerRecord
	dir := s.layerPath(diffID)
	content, err := os.ReadFile(filepath.Join(dir, layerFile))
	if err != nil {
		return layer, err
	}
	if err := json.Unmarshal(content, &layer); err != nil {
		return layer, fmt.Errorf("%s: %w", layerFile, err)
	}
	if layer.DiffID != diffID {
		return layer, fmt.Errorf("%s describes layer %s", layerFile, layer.DiffID)
	}
	_, err = os.Stat(filepath.Join(dir, layerTree))
	return layer, err
}

// ensureLayer unpacks a layer from its blob unless it is there. The caller has
// pinned both. A layer that is there is taken by its diffID alone, so whoever
// knows a diffID, which is in the image's config only, can build on that layer.
func (s *Store) ensureLayer(ctx context.Context, digest, diffID v1.Hash) error {
	unlock, err := s.work.acquire(ctx, "layer "+diffID.Hex)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = s.readLayer(diffID)
	if err == nil {
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		s.log.Warn("damaged layer is unpacked again", "layer", diffID.String(), "error", err)
	}
	// The place is given up while room is made on a full disk.
	return s.withRoom(ctx, func() error {
		select {
		case s.unpacking <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		defer func() { <-s.unpacking }()
		return s.unpackLayer(ctx, digest, diffID)
	})
}

// unpackLayer unpacks a layer and puts it into its place.
func (s *Store) unpackLayer(ctx context.Context, digest, diffID v1.Hash) error {
	aside, err := os.MkdirTemp(s.path(tmpDir), "layer-")
	if err != nil {
		return s.noSpace(err)
	}
	if err := s.unpackAside(ctx, aside, digest, diffID); err != nil {
		return s.noSpace(errors.Join(fmt.Errorf("layer %s (blob %s): %w", diffID, digest, err), os.RemoveAll(aside)))
	}
	// What is in its place can only be damaged.
	if _, err := os.Lstat(s.layerPath(diffID)); err == nil {
		s.quarantine(s.layerPath(diffID), "incomplete layer")
	}
	if err := s.place(aside, s.layerPath(diffID)); err != nil {
		return s.noSpace(errors.Join(fmt.Errorf("layer %s: %w", diffID, err), os.RemoveAll(aside)))
	}
	return s.step("layer placed")
}

// unpackAside unpacks a layer into a directory that is renamed when this
// returns nil, and checks that it is the layer that the config asks for.
func (s *Store) unpackAside(ctx context.Context, aside string, digest, diffID v1.Hash) error {
	blob, _, err := s.OpenBlob(digest)
	if err != nil {
		return err
	}
	defer blob.Close()
	content, err := decompress(blob, s.opts.Limits)
	if err != nil {
		return err
	}
	defer content.Close()
	tree := filepath.Join(aside, layerTree)
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(tree, 0o755); err != nil { // whatever the umask is
		return err
	}
	notes, err := unpack(ctx, tree, content, unpackOptions{limits: s.opts.Limits, keepSetID: s.opts.KeepSetID})
	if err != nil {
		return err
	}
	if got, err := content.drain(ctx); err != nil {
		return err
	} else if got != diffID {
		return fmt.Errorf("%w: unpacked it is %s, its config says %s", ErrDigest, got, diffID)
	}
	if err := s.step("layer unpacked"); err != nil {
		return err
	}
	sum, usage, err := hashTree(ctx, tree)
	if err != nil {
		return err
	}
	record, err := json.Marshal(layerRecord{DiffID: diffID, Tree: sum, Bytes: usage.bytes, Files: usage.files, Notes: notes})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(aside, layerFile), record, 0o600); err != nil {
		return err
	}
	// One sync for all files: a layer may have hundreds of thousands.
	if err := syncFilesystem(aside); err != nil {
		return fmt.Errorf("write the layer to disk: %w", err)
	}
	if notes.Skipped+notes.SetID+notes.XattrsCut > 0 {
		s.log.Info("layer is not unpacked as it is in its archive", "layer", diffID.String(), "notes", notes.String())
	}
	return s.step("layer synced")
}
