package docker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
)

// A pull that failed for a passing reason is tried again after a random part of
// a pause that doubles, so that many nodes do not come back at once.
const (
	firstPullPause = 250 * time.Millisecond
	lastPullPause  = 5 * time.Second
)

// errPullTimeout is the cause with which the pull's deadline ends it.
var errPullTimeout = fmt.Errorf("the pull takes too long: %w", context.DeadlineExceeded)

// pull lets the engine fetch the image, as whom the credentials for its registry
// name, and tries that again as often as the options say.
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
	log := d.log.With(slog.String("image", image))
	log.Info("pulling image", slog.Bool("with_credentials", auth != ""))
	for attempt := 0; ; attempt++ {
		err := d.pullOnce(ctx, image, auth, log)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("pull image %s: %w", image, context.Cause(ctx))
		case engineLost(err):
			return fmt.Errorf("pull image %s: %w: %w", image, driver.ErrUnavailable, err)
		case attempt < d.opts.PullRetries && passing(err):
			pause := rand.N(pullPause(attempt))
			log.Warn("pull failed and is tried again", slog.Any("error", err), slog.Int("attempt", attempt+1), slog.Duration("retry_in", pause))
			d.opts.Retried(pullAPI)
			if sleep(ctx, pause) {
				continue
			}
			if cause := context.Cause(ctx); !errors.Is(cause, errPullTimeout) {
				return fmt.Errorf("pull image %s: %w", image, cause)
			}
		}
		return d.pullRefused(named, image, auth, err)
	}
}

// pullPause is the longest pause after an attempt, which count from 0.
func pullPause(attempt int) time.Duration {
	if attempt > 10 { // beyond all doubt
		return lastPullPause
	}
	return min(firstPullPause<<attempt, lastPullPause)
}

// sleep waits; false means that ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// pullAPI is Fn's name for a pull.
const pullAPI = "docker_pull_image"

func (d *Driver) pullOnce(ctx context.Context, image, auth string, log *slog.Logger) error {
	began := time.Now()
	report, err := d.engine.ImagePull(ctx, image, client.ImagePullOptions{RegistryAuth: auth})
	if err == nil {
		err = follow(ctx, report.JSONMessages(ctx), log)
	}
	d.opts.Observe(pullAPI, time.Since(began), err)
	return err
}

// pullRefused says why an image cannot be had.
func (d *Driver) pullRefused(named reference.Named, image, auth string, err error) error {
	refused := &driver.PullError{Image: image, Status: pullStatus(err), Message: message(err)}
	hint := ""
	if refused.Status == http.StatusUnauthorized || refused.Status == http.StatusForbidden {
		hint = "the registry does not accept the credentials that FN_DOCKER_AUTH or Docker's config.json has for it"
		if auth == "" {
			hint = "there are no credentials for this registry: set FN_DOCKER_AUTH, or run docker login as the server's user"
		}
	}
	d.log.Warn("image cannot be pulled", slog.String("image", image), slog.String("registry", reference.Domain(named)),
		slog.Int("status", refused.Status), slog.String("hint", hint), slog.Any("error", err))
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
