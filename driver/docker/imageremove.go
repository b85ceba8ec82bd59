package docker

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// removeImage removes an image with these names, unless a container or another
// image needs it. The engine's errors are returned as they are.
//
// By its identifier the engine removes an image only if it has one tag, as it
// is not forced; then it looks for containers first. So all but one are taken
// off before, and put on again if the rest is refused.
func (d *Driver) removeImage(ctx context.Context, id string, tags, digests []string) error {
	options := client.ImageRemoveOptions{PruneChildren: true} // that is its parents, if they have no name
	var taken []string
	for _, name := range surplusNames(tags, digests) {
		_, err := d.engine.ImageRemove(ctx, name, options)
		if err != nil && !errdefs.IsNotFound(err) { // a digest goes with the last tag of its repository
			d.tagAgain(ctx, id, taken)
			return err
		}
		taken = append(taken, name)
	}
	_, err := d.engine.ImageRemove(ctx, id, options)
	if err != nil && !errdefs.IsNotFound(err) {
		d.tagAgain(ctx, id, taken)
	}
	return err
}

// surplusNames returns all names but those that the engine removes with an
// image: one tag and the digests of its repository, or the digests of one.
func surplusNames(tags, digests []string) (surplus []string) {
	repository := func(name string) string {
		key, _, _ := strings.Cut(imageKey(name), "@")
		if colon := strings.LastIndexByte(key, ':'); colon > strings.LastIndexByte(key, '/') {
			key = key[:colon]
		}
		return key
	}
	var kept string
	switch {
	case len(tags) > 0:
		kept, surplus = repository(tags[len(tags)-1]), slices.Clone(tags[:len(tags)-1])
	case len(digests) > 0:
		kept = repository(digests[len(digests)-1])
	}
	for _, digest := range digests {
		if repository(digest) != kept {
			surplus = append(surplus, digest)
		}
	}
	return surplus
}

// tagAgain gives an image tags back that nobody else took meanwhile, if the
// engine answers. A digest cannot be given.
func (d *Driver) tagAgain(ctx context.Context, id string, names []string) {
	ctx, cancel := d.deadline(context.WithoutCancel(ctx))
	defer cancel()
	for _, name := range names {
		if strings.Contains(name, "@") {
			continue
		}
		_, err := d.engine.ImageInspect(ctx, name)
		if errdefs.IsNotFound(err) {
			_, err = d.engine.ImageTag(ctx, client.ImageTagOptions{Source: id, Target: name})
		}
		if err != nil {
			d.log.Warn("an image lost a name", slog.String("image_id", id), slog.String("image", name), slog.Any("error", err))
		}
	}
}
