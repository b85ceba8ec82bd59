//go:build linux

package native

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/image"
	"github.com/tinefn/tine/internal/imageclean"
)

// Limits of the cleaner.
const (
	// useGrace is how long an image stays that was looked for and has no container
	// yet. It is more than the pool believes that an image is still there.
	useGrace = time.Minute
	// roomAtOnce is how many bytes are freed at least when the disk is full, so
	// that not each part of an image that is pulled meets a full disk.
	roomAtOnce = 256 << 20
)

// cleaner removes images that were not used for long when all together take more
// than the maximum, or when the disk is full. Without a maximum it only removes
// what belongs to no image, as pushes leave it that were given up.
//
// What is in use stays: images of containers, of launches, and those that no pull
// would bring back.
type cleaner struct {
	driver *Driver
	max    int64 // bytes; 0: no limit
	exempt []string
	rounds *imageclean.Rounds
}

func newCleaner(d *Driver) (*cleaner, error) {
	for _, name := range d.opts.ExemptImages {
		if !image.IsReference(name) {
			return nil, fmt.Errorf("%q in FN_IMAGE_CLEAN_EXEMPT_TAGS is no image, correct it to a form like repository:tag", name)
		}
	}
	return &cleaner{
		driver: d, max: d.opts.MaxImageBytes, exempt: d.opts.ExemptImages,
		rounds: imageclean.New(d.log, d.opts.MaxImageBytes, "remove images from the registry that are not needed"),
	}, nil
}

// ImageStats is what the cleaner found when it last looked.
func (d *Driver) ImageStats() driver.ImageStats { return d.cleaner.rounds.Stats() }

func (c *cleaner) clean(ctx context.Context) error {
	most := c.max
	if most <= 0 {
		most = math.MaxInt64
	}
	done, err := c.collect(ctx, image.CollectOptions{MaxBytes: most}, "images take more than FN_IMAGE_CLEAN_MAX_SIZE")
	if err != nil {
		return err
	}
	c.rounds.Left(done.Left)
	return nil
}

// makeRoom frees something on a full disk, if images may be removed at all.
func (c *cleaner) makeRoom(ctx context.Context) bool {
	done, err := c.collect(ctx, image.CollectOptions{MaxBytes: math.MaxInt64, Least: roomAtOnce}, "the disk is full")
	if err != nil {
		c.driver.log.Warn("cannot make room on a full disk", slog.String("directory", c.driver.images.Dir()), slog.Any("error", err))
	}
	return done.Freed > 0
}

func (c *cleaner) collect(ctx context.Context, opts image.CollectOptions, because string) (image.Collected, error) {
	opts.Exempt, opts.Spare, opts.KeepPushed = c.exempt, useGrace, true
	done, err := c.driver.images.Collect(ctx, opts)
	for _, gone := range done.Images {
		c.driver.log.Info("removed an image, as "+because, slog.String("image_id", gone.ID.String()), slog.Any("names", gone.Names),
			slog.Int64("bytes", gone.Bytes), slog.Time("last_used", gone.LastUse))
	}
	if err == nil {
		c.rounds.Found(driver.ImageStats{
			Busy: done.Busy, Idle: done.Idle, BusyBytes: done.BusyBytes, IdleBytes: done.Left - done.BusyBytes, MaxBytes: c.max,
		})
	}
	return done, err
}
