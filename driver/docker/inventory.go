package docker

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/tinefn/tine/driver"
)

// ImageStats says how much the images on the engine take that may be removed,
// see Options.MaxImageBytes. A layer that several images share is counted once
// if the sum of all images exceeds the maximum, and otherwise for each of them.
type ImageStats = driver.ImageStats

// storedImage is an image on the engine.
type storedImage struct {
	id     string
	keys   []string // of its identifier, which comes first, and of its names
	tags   int
	exempt bool // never removed and not counted
	inUse  bool
	spared bool // for now, because it was tried already

	last         time.Time // when it was last used
	created      int64     // when it was built, seconds since 1970
	size, shared int64     // bytes, and how many of them other images have too; not negative
}

// inventory is all images of an engine.
type inventory struct {
	images []storedImage
	total  int64 // bytes of all layers, each counted once; negative: unknown
}

// bytes is an upper bound of what the images take that are not exempt. No
// engine tells of single layers: what an exempt image shares is either taken by
// one that is not, or by other exempt ones.
func (i inventory) bytes() int64 {
	var sum, exempt int64
	for _, image := range i.images {
		if image.exempt {
			exempt += image.size - image.shared
		} else {
			sum += image.size
		}
	}
	if i.total < 0 {
		return sum
	}
	return max(0, min(sum, i.total-exempt))
}

func (i inventory) stats(maximum int64) ImageStats {
	s := ImageStats{MaxBytes: maximum}
	for _, image := range i.images {
		switch {
		case image.exempt:
		case image.inUse:
			s.Busy++
			s.BusyBytes += image.size
		default:
			s.Idle++
		}
	}
	all := i.bytes()
	s.BusyBytes = min(s.BusyBytes, all)
	s.IdleBytes = all - s.BusyBytes
	return s
}

// victims returns which images to remove, in this order, so that the rest takes
// no more than the maximum. Those that were not used for longest go first, and
// of equally old ones those that have lost their names. As it is not known what
// a removal frees of shared layers, the most is assumed: nothing is removed in
// vain, and afterwards the images have to be listed anew.
func (i inventory) victims(maximum int64) []storedImage {
	var idle []storedImage
	for _, image := range i.images {
		if !image.exempt && !image.inUse && !image.spared && image.size > 0 {
			idle = append(idle, image)
		}
	}
	slices.SortFunc(idle, func(a, b storedImage) int {
		return cmp.Or(
			a.last.Compare(b.last),
			cmp.Compare(min(a.tags, 1), min(b.tags, 1)),
			cmp.Compare(min(len(a.keys), 2), min(len(b.keys), 2)), // without even a digest
			cmp.Compare(a.created, b.created),
			cmp.Compare(a.id, b.id),
		)
	})
	excess := i.bytes() - maximum
	for n, image := range idle {
		if excess <= 0 {
			return idle[:n]
		}
		excess -= image.size
	}
	return idle
}

// exemptions are the images of FN_IMAGE_CLEAN_EXEMPT_TAGS.
type exemptions struct {
	keys    map[string]struct{}
	digests []string // digits of identifiers, or of their beginnings, and of digests
}

func parseExemptions(names []string) (exemptions, error) {
	e := exemptions{keys: map[string]struct{}{}}
	for _, name := range names {
		if digits := idDigits(name); digits != "" {
			e.digests = append(e.digests, digits)
		}
		// Digits may be a name, too.
		if _, err := reference.ParseNormalizedNamed(name); err != nil && idDigits(name) == "" {
			return e, fmt.Errorf("%q in FN_IMAGE_CLEAN_EXEMPT_TAGS is no image, correct it to a form like repository:tag: %w", name, err)
		}
		e.keys[imageKey(name)] = struct{}{}
	}
	return e, nil
}

// contain reports whether one of the keys of an image is exempt.
func (e exemptions) contain(keys []string) bool {
	for _, key := range keys {
		if _, ok := e.keys[key]; ok {
			return true
		}
		_, digest, found := strings.Cut(key, "sha256:")
		if found && slices.ContainsFunc(e.digests, func(digits string) bool { return strings.HasPrefix(digest, digits) }) {
			return true
		}
	}
	return false
}
