package docker

import (
	"path/filepath"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/moby/moby/api/types/registry"
)

// Keychain returns credentials as Options.Auth and Options.ConfigDir name them, for
// drivers that talk to registries themselves. Those in the directory are read anew
// each time.
func Keychain(auth []byte, configDir string) (authn.Keychain, error) {
	k := keychain{configDir: configDir}
	if len(auth) > 0 {
		var err error
		if k.known, err = parseCredentials(auth); err != nil {
			return nil, err
		}
	}
	return k, nil
}

type keychain struct {
	known     *credentials // nil: those in configDir
	configDir string
}

// Resolve returns the credentials for a repository or a registry.
func (k keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	domain := target.RegistryStr()
	if domain == "index.docker.io" { // the registry client's name of Docker Hub
		domain = hub
	}
	named, err := reference.WithName(domain + "/any")
	if err != nil {
		return nil, err
	}
	known := k.known
	if known == nil {
		if k.configDir == "" {
			return authn.Anonymous, nil
		}
		if known, err = loadCredentials(filepath.Join(k.configDir, "config.json")); err != nil {
			return nil, err
		}
	}
	auth, err := known.forImage(named)
	if err != nil || auth == (registry.AuthConfig{}) {
		return authn.Anonymous, err
	}
	return authn.FromConfig(authn.AuthConfig{
		Username: auth.Username, Password: auth.Password, IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
	}), nil
}
