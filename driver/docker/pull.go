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

// pull lets the engine fetch the image, and tries that again as often as the
// options say.
func (d *Driver) pull(ctx context.Context, image string, named reference.Named, who puller) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d.opts.PullTimeout, errPullTimeout)
	defer cancel()
	log := d.log.With(slog.String("image", image))
	log.Info("pulling image", slog.String("credentials", who.source.String()))
	for attempt := 0; ; attempt++ {
		err := d.pullOnce(ctx, image, who.auth, log)
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
		return d.pullRefused(named, image, who, err)
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
func (d *Driver) pullRefused(named reference.Named, image string, who puller, err error) error {
	refused := &driver.PullError{Image: image, Status: pullStatus(err), Message: message(err)}
	attrs := []any{slog.String("image", image), slog.String("registry", reference.Domain(named)), slog.Any("error", err)}
	if refused.Status == http.StatusUnauthorized || refused.Status == http.StatusForbidden {
		attrs = append(attrs, slog.String("hint", authHints[who.source]))
	}
	d.log.Warn("image cannot be pulled", attrs...)
	return refused
}

// authHints say what to do about a refusal, by what the registry was told.
var authHints = map[source]string{
	sourceNone:  "there are no credentials for this registry: set FN_DOCKER_AUTH, or run docker login as the server's user",
	sourceNode:  "the registry does not accept the credentials that FN_DOCKER_AUTH or Docker's config.json has for it",
	sourceApp:   "the registry does not accept the credentials in the app's file in FN_APP_DOCKER_AUTH_DIR",
	sourceToken: "the registry does not accept the token that came with a call",
}
