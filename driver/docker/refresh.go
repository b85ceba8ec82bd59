package docker

import (
	"context"
	"errors"
	"log/slog"

	"github.com/distribution/reference"

	"github.com/tinefn/tine/driver"
)

// maxSilent bounds the names whose registry is known not to answer.
const maxSilent = 10_000

// refresh asks the registry what an image's name means by now, and pulls it if
// that is not what the engine has. A registry that says nothing useful leaves the
// image in use, unless it is private and nothing else shows that the tenant may
// use it. Errors: as of EnsureImage.
func (d *Driver) refresh(ctx context.Context, want driver.ImageRequest, found *localImage) (*localImage, error) {
	named := found.nameFor(want.Name)
	if !found.movable(named) {
		return found, d.authorize(ctx, want, found)
	}
	who, err := d.identify(named, want)
	if err != nil {
		return nil, err
	}
	digest, err := d.ask(ctx, want, named, who, found.id)
	if refused, ok := errors.AsType[*driver.PullError](err); ok {
		if d.images.fellSilent(want.Name) {
			d.log.Warn("cannot find out whether the image's name means another one by now; it stays in use",
				slog.String("image", want.Name), slog.Int("status", refused.Status), slog.String("error", refused.Message))
		}
		if d.private.holds(found) && !d.access.holds(grant{want.Tenant, who.digest, named.String()}) {
			return nil, err
		}
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	d.images.answered(want.Name)
	if found.hasDigest(named, digest) {
		return found, nil
	}
	return d.fetch(ctx, want)
}

// movable reports whether the image's name may come to mean another one in the
// registry that the image came from under it.
func (i *localImage) movable(named reference.Named) bool {
	if named == nil {
		return false
	}
	_, fixed := named.(reference.Digested)
	return !fixed && i.digestFor(named) != ""
}

// hasDigest reports whether a registry knows the image by that digest, under the
// name's repository. It may know it by several.
func (i *localImage) hasDigest(named reference.Named, digest string) bool {
	for _, own := range i.digests {
		if own.Name() == named.Name() && own.Digest().String() == digest {
			return true
		}
	}
	return false
}

// fellSilent notes that a name's registry does not say what the name means, and
// reports whether that is new.
func (i *images) fellSilent(name string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, known := i.silent[name]; known {
		return false
	}
	if i.silent == nil || len(i.silent) >= maxSilent {
		i.silent = map[string]struct{}{}
	}
	i.silent[name] = struct{}{}
	return true
}

// answered notes the opposite.
func (i *images) answered(name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.silent, name)
}
