package docker

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
)

// DefaultAccessTTL is how long it is believed that an app may use an image.
const DefaultAccessTTL = 10 * time.Minute

// maxGrants bounds what is remembered. All is forgotten when it is reached, and
// asked for again.
const maxGrants = 10_000

// access remembers who has shown lately that a registry gives it an image.
type access struct {
	ttl    time.Duration
	mu     sync.Mutex // guards grants
	grants map[grant]time.Time
}

// grant says that a tenant may use an image, which it showed with credentials of
// that digest for that name; or, with neither, the image of that identifier.
type grant struct {
	tenant      string
	credentials [sha256.Size]byte
	image       string
}

// grant notes that the registry gave a tenant an image.
func (a *access) grant(tenant string, who puller, named reference.Named, id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.grants == nil || len(a.grants) >= maxGrants {
		a.grants = map[grant]time.Time{}
	}
	until := time.Now().Add(a.ttl)
	a.grants[grant{tenant, who.digest, named.String()}] = until
	a.grants[grant{tenant: tenant, image: id}] = until
}

// holds reports whether that was granted lately.
func (a *access) holds(g grant) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Now().Before(a.grants[g])
}

// authorize makes sure that a tenant may use an image that is on the engine: one
// that was pulled with other credentials than the node's, which all tenants have,
// is only for those to whom the registry would give it.
func (d *Driver) authorize(ctx context.Context, want driver.ImageRequest, found *localImage) error {
	if !d.private.holds(found) {
		return nil
	}
	named := found.nameFor(want.Name)
	if named == nil { // no registry can be asked for an identifier
		if d.access.holds(grant{tenant: want.Tenant, image: found.id}) {
			return nil
		}
		d.log.Warn("private image is not given out by its identifier; use its name", slog.String("image", want.Name), slog.String("app_id", want.Tenant))
		return &driver.PullError{Image: want.Name, Status: http.StatusNotFound, Message: "no such image"}
	}
	who, err := d.identify(named, want)
	if err != nil {
		return err
	}
	if d.access.holds(grant{want.Tenant, who.digest, named.String()}) {
		return nil
	}
	_, err = d.ask(ctx, want, named, who, found.id)
	if refused, ok := errors.AsType[*driver.PullError](err); ok {
		d.log.Warn("app is not given a private image", slog.String("image", want.Name), slog.String("app_id", want.Tenant),
			slog.String("credentials", who.source.String()), slog.Int("status", refused.Status), slog.String("error", refused.Message))
	}
	return err
}

// errRegistrySilent is the cause with which the driver's deadline ends a question
// to a registry.
var errRegistrySilent = errors.New("the registry does not answer in time")

// ask asks the image's registry, by way of the engine, for the digest that the
// name stands for now. An answer shows that the tenant may use the image.
//
// Errors: a *driver.PullError whose status says why the registry refuses, or is
// another one than those of refuses if it cannot be asked; driver.ErrUnavailable;
// context errors.
func (d *Driver) ask(ctx context.Context, want driver.ImageRequest, named reference.Named, who puller, id string) (digest string, err error) {
	callCtx, cancel := context.WithTimeoutCause(ctx, d.opts.CallTimeout, errRegistrySilent)
	defer cancel()
	answer, err := d.engine.DistributionInspect(callCtx, named.String(), client.DistributionInspectOptions{EncodedRegistryAuth: who.auth})
	switch {
	case err == nil:
		d.access.grant(want.Tenant, who, named, id)
		return answer.Descriptor.Digest.String(), nil
	case ctx.Err() != nil:
		return "", fmt.Errorf("image %s: %w", want.Name, ended(ctx))
	case callCtx.Err() != nil:
		err = errRegistrySilent
	case engineLost(err):
		return "", fmt.Errorf("ask the registry of image %s: %w: %w", want.Name, driver.ErrUnavailable, err)
	}
	status := pullStatus(err)
	refused := &driver.PullError{Image: want.Name, Status: status, Message: message(err)}
	if !refuses(status) {
		refused.Message = "the registry cannot be asked for the image: " + refused.Message
	}
	return "", refused
}
