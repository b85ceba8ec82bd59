package docker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
)

// images shares the work of concurrent requests for one image.
type images struct {
	mu    sync.Mutex // guards under
	under map[driver.ImageRequest]*ensuring
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
	image, found, err := d.inspect(ctx, want.Name)
	if err != nil || found {
		return image, err
	}
	if err := d.pull(ctx, want.Name); err != nil {
		return driver.Image{}, err
	}
	d.cleaner.wake()
	image, found, err = d.inspect(ctx, want.Name)
	if err == nil && !found {
		err = &driver.PullError{Image: want.Name, Status: http.StatusNotFound, Message: "the image is not there after a successful pull"}
	}
	return image, err
}

// inspect looks for the image on the engine and refuses one with volumes.
func (d *Driver) inspect(ctx context.Context, name string) (image driver.Image, found bool, err error) {
	callCtx, cancel := d.deadline(ctx)
	defer cancel()
	info, err := d.engine.ImageInspect(callCtx, name)
	if errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) { // an invalid name is the pull's to explain
		return driver.Image{}, false, nil
	}
	if err != nil {
		return driver.Image{}, false, failure(callCtx, "look for image "+name, err)
	}
	if info.Config != nil && len(info.Config.Volumes) > 0 && !d.opts.EnableVolumes {
		return driver.Image{}, true, fmt.Errorf("image %s: %w", name, driver.ErrImageVolume)
	}
	d.cleaner.touch(ctx, info.ID)
	return driver.Image{ID: info.ID}, true, nil
}

// errPullTimeout is the cause with which the pull's deadline ends it.
var errPullTimeout = fmt.Errorf("the pull takes too long: %w", context.DeadlineExceeded)

// pull lets the engine fetch the image, as whom the credentials for its registry
// name.
func (d *Driver) pull(ctx context.Context, image string) error {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return &driver.PullError{Image: image, Status: http.StatusBadRequest, Message: err.Error()}
	}
	auth, err := d.authFor(named)
	if err != nil {
		return &driver.PullError{Image: image, Message: err.Error()}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, d.opts.PullTimeout, errPullTimeout)
	defer cancel()
	d.log.Info("pulling image", slog.String("image", image), slog.Bool("with_credentials", auth != ""))
	began := time.Now()
	progress, err := d.engine.ImagePull(ctx, image, client.ImagePullOptions{RegistryAuth: auth})
	if err == nil {
		err = progress.Wait(ctx)
	}
	d.opts.Observe("docker_pull_image", time.Since(began), err)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("pull image %s: %w", image, context.Cause(ctx))
	case lost(err):
		return fmt.Errorf("pull image %s: %w: %w", image, driver.ErrUnavailable, err)
	}
	refused := &driver.PullError{Image: image, Status: pullStatus(err), Message: message(err)}
	if refused.Status == http.StatusUnauthorized || refused.Status == http.StatusForbidden {
		hint := "the registry does not accept the credentials that FN_DOCKER_AUTH or Docker's config.json has for it"
		if auth == "" {
			hint = "there are no credentials for this registry: set FN_DOCKER_AUTH, or run docker login as the server's user"
		}
		d.log.Warn("the registry refuses the pull", slog.String("image", image), slog.String("registry", reference.Domain(named)), slog.String("hint", hint))
	}
	return refused
}

// authFor returns what the engine tells the image's registry about who pulls,
// "" for nobody in particular.
func (d *Driver) authFor(image reference.Named) (string, error) {
	known := d.auth
	if known == nil {
		if d.opts.ConfigDir == "" {
			return "", nil
		}
		var err error
		if known, err = loadCredentials(d.opts.ConfigDir); err != nil {
			return "", err
		}
	}
	auth, err := known.forImage(image)
	if err != nil || auth == (registry.AuthConfig{}) {
		return "", err
	}
	return authconfig.Encode(auth)
}

// pullStatus finds out the HTTP status of a refusal. Engines pass a
// registry's status on in some cases and hide it behind a 500, or a stream
// that began well, in others; then only the text is left.
func pullStatus(err error) int {
	if reported, ok := errors.AsType[*jsonstream.Error](err); ok && reported.Code/100 == 4 {
		return reported.Code
	}
	switch {
	case errdefs.IsNotFound(err):
		return http.StatusNotFound
	case errdefs.IsUnauthorized(err):
		return http.StatusUnauthorized
	case errdefs.IsPermissionDenied(err):
		return http.StatusForbidden
	case errdefs.IsResourceExhausted(err):
		return http.StatusTooManyRequests
	case errdefs.IsInvalidArgument(err):
		return http.StatusBadRequest
	}
	text := err.Error()
	for _, hint := range []struct {
		text   string
		status int
	}{
		{"pull access denied", http.StatusNotFound},
		{"manifest unknown", http.StatusNotFound},
		{"not found", http.StatusNotFound},
		{"unauthorized", http.StatusUnauthorized},
		{"no basic auth credentials", http.StatusUnauthorized},
	} {
		if strings.Contains(text, hint.text) {
			return hint.status
		}
	}
	return 0
}
