package docker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
)

// Connect makes a client for the engine that the options name by Host, CertPath and
// TLSVerify; it does not talk to it yet. The caller closes it.
func Connect(opts Options) (*client.Client, error) {
	if opts.Host == "" {
		opts.Host = DefaultHost
	}
	var with []client.Opt
	if opts.CertPath != "" {
		config, err := tlsConfig(opts.CertPath, opts.TLSVerify)
		if err != nil {
			return nil, fmt.Errorf("TLS for the container engine at %s: %w", opts.Host, err)
		}
		with = append(with, client.WithHTTPClient(&http.Client{
			Transport: &http.Transport{TLSClientConfig: config}, CheckRedirect: client.CheckRedirect,
		}))
	}
	engine, err := client.New(append(with, client.WithHost(opts.Host))...)
	if err != nil {
		return nil, fmt.Errorf("address %q of the container engine, set DOCKER_HOST to unix://<path> or tcp://<host>:<port>: %w", opts.Host, err)
	}
	return engine, nil
}

// tlsConfig reads the three files that Docker's clients expect.
func tlsConfig(dir string, verify bool) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, err
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if !verify {
		config.InsecureSkipVerify = true // Docker's meaning of an unset DOCKER_TLS_VERIFY
		return config, nil
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, err
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s has no certificate", filepath.Join(dir, "ca.pem"))
	}
	return config, nil
}

// explain turns a failed first contact into a sentence that says what to do.
func (d *Driver) explain(callCtx, ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	cause, advice := err, "see the engine's log"
	// The client's errors do not always keep the cause, so it is asked again.
	switch dialErr := d.dial(ctx); {
	case errors.Is(dialErr, os.ErrPermission):
		cause, advice = os.ErrPermission, "run as root or as a member of the socket's group (usually docker)"
	case errors.Is(dialErr, os.ErrNotExist):
		cause, advice = os.ErrNotExist, "install and start Docker, or set DOCKER_HOST to where it listens"
	case errors.Is(dialErr, syscall.ECONNREFUSED):
		cause, advice = syscall.ECONNREFUSED, "start Docker, or set DOCKER_HOST to where it listens"
	case dialErr != nil:
		cause, advice = dialErr, "check DOCKER_HOST and that Docker runs there"
	case errors.Is(context.Cause(callCtx), errNoAnswer):
		cause, advice = errNoAnswer, "restart Docker, or set DOCKER_HOST to one that works"
	}
	return fmt.Errorf("%w: nothing usable answers at %s (%w): %s", driver.ErrUnavailable, d.opts.Host, cause, advice)
}

// dial connects to the engine's address and hangs up.
func (d *Driver) dial(ctx context.Context) error {
	dialCtx, cancel := d.deadline(ctx)
	defer cancel()
	conn, err := d.engine.Dialer()(dialCtx)
	if err != nil {
		return err
	}
	return conn.Close()
}
