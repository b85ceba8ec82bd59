package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/api/types/jsonstream"

	"github.com/tinefn/tine/internal/imageaccess"
)

// preload hands the images in an archive, as docker save writes it, to the
// engine. The deadline is that of a pull, as it may be as large.
func (d *Driver) preload(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d.opts.PullTimeout, imageaccess.ErrPullTimeout)
	defer cancel()
	archive, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("load images: %w", err)
	}
	defer func() { _ = archive.Close() }() // it was only read
	began := time.Now()
	names, err := d.load(ctx, archive)
	d.opts.Observe("docker_load_images", time.Since(began), err)
	if err != nil {
		return fmt.Errorf("load images of %s: %w", name, failure(ctx, "the engine", err))
	}
	d.log.Info("loaded images", slog.String("file", name), slog.Any("images", names), slog.Duration("took", time.Since(began)))
	return nil
}

// loadedPrefixes is what the engine begins its report of an image with. An
// image without a name is reported by its identifier.
var loadedPrefixes = []string{"Loaded image: ", "Loaded image ID: "}

// load returns the names of the images that the engine took from an archive.
func (d *Driver) load(ctx context.Context, archive io.Reader) (names []string, err error) {
	report, err := d.engine.ImageLoad(ctx, archive)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, report.Close()) }()
	for lines := json.NewDecoder(report); ; {
		var line jsonstream.Message
		switch err := lines.Decode(&line); {
		case errors.Is(err, io.EOF) && len(names) == 0:
			return nil, errors.New("there is no image in it; is it what docker save writes?")
		case errors.Is(err, io.EOF):
			return names, nil
		case err != nil:
			return nil, err
		case line.Error != nil:
			return nil, line.Error
		}
		for _, prefix := range loadedPrefixes {
			if name, found := strings.CutPrefix(line.Stream, prefix); found {
				names = append(names, strings.TrimSpace(name))
			}
		}
	}
}
