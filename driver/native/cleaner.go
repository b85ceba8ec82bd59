//go:build linux

package native

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/image"
)

// Limits of the cleaner.
const (
	cleanInterval = time.Minute // between looks, when no image was stored
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
	woken  chan struct{} // has room for one

	warned bool // that nothing is left to remove; of the goroutine of run

	mu    sync.Mutex // guards stats
	stats driver.ImageStats
}

func newCleaner(d *Driver) (*cleaner, error) {
	for _, name := range d.opts.ExemptImages {
		if !image.IsReference(name) {
			return nil, fmt.Errorf("%q in FN_IMAGE_CLEAN_EXEMPT_TAGS is no image, correct it to a form like repository:tag", name)
		}
	}
	return &cleaner{
		driver: d, max: d.opts.MaxImageBytes, exempt: d.opts.ExemptImages, woken: make(chan struct{}, 1),
		stats: driver.ImageStats{MaxBytes: d.opts.MaxImageBytes},
	}, nil
}

// ImageStats is what the cleaner found when it last looked.
func (d *Driver) ImageStats() driver.ImageStats {
	d.cleaner.mu.Lock()
	defer d.cleaner.mu.Unlock()
	return d.cleaner.stats
}

// wake makes the cleaner look at once. It is for whoever has stored an image.
func (c *cleaner) wake() {
	select {
	case c.woken <- struct{}{}:
	default: // it will look anyway
	}
}

// run cleans until ctx ends.
func (c *cleaner) run(ctx context.Context) {
	ticker := time.NewTicker(cleanInterval)
	defer ticker.Stop()
	for {
		if err := c.clean(ctx); err != nil && ctx.Err() == nil {
			c.driver.log.Warn("cannot clean up images, trying again later", slog.Any("error", err))
		}
		select {
		case <-c.woken:
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (c *cleaner) clean(ctx context.Context) error {
	most := c.max
	if most <= 0 {
		most = math.MaxInt64
	}
	done, err := c.collect(ctx, image.CollectOptions{MaxBytes: most}, "images take more than FN_IMAGE_CLEAN_MAX_SIZE")
	if err != nil {
		return err
	}
	full := done.Left > most
	if full && !c.warned {
		c.driver.log.Warn("images take more than FN_IMAGE_CLEAN_MAX_SIZE, and none can be removed: set it higher, or remove images from the registry that are not needed",
			slog.Int64("bytes", done.Left), slog.Int64("max_bytes", most))
	}
	c.warned = full
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
		c.mu.Lock()
		defer c.mu.Unlock()
		c.stats = driver.ImageStats{
			Busy: done.Busy, Idle: done.Idle, BusyBytes: done.BusyBytes, IdleBytes: done.Left - done.BusyBytes, MaxBytes: c.max,
		}
	}
	return done, err
}
