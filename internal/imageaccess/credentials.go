package imageaccess

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/cpuguy83/dockercfg"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
)

// hub is the domain of images whose names have none, and hubHosts the names
// that credentials for it are kept under: Docker's client uses the first one,
// Fn's operators others.
const hub = "docker.io"

var hubHosts = []string{"index.docker.io", hub, "hub.docker.com", "registry-1.docker.io"}

// hubServer is what Docker's credential helpers call the hub.
const hubServer = "https://index.docker.io/v1/"

// minLabels is how many labels a domain needs to share the credentials of one
// below it: not everybody under "com" is to be trusted.
const minLabels = 2

// credentials are what registries are told about who pulls, in the form of
// Docker's config.json.
type credentials struct {
	config dockercfg.Config
	hosts  map[string]registry.AuthConfig // by host, with its port if it has one
}

// parseCredentials reads the text of a config.json, or of the older form, which
// has the entries of "auths" at its top.
func parseCredentials(text []byte) (*credentials, error) {
	c := &credentials{hosts: map[string]registry.AuthConfig{}}
	if err := json.Unmarshal(text, &c.config); err != nil {
		return nil, fmt.Errorf("not the JSON of a Docker config.json: %w", err)
	}
	entries := c.config.AuthConfigs
	if entries == nil && c.config.CredentialsStore == "" && c.config.CredentialHelpers == nil {
		// Other settings of a config.json are no entries, and no objects.
		var old map[string]json.RawMessage
		if err := json.Unmarshal(text, &old); err != nil {
			return nil, fmt.Errorf("not the JSON of a Docker config.json: %w", err)
		}
		entries = map[string]dockercfg.AuthConfig{}
		for server, raw := range old {
			var entry dockercfg.AuthConfig
			if json.Unmarshal(raw, &entry) == nil && entry != (dockercfg.AuthConfig{}) {
				entries[server] = entry
			}
		}
	}
	for _, server := range slices.Sorted(maps.Keys(entries)) {
		auth, err := authOf(entries[server])
		if err != nil {
			return nil, fmt.Errorf("credentials for %s: %w", server, err)
		}
		if auth != (registry.AuthConfig{}) { // Docker leaves empty ones for what a helper keeps
			auth.ServerAddress = server
			c.hosts[hostOf(server)] = auth
		}
	}
	return c, nil
}

// loadCredentials reads a file in the form of config.json; none means that there
// are no credentials.
func loadCredentials(name string) (*credentials, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return &credentials{}, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := parseCredentials(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// authOf translates an entry.
func authOf(entry dockercfg.AuthConfig) (registry.AuthConfig, error) {
	auth := registry.AuthConfig{
		Username: entry.Username, Password: entry.Password,
		IdentityToken: entry.IdentityToken, RegistryToken: entry.RegistryToken,
	}
	if entry.Auth == "" {
		return auth, nil
	}
	user, password, err := dockercfg.DecodeBase64Auth(entry)
	auth.Username, auth.Password = user, password
	return auth, err
}

// hostOf is the host of a server's address, whose scheme and path may be left out.
func hostOf(server string) string {
	if _, rest, found := strings.Cut(server, "://"); found {
		server = rest
	}
	host, _, _ := strings.Cut(server, "/")
	return host
}

// forImage returns the credentials for an image's registry, none if there are
// none: those that a helper keeps, those of the host, and those of a host below
// it, as Fn does.
func (c *credentials) forImage(image reference.Named) (registry.AuthConfig, error) {
	domain := reference.Domain(image)
	names, server := []string{domain}, domain
	if domain == hub {
		names, server = hubHosts, hubServer
	}
	helper := c.config.CredentialHelpers[server]
	if helper == "" {
		helper = c.config.CredentialsStore
	}
	if helper != "" {
		user, secret, err := dockercfg.GetCredentialsFromHelper(helper, server)
		switch {
		case err != nil:
			return registry.AuthConfig{}, fmt.Errorf("credentials for %s from the helper docker-credential-%s: %w", domain, helper, err)
		case user != "":
			return registry.AuthConfig{Username: user, Password: secret, ServerAddress: server}, nil
		case secret != "":
			return registry.AuthConfig{IdentityToken: secret, ServerAddress: server}, nil
		}
	}
	for _, name := range names {
		if auth, ok := c.hosts[name]; ok {
			return auth, nil
		}
	}
	if strings.Count(domain, ".") < minLabels-1 {
		return registry.AuthConfig{}, nil
	}
	for _, host := range slices.Sorted(maps.Keys(c.hosts)) {
		if strings.HasSuffix(host, "."+domain) {
			return c.hosts[host], nil
		}
	}
	return registry.AuthConfig{}, nil
}
