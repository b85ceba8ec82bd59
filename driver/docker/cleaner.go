package docker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/imageclean"
)

// Limits of the cleaner. Source: those of one removal are Fn's.
const (
	imageRemovePause   = 500 * time.Millisecond // between removals: they load the engine's disk
	imageRemoveTimeout = time.Minute            // for one image

	// sumAfter is how often in a row the engine may fail to tell what layers
	// images share until they are counted for each of them. It fails while it
	// does so for somebody else.
	sumAfter = 3
)

// cleaner removes images that were not used for long when all together take
// more than the maximum. A nil cleaner, which there is if it is off, does
// nothing.
//
// What is in use stays: images of containers on the engine, running or not,
// and what this driver looks for, pulls or makes a container of. The engine
// itself refuses to remove images of containers, as nothing is forced.
type cleaner struct {
	driver *Driver
	max    int64 // bytes
	exempt exemptions
	only   func(names []string) bool // for tests: what is not meant is exempt; nil: none
	used   usage
	rounds *imageclean.Rounds

	failures int // in a row, see sumAfter; of the goroutine that cleans
}

// newCleaner returns nil if images may take what they like.
func newCleaner(d *Driver) (*cleaner, error) {
	if d.opts.MaxImageBytes <= 0 {
		return nil, nil
	}
	exempt, err := parseExemptions(d.opts.ExemptImages)
	if err != nil {
		return nil, err
	}
	return &cleaner{
		driver: d, max: d.opts.MaxImageBytes, exempt: exempt, only: d.opts.cleanOnly,
		rounds: imageclean.New(d.log, d.opts.MaxImageBytes, "see what containers there are"),
	}, nil
}

// ImageStats is what the cleaner found when it last looked. It is all zero if
// Options.MaxImageBytes is.
func (d *Driver) ImageStats() ImageStats {
	if d.cleaner == nil {
		return ImageStats{}
	}
	return d.cleaner.rounds.Stats()
}

// hold keeps an image until release; see usage.
func (c *cleaner) hold(ctx context.Context, image string) {
	if c != nil {
		c.used.hold(ctx, image)
	}
}

func (c *cleaner) release(image string) {
	if c != nil {
		c.used.release(image)
	}
}

// touch takes note that an image was asked for. Its name may be one that the
// cleaner does not know it by: the beginning of its identifier.
func (c *cleaner) touch(ctx context.Context, id string) {
	c.hold(ctx, id)
	c.release(id)
}

// wake makes the cleaner look at once. It is for whoever has pulled an image.
func (c *cleaner) wake() {
	if c != nil {
		c.rounds.Wake()
	}
}

// clean removes images until the rest fits, or nothing is left that may go. No
// image is tried twice. An error means that the engine does not say what there
// is, or does not answer.
func (c *cleaner) clean(ctx context.Context) error {
	tried := map[string]bool{}
	for {
		now, err := c.look(ctx, tried)
		if err != nil {
			return err
		}
		c.rounds.Found(now.stats(c.max))
		victims := now.victims(c.max)
		if len(victims) == 0 {
			c.rounds.Left(now.bytes())
			return nil
		}
		for _, victim := range victims {
			tried[victim.id] = true
			switch err := c.evict(ctx, victim); {
			case errors.Is(err, driver.ErrUnavailable):
				return err
			case err != nil && ctx.Err() == nil:
				c.driver.log.Warn("cannot remove an image, trying again later", slog.String("image_id", victim.id), slog.Any("error", err))
				c.used.putBack(victim.id)
			}
			if !sleep(c.driver.background, imageRemovePause) {
				return nil
			}
		}
	}
}

