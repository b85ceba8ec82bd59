package image

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const algorithm = "sha256"

// ParseDigest parses sha256:<64 lower case hexadecimal digits>. The store
// knows no other algorithm.
func ParseDigest(text string) (v1.Hash, error) {
	digest, err := v1.NewHash(text)
	if err == nil {
		err = checkDigest(digest)
	}
	if err != nil {
		return v1.Hash{}, fmt.Errorf("%w: digest %q is not sha256: and 64 hexadecimal digits", ErrInvalid, text)
	}
	return digest, nil
}

// checkDigest refuses what could not be a file's name here. Digests inside
// parsed manifests went through v1.Hash, which takes more algorithms and also
// leaves out what is missing.
func checkDigest(digest v1.Hash) error {
	if digest.Algorithm != algorithm || len(digest.Hex) != hex.EncodedLen(sha256.Size) {
		return fmt.Errorf("%w: digest %q is not a SHA-256", ErrInvalid, digest)
	}
	return nil
}

func sumOf(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: algorithm, Hex: hex.EncodeToString(h.Sum(nil))}
}

// DigestOf returns the digest of bytes.
func DigestOf(content []byte) v1.Hash {
	sum := sha256.Sum256(content)
	return v1.Hash{Algorithm: algorithm, Hex: hex.EncodeToString(sum[:])}
}
