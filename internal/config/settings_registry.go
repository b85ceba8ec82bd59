package config

import (
	"errors"
	"net"
	"strconv"
	"time"
)

// registryOff is the address of no registry.
const registryOff = "off"

// registrySettings are those of the registry that a node with the native driver
// serves its images from.
var registrySettings = []Setting{
	{
		"FN_REGISTRY_LISTEN", groupRegistry, "<host>:<port> or off", "",
		"Where images can be pushed to; port 0 takes any free one and says which in the log. Default: 127.0.0.1:5050 if it is free. What is not loopback needs FN_REGISTRY_USERS.",
		registryAddress,
	},
	{
		"FN_REGISTRY_NAMES", groupRegistry, "list of hosts, separated by spaces or commas", "",
		"Further names of the registry, as images have them: `registry.example.com:5050`. Loopback and, if it listens beyond that, the machine's addresses and name are known. Default: none.",
		list(func(c *Config) *[]string { return &c.Engine.Registry.Names }),
	},
	{
		"FN_REGISTRY_USERS", groupRegistry, "user:password or user:bcrypt hash, separated by spaces or lines", "",
		"Who may push and pull. FN_REGISTRY_USERS_FILE may be what `htpasswd -B` writes; it is read at start. Default: nobody is asked, on loopback only.",
		secret(func(c *Config, v string) error { c.Engine.Registry.Users = SecretText(v); return nil }, maskAll),
	},
	{
		"FN_REGISTRY_TLS_CERT", groupRegistry, "path", "",
		"Certificate with its chain, PEM. Default: plain HTTP.", text(func(c *Config) *string { return &c.Engine.Registry.Cert }),
	},
	{
		"FN_REGISTRY_TLS_KEY", groupRegistry, "path", "",
		"Its private key, PEM.", text(func(c *Config) *string { return &c.Engine.Registry.Key }),
	},
	{
		"FN_REGISTRY_MAX_BLOB_SIZE", groupRegistry, formBytes, "17179869184",
		"Largest layer that is pushed, compressed; 0 is that of the image store, 16 GiB.", whole(func(c *Config, n int64) { c.Engine.Registry.MaxBlobBytes = n }),
	},
	{
		"FN_REGISTRY_MAX_UPLOADS", groupRegistry, "whole number from 1 to 10000", "64",
		"Layers that are pushed at one time; more get 429.", between(1, maxUploads, func(c *Config, n int) { c.Engine.Registry.MaxUploads = n }),
	},
	{
		"FN_REGISTRY_UPLOAD_TIMEOUT", groupRegistry, formDuration, "10m",
		"How long what was sent of a layer is kept when no more arrives.", duration(func(c *Config) *time.Duration { return &c.Engine.Registry.UploadTimeout }),
	},
	{
		"FN_REGISTRY_BODY_TIMEOUT", groupRegistry, formDuration, "1m",
		"How long a client may stop sending or taking a layer, however long the whole takes. Limits of headers and of unused connections are those under HTTP.",
		duration(func(c *Config) *time.Duration { return &c.Engine.Registry.BodyTimeout }),
	},
}

// maxUploads bounds the open files that pushes take.
const maxUploads = 10_000

func registryAddress(c *Config, value string) error {
	if value == registryOff {
		c.Engine.Registry.Off = true
		return nil
	}
	_, port, err := net.SplitHostPort(value)
	if err != nil {
		return errors.New("it is no address")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return errors.New("it has no port")
	}
	c.Engine.Registry.Address = value
	return nil
}