// look lists the engine's images. What they share is computed only if it
// matters: for that, engines before API 1.42 also measure all volumes.
func (c *cleaner) look(ctx context.Context, tried map[string]bool) (inventory, error) {
	now := time.Now() // who holds an image from here on is newer than the lists
	containers, err := c.containerImages(ctx)
	if err != nil {
		return inventory{}, err
	}
	callCtx, cancel := c.driver.deadline(ctx)
	defer cancel()
	list, err := c.driver.engine.ImageList(callCtx, client.ImageListOptions{})
	if err != nil {
		return inventory{}, failure(callCtx, "list images", err)
	}
	found := inventory{images: c.judge(list.Items, containers, tried, now), total: -1}
	if found.bytes() <= c.max {
		return found, nil
	}
	callCtx, cancel = c.driver.deadline(ctx)
	defer cancel()
	disk, err := c.driver.engine.DiskUsage(callCtx, client.DiskUsageOptions{Images: true, Verbose: true})
	if err == nil {
		c.failures = 0
		return inventory{images: c.judge(disk.Images.Items, containers, tried, now), total: disk.Images.TotalSize}, nil
	}
	if c.failures++; c.failures < sumAfter || ctx.Err() != nil {
		return inventory{}, failure(callCtx, "find out what layers images share", err)
	}
	return found, nil
}

// containerImages returns the identifiers of the images of all containers.
func (c *cleaner) containerImages(ctx context.Context) (map[string]bool, error) {
	callCtx, cancel := c.driver.deadline(ctx)
	defer cancel()
	list, err := c.driver.engine.ContainerList(callCtx, client.ContainerListOptions{All: true})
	if err != nil {
		return nil, failure(callCtx, "list containers, whose images are in use", err)
	}
	images := map[string]bool{}
	for _, container := range list.Items {
		images[container.ImageID] = true
	}
	return images, nil
}

// judge finds out which of the listed images may go.
func (c *cleaner) judge(list []image.Summary, containers, tried map[string]bool, now time.Time) []storedImage {
	listed := map[string]struct{}{}
	images := make([]storedImage, 0, len(list))
	for _, summary := range list {
		tags, digests := realNames(summary.RepoTags), realNames(summary.RepoDigests)
		known := storedImage{
			id: summary.ID, keys: imageKeys(summary.ID, tags, digests), tags: len(tags), spared: tried[summary.ID],
			created: summary.Created, size: max(0, summary.Size), shared: min(max(0, summary.SharedSize), max(0, summary.Size)),
		}
		known.exempt = c.isExempt(known.keys, tags)
		known.inUse, known.last = c.used.see(known.keys, now, containers[summary.ID] || summary.Containers > 0)
		for _, key := range known.keys {
			listed[key] = struct{}{}
		}
		images = append(images, known)
	}
	c.used.retain(listed, now)
	return images
}

func (c *cleaner) isExempt(keys, tags []string) bool {
	return c.exempt.contain(keys) || c.only != nil && !c.only(tags)
}

// evict removes an image unless somebody came to use it.
func (c *cleaner) evict(ctx context.Context, victim storedImage) error {
	ctx, cancel := context.WithTimeoutCause(ctx, imageRemoveTimeout, errNoAnswer)
	defer cancel()
	info, err := c.driver.engine.ImageInspect(ctx, victim.id)
	tags, digests := realNames(info.RepoTags), realNames(info.RepoDigests)
	if err == nil {
		// Its names may be others than when it was listed.
		keys := imageKeys(victim.id, tags, digests)
		if c.isExempt(keys, tags) || !c.used.claim(keys) {
			return nil
		}
		defer c.used.unclaim(keys)
		err = c.driver.removeImage(ctx, victim.id, tags, digests)
	}
	switch {
	case errdefs.IsNotFound(err):
		return nil // somebody else was faster
	case err != nil:
		return failure(ctx, "remove image "+victim.id, err)
	}
	c.driver.log.Info("removed an image, as images take more than FN_IMAGE_CLEAN_MAX_SIZE", slog.String("image_id", victim.id),
		slog.Any("names", append(tags, digests...)), slog.Int64("bytes", victim.size), slog.Time("last_used", victim.last))
	return nil
}
