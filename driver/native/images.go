//go:build linux

package native

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/image"
	"github.com/tinefn/tine/internal/imageaccess"
)

// EnsureImage looks for the image in the store and pulls it if it is not there. The
// work goes on when the caller leaves; others may want it.
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
	found, err := d.images.Get(want.Name)
	switch isOwn := d.images.Own(want.Name); { // nobody else has such an image, and it is for all apps
	case isOwn && errors.Is(err, image.ErrNotFound):
		return driver.Image{}, &driver.PullError{
			Image: want.Name, Status: http.StatusNotFound,
			Message: "this server's own registry does not have it: push it there, for example with docker push " + want.Name,
		}
	case isOwn:
	case errors.Is(err, image.ErrNotFound), errors.Is(err, image.ErrInvalid): // an invalid name is the pull's to explain
		found, err = d.obtain(ctx, want)
	case err != nil:
	case want.Refresh:
		found, err = d.refresh(ctx, want, found)
	default:
		err = d.access.Authorize(ctx, want, known(found))
	}
	if err != nil {
		return driver.Image{}, err
	}
	lease, err := d.images.Acquire(found.ID.String())
	if err != nil {
		return driver.Image{}, err
	}
	defer lease.Release()
	if len(lease.Config.Config.Volumes) > 0 && !d.opts.EnableVolumes {
		return driver.Image{}, fmt.Errorf("image %s: %w", want.Name, driver.ErrImageVolume)
	}
	return driver.Image{ID: found.ID.String(), Digest: found.Manifest.String()}, nil
}

// known is what decides who may use an image of the store.
func known(found image.Image) *imageaccess.Image {
	var tags, digests []string
	for _, name := range found.Names {
		repository, _, fixed := strings.Cut(name, "@")
		if !fixed {
			tags = append(tags, name)
			continue
		}
		// Of an index, the registry knows the part for this machine by itself too.
		digests = append(digests, name, repository+"@"+found.Manifest.String())
	}
	return imageaccess.NewImage(found.ID.String(), tags, digests)
}

// obtain gets an image that the store lacks.
func (d *Driver) obtain(ctx context.Context, want driver.ImageRequest) (image.Image, error) {
	found, err := d.takeOver(ctx, want.Name)
	if errors.Is(err, image.ErrNotFound) {
		return d.fetch(ctx, want)
	}
	if err == nil {
		err = d.access.Authorize(ctx, want, known(found))
	}
	return found, err
}

// takeOver takes an image from a Docker engine that has it. One that is private is
// left there: the store would not know which registry it is from, and those who may
// use it can pull it.
func (d *Driver) takeOver(ctx context.Context, name string) (image.Image, error) {
	if d.opts.Engine == nil {
		return image.Image{}, image.ErrNotFound
	}
	callCtx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	there, err := d.opts.Engine.ImageInspect(callCtx, name)
	if err != nil {
		return image.Image{}, image.ErrNotFound // or there is no engine
	}
	if d.access.IsPrivate(imageaccess.NewImage(there.ID, there.RepoTags, there.RepoDigests)) {
		return image.Image{}, image.ErrNotFound
	}
	if known, err := d.images.Get(name); err == nil && known.ID.String() == there.ID {
		return known, nil
	}
	ctx, cancel = context.WithTimeoutCause(ctx, d.opts.PullTimeout, imageaccess.ErrPullTimeout)
	defer cancel()
	found, err := d.images.ImportFromEngine(ctx, d.opts.Engine, name)
	if err = driver.Exhausted(err); errors.Is(err, driver.ErrExhausted) {
		return image.Image{}, fmt.Errorf("take image %s over from the Docker engine: %w", name, err)
	}
	if err != nil {
		return image.Image{}, &driver.PullError{Image: name, Message: "it cannot be taken over from the Docker engine: " + err.Error()}
	}
	d.log.Info("image taken over from the Docker engine", slog.String("image", name), slog.String("id", found.ID.String()))
	return found, nil
}

// engineTimeout bounds a question to a Docker engine, of which nothing depends.
const engineTimeout = 5 * time.Second

// refresh finds out what an image's name means by now: in the Docker engine if the
// image is from there, or else in its registry. If neither says, the one that is
// there stays in use, for those who may use it.
func (d *Driver) refresh(ctx context.Context, want driver.ImageRequest, there image.Image) (image.Image, error) {
	found, err := d.takeOver(ctx, want.Name) // which costs nothing if it is the same
	switch {
	case err == nil:
		return found, d.access.Authorize(ctx, want, known(found))
	case !errors.Is(err, image.ErrNotFound):
		d.log.Debug("cannot find out whether the image's name means another one by now", slog.String("image", want.Name), slog.Any("error", err))
		return there, d.access.Authorize(ctx, want, known(there))
	}
	moved, err := d.access.Moved(ctx, want, known(there))
	if err != nil || !moved {
		return there, err
	}
	return d.fetch(ctx, want)
}

// fetch pulls an image and says what came.
func (d *Driver) fetch(ctx context.Context, want driver.ImageRequest) (image.Image, error) {
	began := time.Now()
	pulled, err := d.access.Pull(ctx, want)
	if err != nil {
		return image.Image{}, err
	}
	found, err := d.images.Get(want.Name)
	if err != nil {
		return image.Image{}, &driver.PullError{Image: want.Name, Message: "the image is not there after a successful pull: " + err.Error()}
	}
	if err := pulled.Confirm(found.ID.String()); err != nil {
		return image.Image{}, err
	}
	d.log.Info("image pulled", slog.String("image", want.Name), slog.Duration("took", time.Since(began)),
		slog.Int64("bytes", found.Bytes), slog.String("id", found.ID.String()), slog.String("digest", found.Target.String()))
	return found, nil
}
