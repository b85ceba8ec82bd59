package docker

import (
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/image"
)

// localImage is what the engine says of an image that it has.
type localImage struct {
	id      string
	size    int64 // bytes
	volumes bool  // it declares some

	tags    []reference.Named // its names, with their domain
	digests []reference.Canonical
}

func newLocalImage(info image.InspectResponse) *localImage {
	found := &localImage{id: info.ID, size: info.Size, volumes: info.Config != nil && len(info.Config.Volumes) > 0}
	for _, text := range info.RepoTags {
		if named, err := reference.ParseNormalizedNamed(text); err == nil { // engines name what has no name <none>
			found.tags = append(found.tags, named)
		}
	}
	for _, text := range info.RepoDigests {
		named, err := reference.ParseNormalizedNamed(text)
		if canonical, ok := named.(reference.Canonical); err == nil && ok {
			found.digests = append(found.digests, canonical)
		}
	}
	return found
}

// repos lists the repositories that the image is known in.
func (i *localImage) repos() []string {
	var names []string
	for _, named := range i.tags {
		names = append(names, named.Name())
	}
	for _, named := range i.digests {
		names = append(names, named.Name())
	}
	return names
}

// nameFor returns a name that was asked for in full, if it is one of the image's.
// It is nil if the engine found the image by its identifier, or a part of that.
func (i *localImage) nameFor(asked string) reference.Named {
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

// digestFor is the digest by which a registry knows the image under that name, or
// any other one if the name is nil; "" if there is none.
func (i *localImage) digestFor(named reference.Named) string {
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
