package docker

import (
	"regexp"
	"strings"

	"github.com/distribution/reference"
)

var hexDigits = regexp.MustCompile(`^[0-9a-f]+$`)

// idDigits returns the hexadecimal digits of an image's identifier, or of its
// beginning, and "" for what is none.
func idDigits(image string) string {
	const fewest, all = 12, 64
	digits := strings.TrimPrefix(image, "sha256:")
	if len(digits) < fewest || len(digits) > all || !hexDigits.MatchString(digits) {
		return ""
	}
	return digits
}

// imageKey brings names of one image into one form: "busybox" is
// docker.io/library/busybox:latest. A digest makes the tag before it
// meaningless. What is no name stays as it is.
func imageKey(image string) string {
	if digits := idDigits(image); len(digits) == 64 {
		return "sha256:" + digits
	}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	if digested, ok := named.(reference.Digested); ok {
		return reference.TrimNamed(named).String() + "@" + digested.Digest().String()
	}
	return reference.TagNameOnly(named).String()
}

// imageKeys are those of an identifier, which comes first, and of names.
func imageKeys(id string, tags, digests []string) []string {
	keys := []string{imageKey(id)}
	for _, tag := range tags {
		keys = append(keys, imageKey(tag))
	}
	for _, digest := range digests {
		keys = append(keys, imageKey(digest))
	}
	return keys
}

// realNames leaves out what engines call an image without a name.
func realNames(names []string) []string {
	var real []string
	for _, name := range names {
		if name != "<none>:<none>" && name != "<none>@<none>" {
			real = append(real, name)
		}
	}
	return real
}
