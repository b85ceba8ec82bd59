//go:build linux

package native

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/tinefn/tine/internal/imageaccess"
)

// preload imports the images in an archive. The deadline is that of a pull, as it
// may be as large.
func (d *Driver) preload(name string) error {
	ctx, cancel := context.WithTimeoutCause(d.background, d.opts.PullTimeout, imageaccess.ErrPullTimeout)
	defer cancel()
	archive, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("load images, FN_DOCKER_LOAD_FILE: %w", err)
	}
	defer func() { _ = archive.Close() }() // it was only read
	began := time.Now()
	images, err := d.images.Import(ctx, archive)
	if err != nil {
		return fmt.Errorf("load images of %s, FN_DOCKER_LOAD_FILE: %w", name, err)
	}
	var names []string
	for _, loaded := range images {
		names = append(names, loaded.Names...)
	}
	d.log.Info("loaded images", slog.String("file", name), slog.Any("images", names), slog.Duration("took", time.Since(began)))
	return nil
}
