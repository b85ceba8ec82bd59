//go:build linux

package native

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/image"
)

// ensuring is the work on one image. All who wait for it get its error.
type ensuring struct {
	done  chan struct{} // closed when the rest is set
	image driver.Image
	err   error
}

// EnsureImage looks for the image in the store and pulls it if it is not there. The
// work goes on when the caller leaves; others may want it.
func (d *Driver) EnsureImage(ctx context.Context, want driver.ImageRequest) (driver.Image, error) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return driver.Image{}, errClosed
	}
	work, ok := d.pulls[want]
	if !ok {
		work = &ensuring{done: make(chan struct{})}
		d.pulls[want] = work
		d.wg.Go(func() {
			work.image, work.err = d.ensure(d.background, want)
			d.mu.Lock()
			delete(d.pulls, want)
			d.mu.Unlock()
			close(work.done)
		})
	}
	d.mu.Unlock()
	select {
	case <-work.done:
		return work.image, work.err
	case <-ctx.Done():
		return driver.Image{}, fmt.Errorf("image %s: %w", want.Name, ctx.Err())
	}
}

func (d *Driver) ensure(ctx context.Context, want driver.ImageRequest) (driver.Image, error) {
	if want.Token != "" {
		return driver.Image{}, &driver.PullError{Image: want.Name, Status: http.StatusBadRequest, Message: "the native driver takes no registry token of a call yet"}
	}
	found, err := d.images.Get(want.Name)
	switch {
	case errors.Is(err, image.ErrNotFound):
		if found, err = d.takeOver(ctx, want.Name); errors.Is(err, image.ErrNotFound) {
			found, err = d.pull(ctx, want.Name)
		}
	case err == nil && want.Refresh:
		found = d.refresh(ctx, want.Name, found)
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

// takeOver takes an image from a Docker engine that has it.
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
	if known, err := d.images.Get(name); err == nil && known.ID.String() == there.ID {
		return known, nil
	}
	ctx, cancel = context.WithTimeoutCause(ctx, d.opts.PullTimeout, errPullTimeout)
	defer cancel()
	found, err := d.images.ImportFromEngine(ctx, d.opts.Engine, name)
	if err != nil {
		return image.Image{}, &driver.PullError{Image: name, Message: "it cannot be taken over from the Docker engine: " + err.Error()}
	}
	d.log.Info("image taken over from the Docker engine", slog.String("image", name), slog.String("id", found.ID.String()))
	return found, nil
}

// engineTimeout bounds a question to a Docker engine, of which nothing depends.
const engineTimeout = 5 * time.Second

// refresh finds out what an image's name means by now: in the Docker engine if the
// image is from there, or else in its registry. If neither says, the known one stays
// in use.
func (d *Driver) refresh(ctx context.Context, name string, known image.Image) image.Image {
	ctx, cancel := context.WithTimeout(ctx, d.opts.PullTimeout)
	defer cancel()
	found, err := d.takeOver(ctx, name) // which costs nothing if it is the same
	if errors.Is(err, image.ErrNotFound) {
		found, err = d.images.Pull(ctx, name, image.PullOptions{Keychain: d.opts.Keychain})
	}
	if err != nil {
		d.log.Debug("cannot find out whether the image's name means another one by now", slog.String("image", name), slog.Any("error", err))
		return known
	}
	return found
}

// errPullTimeout is the cause with which the pull's deadline ends it.
var errPullTimeout = fmt.Errorf("the pull takes too long: %w", context.DeadlineExceeded)

func (d *Driver) pull(ctx context.Context, name string) (image.Image, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.opts.PullTimeout, errPullTimeout)
	defer cancel()
	began := time.Now()
	d.log.Info("pulling image", slog.String("image", name))
	pulled, err := d.images.Pull(ctx, name, image.PullOptions{Keychain: d.opts.Keychain})
	switch {
	case err == nil:
		d.log.Info("image pulled", slog.String("image", name), slog.Duration("took", time.Since(began)), slog.Int64("bytes", pulled.Bytes), slog.String("id", pulled.ID.String()))
		return pulled, nil
	case ctx.Err() != nil:
		return pulled, fmt.Errorf("pull image %s: %w", name, context.Cause(ctx))
	}
	status := 0
	if refused, ok := errors.AsType[*transport.Error](err); ok && refused.StatusCode < http.StatusInternalServerError {
		status = refused.StatusCode
	}
	if errors.Is(err, image.ErrInvalid) {
		status = http.StatusBadRequest
	}
	d.log.Warn("image cannot be pulled", slog.String("image", name), slog.Any("error", err))
	return pulled, &driver.PullError{Image: name, Status: status, Message: err.Error()}
}
