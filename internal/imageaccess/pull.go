package imageaccess

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/distribution/reference"

	"github.com/tinefn/tine/driver"
)

// A pull that failed for a passing reason is tried again after a random part of
// a pause that doubles, so that many nodes do not come back at once.
const (
	firstPullPause = 250 * time.Millisecond
	lastPullPause  = 5 * time.Second
)

// ErrPullTimeout is the cause with which the pull's deadline ends it.
var ErrPullTimeout = fmt.Errorf("the pull takes too long: %w", context.DeadlineExceeded)

// Pulled is what is known of an image that was pulled, before the driver has looked
// what came.
type Pulled struct {
	Named reference.Named // what was pulled, with its tag or digest

	access *Access
	want   driver.ImageRequest
	who    Puller
}

// Pull pulls an image as the request says. Requests for the same image with the
// same credentials share a pull, so ctx must be one that no single request ends.
// The driver looks then what came, and says so by [Pulled.Confirm]; before that
// nobody may use it.
//
// Errors: a *driver.PullError, driver.ErrUnavailable, the context's cause.
func (a *Access) Pull(ctx context.Context, want driver.ImageRequest) (*Pulled, error) {
	named, err := reference.ParseNormalizedNamed(want.Name)
	if err != nil {
		return nil, &driver.PullError{Image: want.Name, Status: http.StatusBadRequest, Message: err.Error()}
	}
	named = reference.TagNameOnly(named)
	who, err := a.identify(named, want)
	if err != nil {
		return nil, err
	}
	// On disk before the image can be on the machine, whatever happens in between.
	if who.own() {
		if err := a.private.addRepo(named.Name()); err != nil {
			return nil, &driver.PullError{Image: want.Name, Message: err.Error()}
		}
	}
	_, err, _ = a.pulls.Do(named.String()+" "+string(who.digest[:]), func() (any, error) {
		return nil, a.pull(ctx, want.Name, named, who)
	})
	if err != nil {
		return nil, err
	}
	return &Pulled{named, a, want, who}, nil
}

// Confirm notes which image came: that it is private, if it is, and that the
// tenant may use it.
func (p *Pulled) Confirm(id string) error {
	if p.who.own() {
		if err := p.access.private.addImage(id); err != nil {
			return &driver.PullError{Image: p.want.Name, Message: err.Error()}
		}
	}
	p.access.grants.add(p.want.Tenant, p.who, p.Named, id)
	return nil
}

// pull lets the driver fetch the image, and tries that again as often as the
// options say.
func (a *Access) pull(ctx context.Context, image string, named reference.Named, who Puller) error {
	ctx, cancel := context.WithTimeoutCause(ctx, a.opts.PullTimeout, ErrPullTimeout)
	defer cancel()
	log := a.log.With(slog.String("image", image))
	log.Info("pulling image", slog.String("credentials", who.source.String()))
	for attempt := 0; ; attempt++ {
		err := a.opts.Registry.Pull(ctx, image, named, who, log)
		if err == nil {
			return nil
		}
		refusal := a.opts.Registry.Refusal(err)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("pull image %s: %w", image, context.Cause(ctx))
		case refusal.Lost:
			return fmt.Errorf("pull image %s: %w: %w", image, driver.ErrUnavailable, err)
		case errors.Is(driver.Exhausted(err), driver.ErrExhausted): // a full disk is no fault of the image
			return fmt.Errorf("pull image %s: %w", image, driver.Exhausted(err))
		case attempt < a.opts.PullRetries && refusal.Passing:
			pause := rand.N(pullPause(attempt))
			log.Warn("pull failed and is tried again", slog.Any("error", err), slog.Int("attempt", attempt+1), slog.Duration("retry_in", pause))
			a.opts.Retried()
			select {
			case <-time.After(pause):
				continue
			case <-ctx.Done():
			}
			if cause := context.Cause(ctx); !errors.Is(cause, ErrPullTimeout) {
				return fmt.Errorf("pull image %s: %w", image, cause)
			}
		}
		return a.pullRefused(named, image, who, refusal, err)
	}
}

// pullPause is the longest pause after an attempt, which count from 0.
func pullPause(attempt int) time.Duration {
	if attempt > 10 { // beyond all doubt
		return lastPullPause
	}
	return min(firstPullPause<<attempt, lastPullPause)
}

// pullRefused says why an image cannot be had.
func (a *Access) pullRefused(named reference.Named, image string, who Puller, refusal Refusal, err error) error {
	attrs := []any{slog.String("image", image), slog.String("registry", reference.Domain(named)), slog.Any("error", err)}
	if refusal.Status == http.StatusUnauthorized || refusal.Status == http.StatusForbidden {
		attrs = append(attrs, slog.String("hint", authHints[who.source]))
	}
	a.log.Warn("image cannot be pulled", attrs...)
	return &driver.PullError{Image: image, Status: refusal.Status, Message: refusal.Message}
}

// authHints say what to do about a refusal, by what the registry was told.
var authHints = map[source]string{
	sourceNone:  "there are no credentials for this registry: set FN_DOCKER_AUTH, or run docker login as the server's user",
	sourceNode:  "the registry does not accept the credentials that FN_DOCKER_AUTH or Docker's config.json has for it",
	sourceApp:   "the registry does not accept the credentials in the app's file in FN_APP_DOCKER_AUTH_DIR",
	sourceToken: "the registry does not accept the token that came with a call",
}
