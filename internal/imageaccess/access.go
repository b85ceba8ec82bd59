// Package imageaccess decides as whom images are pulled, and which app may use an
// image that is on this machine already. Drivers tell it how they talk to
// registries ([Registry]) and what they have ([Image]).
//
// The node's credentials are every app's. What was pulled with an app's own, or a
// call's token, is private: it is noted on disk before the pull, and given to
// nobody but apps that have shown lately that a registry gives it to them. Whoever
// knows all digests of an image counts as somebody who has it: what is on the
// machine is not fetched again to find that out.
//
// Read access.go for who may use an image, puller.go for as whom a registry is
// asked, and pull.go for how.
package imageaccess

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/distribution/reference"
	"golang.org/x/sync/singleflight"

	"github.com/tinefn/tine/driver"
)

// Defaults of [Options].
const (
	DefaultTTL         = 10 * time.Minute
	DefaultAskTimeout  = 30 * time.Second
	DefaultPullTimeout = 10 * time.Minute
)

// Registry is how a driver talks to registries. Implementations are safe for
// concurrent use.
type Registry interface {
	// Digest asks the registry for the digest that a name stands for now.
	Digest(ctx context.Context, named reference.Named, who Puller) (string, error)

	// Pull tries once to get what the name stands for. The name as it was asked for
	// is for engines, which call the image so.
	Pull(ctx context.Context, asked string, named reference.Named, who Puller, log *slog.Logger) error

	// Refusal says what an error of the others means.
	Refusal(err error) Refusal
}

// Refusal is what can be made out of an error of a registry.
type Refusal struct {
	Status  int    // HTTP status of the registry's answer, 0: none can be made out
	Message string // what the registry said, or what became of asking it
	Passing bool   // it may be over soon, so that another attempt is worthwhile
	Lost    bool   // the engine that asks the registry was not reached itself
}

// Options configures an [Access]. Registry is needed.
type Options struct {
	Registry Registry

	// Auth, if set, is the text of a Docker config.json with credentials for
	// registries. Otherwise they are those of the config.json in ConfigDir, which
	// is read for each pull, if it is there; empty: none.
	Auth      []byte
	ConfigDir string

	// AppAuthDir, if set, is a directory of files <tenant>.json in the form of
	// config.json. They are read for each pull and come before the others; what
	// they do not name, those say.
	AppAuthDir string

	// StateDir is where the record of private images is kept, made when it is
	// needed. Several processes may share it. Empty: in memory only.
	StateDir string

	// TTL is how long it is believed that a tenant may use a private image, default
	// DefaultTTL; negative: not at all.
	TTL time.Duration

	AskTimeout  time.Duration // of one question to a registry, default DefaultAskTimeout
	PullTimeout time.Duration // of one image, retries included, default DefaultPullTimeout
	PullRetries int           // of a pull that failed for a passing reason; 0: none
	Retried     func()        // told of each retry; nil: nobody is

	Logger *slog.Logger // nil: no logs
}

// Access knows as whom images are pulled and who may use them. It is safe for
// concurrent use.
type Access struct {
	opts    Options
	log     *slog.Logger
	auth    *credentials // nil: those of Options.ConfigDir
	private *privateRecord
	grants  grants
	silent  silent
	ensures singleflight.Group // of equal requests
	pulls   singleflight.Group // of requests for the same image with the same credentials
}

