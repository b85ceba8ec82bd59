package docker

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"regexp"

	"github.com/distribution/reference"
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

// puller is who a registry is told that asks.
type puller struct {
	source source
	auth   string            // as the engine passes it on; a secret
	digest [sha256.Size]byte // of auth
}

// own reports whether the credentials are one app's, so that others cannot be
// given what they give access to.
func (i puller) own() bool { return i.source >= sourceApp }

// newPuller encodes credentials for the engine.
func newPuller(auth registry.AuthConfig, from source) (puller, error) {
	if auth == (registry.AuthConfig{}) {
		return puller{}, nil
	}
	encoded, err := authconfig.Encode(auth)
	if err != nil {
		return puller{}, err
	}
	return puller{source: from, auth: encoded, digest: sha256.Sum256([]byte(encoded))}, nil
}

// identify finds the credentials of a request for an image's registry: the
// call's token, what the app's file says, and what the node has, in this order.
func (d *Driver) identify(named reference.Named, want driver.ImageRequest) (puller, error) {
	who, err := d.lookUpPuller(named, want)
	if err != nil {
		return puller{}, &driver.PullError{Image: want.Name, Message: err.Error()}
	}
	return who, nil
}

func (d *Driver) lookUpPuller(named reference.Named, want driver.ImageRequest) (puller, error) {
	if want.Token != "" {
		return newPuller(registry.AuthConfig{RegistryToken: want.Token, ServerAddress: reference.Domain(named)}, sourceToken)
	}
	if d.opts.AppAuthDir != "" && want.Tenant != "" {
		known, err := loadAppCredentials(d.opts.AppAuthDir, want.Tenant)
		if err != nil {
			return puller{}, err
		}
		if auth, err := known.forImage(named); err != nil || auth != (registry.AuthConfig{}) {
			if err != nil {
				return puller{}, fmt.Errorf("%s: %w", appFile(d.opts.AppAuthDir, want.Tenant), err)
			}
			return newPuller(auth, sourceApp)
		}
	}
	known := d.auth
	if known == nil {
		if d.opts.ConfigDir == "" {
			return puller{}, nil
		}
		var err error
		if known, err = loadCredentials(filepath.Join(d.opts.ConfigDir, "config.json")); err != nil {
			return puller{}, err
		}
	}
	auth, err := known.forImage(named)
	if err != nil {
		return puller{}, err
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
