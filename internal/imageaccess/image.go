package imageaccess

import (
	"github.com/distribution/reference"
)

// Image is what a driver knows of an image that is on the machine.
type Image struct {
	ID string // in the driver's form

	tags    []reference.Named     // its names, with their domain
	digests []reference.Canonical // what registries know it by; none: it came from none
}

// NewImage describes an image by its identifier, its names with tags, and its
// names with digests. What is no name is left out: engines call what has none
// <none>.
func NewImage(id string, tags, digests []string) *Image {
	i := &Image{ID: id}
	for _, text := range tags {
		if named, err := reference.ParseNormalizedNamed(text); err == nil {
			i.tags = append(i.tags, named)
		}
	}
	for _, text := range digests {
		named, err := reference.ParseNormalizedNamed(text)
		if canonical, ok := named.(reference.Canonical); err == nil && ok {
			i.digests = append(i.digests, canonical)
		}
	}
	return i
}

// repos lists the repositories that the image is known in.
func (i *Image) repos() []string {
	var names []string
	for _, named := range i.tags {
		names = append(names, named.Name())
	}
	for _, named := range i.digests {
		names = append(names, named.Name())
	}
	return names
}

// NameFor returns a name that was asked for in full, if it is one of the image's.
// It is nil if the image was found by its identifier, or a part of that.
func (i *Image) NameFor(asked string) reference.Named {
	named, err := reference.ParseNormalizedNamed(asked)
	if err != nil {
		return nil
	}
	if digested, ok := named.(reference.Digested); ok {
		for _, own := range i.digests {
			if own.Name() == named.Name() && own.Digest() == digested.Digest() {
				return named
			}
		}
		return nil
	}
	named = reference.TagNameOnly(named)
	for _, own := range i.tags {
		if own.String() == named.String() {
			return named
		}
	}
	return nil
}

// DigestFor is the digest by which a registry knows the image under that name, or
// any other one if the name is nil; "" if there is none.
func (i *Image) DigestFor(named reference.Named) string {
	if digested, ok := named.(reference.Digested); ok {
		return digested.Digest().String()
	}
	for _, own := range i.digests {
		if named == nil || own.Name() == named.Name() {
			return own.Digest().String()
		}
	}
	return ""
}

// movable reports whether the image's name may come to mean another one in the
// registry that the image came from under it.
func (i *Image) movable(named reference.Named) bool {
	if named == nil {
		return false
	}
	_, fixed := named.(reference.Digested)
	return !fixed && i.DigestFor(named) != ""
}

// hasDigest reports whether a registry knows the image by that digest, under the
// name's repository. It may know it by several.
func (i *Image) hasDigest(named reference.Named, digest string) bool {
	for _, own := range i.digests {
		if own.Name() == named.Name() && own.Digest().String() == digest {
			return true
		}
	}
	return false
}
