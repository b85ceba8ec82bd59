package image

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// fewestDigits of an identifier: less could be a name just as well.
const fewestDigits = 12

var hexDigits = regexp.MustCompile(`^[0-9a-f]+$`)

// Normalize brings the names of one image into one form: busybox is
// docker.io/library/busybox:latest, and a digest makes the tag before it
// meaningless. Source: Docker's rules for names (github.com/distribution/reference).
func Normalize(name string) (string, error) {
	if len(digitsOf(name)) == 64 {
		return "", fmt.Errorf("%w: %q is an identifier, not a name", ErrInvalid, name)
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", fmt.Errorf("%w: name %q: %w", ErrInvalid, name, err)
	}
	if digested, ok := named.(reference.Digested); ok {
		digest, err := ParseDigest(digested.Digest().String())
		if err != nil {
			return "", err
		}
		return named.Name() + "@" + digest.String(), nil
	}
	return reference.TagNameOnly(named).String(), nil
}

// repositoryOf cuts the tag or digest off a normalized name.
func repositoryOf(name string) string {
	repository, _ := splitName(name)
	return repository
}

// splitName splits a normalized name before its tag, or its digest.
func splitName(name string) (repository, reference string) {
	if before, digest, ok := strings.Cut(name, "@"); ok {
		return before, digest
	}
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		return name[:colon], name[colon+1:]
	}
	return name, ""
}

// isTagged tells repository:tag from repository@digest.
func isTagged(name string) bool { return !strings.Contains(name, "@") }

// digitsOf returns the hexadecimal digits of a digest, or of an identifier's
// beginning, and "" for what is none.
func digitsOf(ref string) string {
	digits := strings.TrimPrefix(ref, algorithm+":")
	if len(digits) < fewestDigits || len(digits) > 64 || !hexDigits.MatchString(digits) {
		return ""
	}
	return digits
}

// withDigest is a target's name by its digest, in the repository of a name.
func withDigest(name string, digest v1.Hash) string {
	return repositoryOf(name) + "@" + digest.String()
}

// IsReference reports whether a text can mean an image of a store, see
// [Store.Get].
func IsReference(ref string) bool {
	if digitsOf(ref) != "" {
		return true
	}
	_, err := Normalize(ref)
	return err == nil
}
