package docker

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"golang.org/x/sync/singleflight"

	"github.com/tinefn/tine/driver"
)

// images shares the work of concurrent requests for one image.
type images struct {
	mu     sync.Mutex // guards the rest
	under  map[driver.ImageRequest]*ensuring
	silent map[string]struct{} // names whose registry does not say what they mean

	pulls singleflight.Group // of requests for the same image with the same credentials
}

// ensuring is the work on one image. All who wait for it get its error.
type ensuring struct {
	done  chan struct{} // closed when the rest is set
	image driver.Image
	err   error
}

// EnsureImage looks for the image on the engine and lets it pull the image if
// it is not there. The work goes on when the caller leaves; others may want it.
func (d *Driver) EnsureImage(ctx context.Context, want driver.ImageRequest) (driver.Image, error) {
	d.images.mu.Lock()
	work, ok := d.images.under[want]
	if !ok {
		if !d.begin() {
			d.images.mu.Unlock()
			return driver.Image{}, errClosed
		}
		work = &ensuring{done: make(chan struct{})}
		if d.images.under == nil {
			d.images.under = map[driver.ImageRequest]*ensuring{}
		}
		d.images.under[want] = work
		go func() { // Close waits for it through begin
			defer d.wg.Done()
			work.image, work.err = d.ensure(d.background, want)
			d.images.mu.Lock()
			delete(d.images.under, want)
			d.images.mu.Unlock()
			close(work.done)
		}()
	}
	d.images.mu.Unlock()
	select {
	case <-work.done:
		return work.image, work.err
	case <-ctx.Done():
		return driver.Image{}, fmt.Errorf("image %s: %w", want.Name, ended(ctx))
	}
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
		found, err = d.refresh(ctx, want, found)
	default:
		err = d.authorize(ctx, want, found)
	}
	if err != nil {
		return driver.Image{}, err
	}
	if found.volumes && !d.opts.EnableVolumes {
		return driver.Image{}, fmt.Errorf("image %s: %w", want.Name, driver.ErrImageVolume)
	}
	return driver.Image{ID: found.id, Digest: found.digestFor(found.nameFor(want.Name))}, nil
}

// fetch pulls an image and says what came.
func (d *Driver) fetch(ctx context.Context, want driver.ImageRequest) (*localImage, error) {
	named, err := reference.ParseNormalizedNamed(want.Name)
	if err != nil {
		return nil, &driver.PullError{Image: want.Name, Status: http.StatusBadRequest, Message: err.Error()}
	}
	named = reference.TagNameOnly(named)
	who, err := d.identify(named, want)
	if err != nil {
		return nil, err
	}
	// On disk before the image can be on the engine, whatever happens in between.
	if who.own() {
		if err := d.private.addRepo(named.Name()); err != nil {
			return nil, &driver.PullError{Image: want.Name, Message: err.Error()}
		}
	}
	began := time.Now()
	_, err, _ = d.images.pulls.Do(named.String()+" "+string(who.digest[:]), func() (any, error) {
		return nil, d.pull(ctx, want.Name, named, who) // ctx is the driver's, so nobody's leaving ends it for others
	})
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
	if who.own() {
		if err := d.private.addImage(found.id); err != nil {
			return nil, &driver.PullError{Image: want.Name, Message: err.Error()}
		}
	}
	d.access.grant(want.Tenant, who, named, found.id)
	d.log.Info("image pulled", slog.String("image", want.Name), slog.Duration("took", time.Since(began)),
		slog.Int64("bytes", found.size), slog.String("id", found.id), slog.String("digest", found.digestFor(named)))
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
