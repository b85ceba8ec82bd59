package imageaccess

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"regexp"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"

	"github.com/tinefn/tine/driver"
)

// source is where the credentials come from that a registry is told.
type source int

// The sources. Those of an app are a token that came with a call and what the
// app's own file says; all others are the node's, which every app may use.
const (
	sourceNone  source = iota // the node has none for the registry
	sourceNode                // FN_DOCKER_AUTH or config.json
	sourceApp                 // the app's file in FN_APP_DOCKER_AUTH_DIR
	sourceToken               // of a call
)

func (s source) String() string { return [...]string{"none", "node", "app", "call"}[s] }

// Puller is who a registry is told that asks.
type Puller struct {
	source source
	auth   registry.AuthConfig
	header string            // auth in the form of engines
	digest [sha256.Size]byte // of header
}

// Header is what an engine's request for a registry has in its header
// X-Registry-Auth: a secret; empty for nobody.
func (i Puller) Header() string { return i.header }

// Authenticator has the credentials for a client of registries.
func (i Puller) Authenticator() authn.Authenticator {
	if i.source == sourceNone {
		return authn.Anonymous
	}
	return authn.FromConfig(authn.AuthConfig{
		Username: i.auth.Username, Password: i.auth.Password, IdentityToken: i.auth.IdentityToken, RegistryToken: i.auth.RegistryToken,
	})
}

// own reports whether the credentials are one app's, so that others cannot be
// given what they give access to.
func (i Puller) own() bool { return i.source >= sourceApp }

// newPuller makes one of credentials; those that are empty are none.
func newPuller(auth registry.AuthConfig, from source) (Puller, error) {
	if auth == (registry.AuthConfig{}) {
		return Puller{}, nil
	}
	encoded, err := authconfig.Encode(auth)
	if err != nil {
		return Puller{}, err
	}
	return Puller{source: from, auth: auth, header: encoded, digest: sha256.Sum256([]byte(encoded))}, nil
}

// identify finds the credentials of a request for an image's registry: the
// call's token, what the app's file says, and what the node has, in this order.
func (a *Access) identify(named reference.Named, want driver.ImageRequest) (Puller, error) {
	who, err := a.lookUpPuller(named, want)
	if err != nil {
		return Puller{}, &driver.PullError{Image: want.Name, Message: err.Error()}
	}
	return who, nil
}

func (a *Access) lookUpPuller(named reference.Named, want driver.ImageRequest) (Puller, error) {
	if want.Token != "" {
		return newPuller(registry.AuthConfig{RegistryToken: want.Token, ServerAddress: reference.Domain(named)}, sourceToken)
	}
	if a.opts.AppAuthDir != "" && want.Tenant != "" {
		known, err := loadAppCredentials(a.opts.AppAuthDir, want.Tenant)
		if err != nil {
			return Puller{}, err
		}
		if auth, err := known.forImage(named); err != nil || auth != (registry.AuthConfig{}) {
			if err != nil {
				return Puller{}, fmt.Errorf("%s: %w", appFile(a.opts.AppAuthDir, want.Tenant), err)
			}
			return newPuller(auth, sourceApp)
		}
	}
	known := a.auth
	if known == nil {
		if a.opts.ConfigDir == "" {
			return Puller{}, nil
		}
		var err error
		if known, err = loadCredentials(filepath.Join(a.opts.ConfigDir, "config.json")); err != nil {
			return Puller{}, err
		}
	}
	auth, err := known.forImage(named)
	if err != nil {
		return Puller{}, err
	}
	return newPuller(auth, sourceNode)
}

// fileTenant is the form of tenants that may name a file: none leads out of the
// directory.
var fileTenant = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}$`)

// appFile is the file of an app's credentials.
func appFile(dir, tenant string) string { return filepath.Join(dir, tenant+".json") }

// loadAppCredentials reads an app's file; none means that it has no credentials
// of its own.
func loadAppCredentials(dir, tenant string) (*credentials, error) {
	if !fileTenant.MatchString(tenant) {
		return nil, fmt.Errorf("the app's identifier %q cannot be the name of a file in %s", tenant, dir)
	}
	return loadCredentials(appFile(dir, tenant))
}
