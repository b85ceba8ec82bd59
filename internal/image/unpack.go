package image

import (
	"fmt"
	"path"
	"strings"
)

// unpackOptions says how a layer is unpacked.
type unpackOptions struct {
	limits    Limits
	keepSetID bool
}

// Names of whiteouts in a layer's archive. Source: OCI image spec, layer.md,
// "Whiteouts". AUFS, which they come from, has further names with the
// second prefix, which mean nothing elsewhere.
const (
	whiteoutPrefix = ".wh."
	aufsPrefix     = ".wh..wh."
	opaqueName     = ".wh..wh..opq"
)

// entryKind is what a name in an archive stands for.
type entryKind int

const (
	plainEntry    entryKind = iota
	whiteoutEntry           // hides the path in the layers below
	opaqueEntry             // the path is a directory that hides those below
	ignoredEntry            // AUFS's own files
)

// parseEntry brings a name of an archive into a path below the layer's root,
// "." for the root itself, and tells what it stands for. Absolute names are
// relative to the root, as everywhere; names that lead out of it are refused.
func parseEntry(name string, limits Limits) (string, entryKind, error) {
	cleaned, err := cleanPath(name, limits)
	if err != nil {
		return "", plainEntry, err
	}
	if !strings.Contains(cleaned, whiteoutPrefix) {
		return cleaned, plainEntry, nil
	}
	dir, base := path.Split(cleaned)
	for part := range strings.SplitSeq(strings.TrimSuffix(dir, "/"), "/") {
		switch {
		case strings.HasPrefix(part, aufsPrefix):
			return cleaned, ignoredEntry, nil
		case strings.HasPrefix(part, whiteoutPrefix):
			return "", plainEntry, fmt.Errorf("%w: path %q is below a whiteout", ErrInvalid, name)
		}
	}
	switch {
	case base == opaqueName:
		return path.Clean(dir), opaqueEntry, nil
	case strings.HasPrefix(base, aufsPrefix):
		return cleaned, ignoredEntry, nil
	case strings.HasPrefix(base, whiteoutPrefix):
		hidden := strings.TrimPrefix(base, whiteoutPrefix)
		if hidden == "" || hidden == "." || hidden == ".." {
			return "", plainEntry, fmt.Errorf("%w: path %q is a whiteout of nothing", ErrInvalid, name)
		}
		return path.Join(dir, hidden), whiteoutEntry, nil
	}
	return cleaned, plainEntry, nil
}

// cleanPath makes a path of an archive relative to the layer's root.
func cleanPath(name string, limits Limits) (string, error) {
	switch {
	case len(name) > limits.PathLength:
		return "", fmt.Errorf("%w: a path has %d bytes, more than %d: %.80q", ErrLimit, len(name), limits.PathLength, name)
	case strings.IndexByte(name, 0) >= 0:
		return "", fmt.Errorf("%w: path %q has a zero byte in it", ErrInvalid, name)
	}
	cleaned := path.Clean(strings.TrimLeft(name, "/"))
	if cleaned == ".." || strings.HasPrefix(cleaned, "../") {
		return "", fmt.Errorf("%w: path %q leads out of the layer", ErrInvalid, name)
	}
	return cleaned, nil
}
