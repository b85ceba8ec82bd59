// Package client talks to the /v2 API of a node that keeps definitions: apps,
// functions and triggers. Load balancers and the fn command use it.
//
// A [Client] has, for each of them, Get, Create, Update and Delete, a List of one
// page, and an iterator over all pages. An answer that is no success is an
// [*Error] with the API's status and text, in whose chain the kind of package
// model is found: errors.Is(err, model.ErrFnNotFound). Anything else, such as a
// connection that is refused, is an error without one.
package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultTimeout bounds one request, as Fn's load balancers do.
const DefaultTimeout = 60 * time.Second

// DefaultMaxResponseBytes bounds what is read of one answer. A page of a hundred
// functions is far below it, unless their configuration is huge.
const DefaultMaxResponseBytes = 256 << 20

// Bounds of connections. The first two are parts of a request's timeout.
const (
	dialTimeout     = 10 * time.Second
	handshakeLimit  = 10 * time.Second
	idleTimeout     = 90 * time.Second
	idleConnections = 64
)

// Options configures a [Client].
type Options struct {
	// Timeout bounds one request from the connection to the end of the answer. A
	// context may end it earlier. 0 means [DefaultTimeout].
	Timeout time.Duration

	// TLS is for https; see [TLSConfig]. Nil trusts the system's authorities and
	// shows no certificate.
	TLS *tls.Config

	// Header is sent with every request, such as Authorization for an API behind a
	// proxy that asks for it.
	Header http.Header

	// MaxResponseBytes bounds the body of an answer. 0 means
	// [DefaultMaxResponseBytes].
	MaxResponseBytes int64
}

// Client is a client of one API. It keeps connections for the next request and is
// safe for concurrent use.
type Client struct {
	base     *url.URL // without /v2 and trailing slashes
	header   http.Header
	http     *http.Client
	maxBytes int64
}

// New returns a client of the API at base, such as "http://api.example.com:8080".
// A path is what a proxy has put before the API's; "/v2" at its end may be given
// or left out. Proxies are those that the environment names (HTTP_PROXY,
// HTTPS_PROXY, NO_PROXY). Nothing is sent yet.
func New(base string, opts Options) (*Client, error) {
	parsed, err := parseBase(base)
	if err != nil {
		return nil, err
	}
	if opts.Timeout < 0 || opts.MaxResponseBytes < 0 {
		return nil, errors.New("client: a negative limit: use 0 for the default")
	}
	if opts.Timeout == 0 {
		opts.Timeout = DefaultTimeout
	}
	if opts.MaxResponseBytes == 0 {
		opts.MaxResponseBytes = DefaultMaxResponseBytes
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: min(dialTimeout, opts.Timeout)}).DialContext,
		TLSClientConfig:       opts.TLS.Clone(),
		TLSHandshakeTimeout:   handshakeLimit,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   idleConnections,
		IdleConnTimeout:       idleTimeout,
		ExpectContinueTimeout: time.Second,
	}
	return &Client{
		base: parsed, header: opts.Header.Clone(), maxBytes: opts.MaxResponseBytes,
		http: &http.Client{Transport: transport, Timeout: opts.Timeout},
	}, nil
}

func parseBase(base string) (*url.URL, error) {
	parsed, err := url.Parse(strings.TrimSpace(base))
	switch {
	case err != nil:
		return nil, fmt.Errorf("address of the API %q: %w", base, err)
	case parsed.Scheme != "http" && parsed.Scheme != "https", parsed.Host == "":
		return nil, fmt.Errorf("address of the API %q: it must begin with http:// or https:// and a host, as in http://localhost:8080", base)
	case parsed.User != nil:
		return nil, errors.New("address of the API: a user in it is not supported, use a header")
	}
	path := strings.TrimSuffix(strings.TrimRight(parsed.Path, "/"), "/v2")
	return &url.URL{Scheme: parsed.Scheme, Host: parsed.Host, Path: strings.TrimRight(path, "/")}, nil
}

// Base returns the address of the API, without /v2.
func (c *Client) Base() string { return c.base.String() }

// Close closes the connections that no request uses. The client can be used on.
func (c *Client) Close() { c.http.CloseIdleConnections() }