// Open reads the credentials and the record. A damaged record is logged, and makes
// all images private that came from a registry.
func Open(opts Options) (*Access, error) {
	if opts.TTL == 0 {
		opts.TTL = DefaultTTL
	}
	if opts.AskTimeout <= 0 {
		opts.AskTimeout = DefaultAskTimeout
	}
	if opts.PullTimeout <= 0 {
		opts.PullTimeout = DefaultPullTimeout
	}
	if opts.Retried == nil {
		opts.Retried = func() {}
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Access{opts: opts, log: opts.Logger, grants: grants{ttl: opts.TTL}}
	if len(opts.Auth) > 0 {
		var err error
		if a.auth, err = parseCredentials(opts.Auth); err != nil {
			return nil, fmt.Errorf("credentials for registries: %w", err)
		}
	}
	if dir := opts.AppAuthDir; dir != "" { // a wrong one would look like no credentials
		if _, err := os.ReadDir(dir); err != nil {
			return nil, fmt.Errorf("credentials of apps, FN_APP_DOCKER_AUTH_DIR: %w", err)
		}
	}
	private, damage, err := openPrivateRecord(opts.StateDir)
	if err != nil {
		return nil, err
	}
	if a.private = private; damage != nil {
		a.log.Error("all images that came from a registry are private: each app must show that its registry gives them to it; remove the file to end this, if no app has credentials of its own",
			slog.Any("error", damage))
	}
	return a, nil
}

// Ensure does the work of a driver's EnsureImage, once for all equal requests that
// come meanwhile. It goes on when ctx ends, so it must not depend on it, and what
// the driver's Close waits for must count it.
func (a *Access) Ensure(ctx context.Context, want driver.ImageRequest, work func() (driver.Image, error)) (driver.Image, error) {
	done := a.ensures.DoChan(fmt.Sprintf("%#v", want), func() (any, error) { return work() }) // all of it: equal requests only
	select {
	case result := <-done:
		image, _ := result.Val.(driver.Image) // work returns nothing else
		return image, result.Err
	case <-ctx.Done():
		err := ctx.Err()
		if cause := context.Cause(ctx); !errors.Is(cause, err) {
			err = fmt.Errorf("%w: %w", err, cause)
		}
		return driver.Image{}, fmt.Errorf("image %s: %w", want.Name, err)
	}
}

// IsPrivate reports whether an image is only for some.
func (a *Access) IsPrivate(found *Image) bool { return a.private.holds(found) }

// Authorize makes sure that a tenant may use an image that is on the machine: a
// private one is only for those to whom the registry would give it.
//
// Errors: a *driver.PullError, driver.ErrUnavailable, the context's cause.
func (a *Access) Authorize(ctx context.Context, want driver.ImageRequest, found *Image) error {
	if !a.private.holds(found) {
		return nil
	}
	named := found.NameFor(want.Name)
	if named == nil { // no registry can be asked for an identifier
		if a.grants.holds(grant{tenant: want.Tenant, image: found.ID}) {
			return nil
		}
		a.log.Warn("private image is not given out by its identifier; use its name", slog.String("image", want.Name), slog.String("app_id", want.Tenant))
		return &driver.PullError{Image: want.Name, Status: http.StatusNotFound, Message: "no such image"}
	}
	who, err := a.identify(named, want)
	if err != nil {
		return err
	}
	if a.grants.holds(grant{want.Tenant, who.digest, named.String()}) {
		return nil
	}
	_, err = a.ask(ctx, want, named, who, found.ID)
	if refused, ok := errors.AsType[*driver.PullError](err); ok {
		a.log.Warn("app is not given a private image", slog.String("image", want.Name), slog.String("app_id", want.Tenant),
			slog.String("credentials", who.source.String()), slog.Int("status", refused.Status), slog.String("error", refused.Message))
	}
	return err
}

// errRegistrySilent is the cause with which the deadline of a question to a
// registry ends it.
var errRegistrySilent = errors.New("the registry does not answer in time")

// ask asks the image's registry for the digest that the name stands for now. An
// answer shows that the tenant may use the image.
//
// Errors: a *driver.PullError whose status says why the registry refuses, or is
// another one than those of refuses if it cannot be asked; driver.ErrUnavailable;
// the context's cause.
func (a *Access) ask(ctx context.Context, want driver.ImageRequest, named reference.Named, who Puller, id string) (digest string, err error) {
	callCtx, cancel := context.WithTimeoutCause(ctx, a.opts.AskTimeout, errRegistrySilent)
	defer cancel()
	digest, err = a.opts.Registry.Digest(callCtx, named, who)
	if err == nil {
		a.grants.add(want.Tenant, who, named, id)
		return digest, nil
	}
	refusal := a.opts.Registry.Refusal(err)
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("image %s: %w", want.Name, context.Cause(ctx))
	case callCtx.Err() != nil:
		refusal = Refusal{Message: errRegistrySilent.Error()}
	case refusal.Lost:
		return "", fmt.Errorf("ask the registry of image %s: %w: %w", want.Name, driver.ErrUnavailable, err)
	}
	if !refuses(refusal.Status) {
		refusal.Message = "the registry cannot be asked for the image: " + refusal.Message
	}
	return "", &driver.PullError{Image: want.Name, Status: refusal.Status, Message: refusal.Message}
}

// refuses reports whether a status says that the registry knows who asks and
// what for, and does not want to: it would say the same again.
func refuses(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return true
	}
	return false
}
