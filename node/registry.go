package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/tinefn/tine/internal/image/registry"
	"github.com/tinefn/tine/internal/metrics"
	"github.com/tinefn/tine/internal/pool"
)

// listenRegistry takes the port of the registry. It returns nil if there is to be
// none: it is off, or something else has the port of the default. The caller
// closes it, or makes it one of a driver.
func (n *Node) listenRegistry() (*registryPort, error) {
	c := n.config.Engine.Registry
	if c.Off {
		return nil, nil
	}
	opts := registry.ServerOptions{
		Address: c.Address, Names: c.Names, CertFile: c.Cert, KeyFile: c.Key, Logger: n.log,
		HeaderTimeout: n.config.HTTP.HeaderReadTimeout, IdleTimeout: n.config.HTTP.IdleTimeout, HeaderBytes: int(n.config.HTTP.MaxRequestHeaderBytes),
	}
	if opts.Address == "" {
		opts.Address = registry.DefaultAddress
	}
	if (c.Cert == "") != (c.Key == "") {
		return nil, errors.New("one of FN_REGISTRY_TLS_CERT and FN_REGISTRY_TLS_KEY is set: set both, or neither")
	}
	var err error
	if opts.Users, err = n.parseUsers(); err != nil {
		return nil, err
	}
	server, err := registry.Listen(opts)
	switch {
	case err == nil:
	case errors.Is(err, registry.ErrAddress) && c.Address == "":
		n.log.Warn("no image can be pushed to this server, as the address of its registry is taken: set FN_REGISTRY_LISTEN to another one, or to off",
			slog.String("address", opts.Address), slog.Any("error", err))
		return nil, nil
	case errors.Is(err, registry.ErrAddress):
		return nil, fmt.Errorf("FN_REGISTRY_LISTEN=%s: %w: free the address, set another one, or off", c.Address, err)
	case errors.Is(err, registry.ErrOpen):
		return nil, fmt.Errorf("FN_REGISTRY_LISTEN=%s: %w: set FN_REGISTRY_USERS to user:password, or listen on 127.0.0.1", c.Address, err)
	default:
		return nil, fmt.Errorf("registry, see FN_REGISTRY_NAMES and FN_REGISTRY_TLS_CERT: %w", err)
	}
	return &registryPort{server: server, users: opts.Users}, nil
}

func (n *Node) parseUsers() (*registry.Users, error) {
	text := n.config.Engine.Registry.Users.Reveal()
	if text == "" {
		return nil, nil
	}
	users, err := registry.ParseUsers(text)
	if err != nil {
		return nil, fmt.Errorf("FN_REGISTRY_USERS: %w", err)
	}
	return users, nil
}

// registryPort is a port of a registry, and what makes one of the driver's images.
type registryPort struct {
	server *registry.Server
	users  *registry.Users // nil: nobody is asked
	open   func(accept func(ctx context.Context, user, password string) bool, pushed func(ctx context.Context, is func(image string) bool)) (servedRegistry, error)
}

// names are the hosts by which clients know the registry.
func (p *registryPort) names() []string {
	if p == nil {
		return nil
	}
	return p.server.Names()
}

// close gives up a port that nothing was served at.
func (p *registryPort) close() error {
	if p == nil {
		return nil
	}
	return p.server.Stop(context.Background())
}

// settingsError is one that no other driver changes: whoever set what is wrong
// wants to know it.
type settingsError struct{ error }

func (e settingsError) Unwrap() error { return e.error }

// servedRegistry is a driver's registry.
type servedRegistry interface {
	http.Handler
	Close() error
}

// serveRegistry serves the driver's images at the port that was taken. A push
// reaches the instances before the client knows that it succeeded.
func (n *Node) serveRegistry(instances *pool.Pool) error {
	port := n.registryPort
	if port == nil {
		if c := n.config.Engine.Registry; c.Address != "" {
			n.log.Warn("FN_REGISTRY_LISTEN has no effect, as only the native driver keeps images itself")
		}
		return nil
	}
	var accept func(context.Context, string, string) bool
	if port.users != nil {
		accept = port.users.Accept
	}
	served, err := port.open(accept, instances.ImageChanged)
	if err != nil {
		return err
	}
	port.server.Serve(metrics.CountRegistry(n.registry, served), served.Close)
	n.stack.push("the registry", port.server.Stop)
	n.log.Info("registry: push images here, functions use them by the same names",
		slog.String("address", port.server.Address()), slog.String("names", strings.Join(port.server.Names(), " ")))
	return nil
}
