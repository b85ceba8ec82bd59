package docker

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/containerd/errdefs"

	"github.com/tinefn/tine/driver"
)

// EnsureImage looks for the image on the engine and lets it pull the image if
// it is not there. The work goes on when the caller leaves; others may want it.
func (d *Driver) EnsureImage(ctx context.Context, want driver.ImageRequest) (driver.Image, error) {
	return d.access.Ensure(ctx, want, func() (driver.Image, error) {
		if !d.begin() {
			return driver.Image{}, errClosed
		}
		defer d.wg.Done()
		return d.ensure(d.background, want)
	})
}

func (d *Driver) ensure(ctx context.Context, want driver.ImageRequest) (driver.Image, error) {
	d.cleaner.hold(ctx, want.Name)
	defer d.cleaner.release(want.Name)
	found, err := d.lookUp(ctx, want.Name)
	switch {
	case err != nil:
	case found == nil:
		found, err = d.fetch(ctx, want)
	case want.Refresh:
		var moved bool
		if moved, err = d.access.Moved(ctx, want, found.Image); moved {
			found, err = d.fetch(ctx, want)
		}
	default:
		err = d.access.Authorize(ctx, want, found.Image)
	}
	if err != nil {
		return driver.Image{}, err
	}
	if found.volumes && !d.opts.EnableVolumes {
		return driver.Image{}, fmt.Errorf("image %s: %w", want.Name, driver.ErrImageVolume)
	}
	return driver.Image{ID: found.ID, Digest: found.DigestFor(found.NameFor(want.Name))}, nil
}

// fetch pulls an image and says what came.
func (d *Driver) fetch(ctx context.Context, want driver.ImageRequest) (*localImage, error) {
	began := time.Now()
	pulled, err := d.access.Pull(ctx, want)
	if err != nil {
		return nil, err
	}
	d.cleaner.wake()
	found, err := d.lookUp(ctx, want.Name)
	switch {
	case err != nil:
		return nil, err
	case found == nil:
		return nil, &driver.PullError{Image: want.Name, Status: http.StatusNotFound, Message: "the image is not there after a successful pull"}
	}
	if err := pulled.Confirm(found.ID); err != nil {
		return nil, err
	}
	d.log.Info("image pulled", slog.String("image", want.Name), slog.Duration("took", time.Since(began)),
		slog.Int64("bytes", found.size), slog.String("id", found.ID), slog.String("digest", found.DigestFor(pulled.Named)))
	return found, nil
}

// lookUp looks for the image on the engine; nil means that it is not there.
func (d *Driver) lookUp(ctx context.Context, name string) (*localImage, error) {
	callCtx, cancel := d.deadline(ctx)
	defer cancel()
	info, err := d.engine.ImageInspect(callCtx, name)
	if errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) { // an invalid name is the pull's to explain
		return nil, nil
	}
	if err != nil {
		return nil, failure(callCtx, "look for image "+name, err)
	}
	d.cleaner.touch(ctx, info.ID)
	return newLocalImage(info.InspectResponse), nil
}
