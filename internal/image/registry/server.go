package registry

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tinefn/tine/internal/image"
)

// DefaultAddress is where a registry is served. Only this machine reaches it, and
// Docker pushes to loopback without encryption. The port is near 5000, which
// registries have by habit, but neither that one, which Docker's own registry and
// the AirPlay receiver of macOS take, nor 5001, which local registries of kind
// take, nor one of those that Linux gives to outgoing connections (32768-60999).
const DefaultAddress = "127.0.0.1:5050"

// Defaults of [ServerOptions].
const (
	DefaultHeaderTimeout = 10 * time.Second
	DefaultIdleTimeout   = 2 * time.Minute
	DefaultHeaderBytes   = 1 << 20
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrOpen: everybody who reaches the machine could replace what functions run.
	ErrOpen = errors.New("the address is not a loopback one, and the registry asks nobody for a password")
	// ErrAddress: it is taken, or not one of this machine.
	ErrAddress = errors.New("the registry cannot listen")
)

// ServerOptions configures a [Server].
type ServerOptions struct {
	Address           string   // host:port; port 0: any free one
	Names             []string // further hosts by which clients know it, such as registry.example.com:5050
	CertFile, KeyFile string   // PEM; both empty: plain HTTP
	Users             *Users   // nil: nobody is asked, on loopback only

	HeaderTimeout time.Duration // for a request's header; 0: DefaultHeaderTimeout
	IdleTimeout   time.Duration // of an unused connection; 0: DefaultIdleTimeout
	HeaderBytes   int           // of a request's header; 0: DefaultHeaderBytes
	Logger        *slog.Logger  // nil: nothing is logged
}

// Server is a port that a registry is served at.
type Server struct {
	opts     ServerOptions
	listener net.Listener
	names    []string
	server   *http.Server
	cancel   context.CancelCauseFunc // of requests

	close func() error // nil: Serve was not called

	requests sync.RWMutex // held for reading by requests; guards what follows
	stopped  bool
}

// Listen takes the port, so that its names are known. Clients wait until Serve is
// called. Stop gives it up. The error is an ErrOpen or ErrAddress, or about the
// certificate or a name.
func Listen(opts ServerOptions) (_ *Server, err error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	for _, name := range opts.Names {
		if normalized, err := image.Normalize(name + "/a:b"); err != nil || normalized != name+"/a:b" {
			return nil, fmt.Errorf("%q is no host of images: give it as host or host:port", name)
		}
	}
	var certificates []tls.Certificate
	if opts.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(opts.CertFile, opts.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("certificate of the registry: %w", err)
		}
		certificates = append(certificates, certificate)
	}
	listener, err := net.Listen("tcp", opts.Address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok || !address.IP.IsLoopback() && opts.Users == nil {
		return nil, errors.Join(ErrOpen, listener.Close())
	}
	s := &Server{opts: opts, listener: listener, names: append(hostsOf(address), opts.Names...)}
	requests, cancel := context.WithCancelCause(context.Background())
	s.cancel = cancel
	s.server = &http.Server{
		ReadHeaderTimeout: cmp.Or(opts.HeaderTimeout, DefaultHeaderTimeout),
		IdleTimeout:       cmp.Or(opts.IdleTimeout, DefaultIdleTimeout),
		MaxHeaderBytes:    cmp.Or(opts.HeaderBytes, DefaultHeaderBytes),
		BaseContext:       func(net.Listener) context.Context { return requests },
		ErrorLog:          slog.NewLogLogger(opts.Logger.Handler(), slog.LevelDebug),
	}
	if len(certificates) > 0 {
		s.server.TLSConfig = &tls.Config{Certificates: certificates, MinVersion: tls.VersionTLS12}
	}
	return s, nil
}

// hostsOf are the hosts by which clients on this machine and beyond it know an
// address.
func hostsOf(address *net.TCPAddr) []string {
	port := strconv.Itoa(address.Port)
	var hosts []string
	add := func(host string) {
		host = strings.ToLower(net.JoinHostPort(host, port))
		if _, err := image.Normalize(host + "/a:b"); err == nil && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	machine, err := os.Hostname()
	switch {
	case address.IP.IsLoopback():
		add(address.IP.String())
		add("localhost")
		return hosts
	case address.IP.IsUnspecified():
		add("127.0.0.1")
		add("localhost")
		add("::1")
		all, err := net.InterfaceAddrs()
		if err != nil {
			break // those that are known will do
		}
		for _, one := range all {
			if network, ok := one.(*net.IPNet); ok {
				add(network.IP.String())
			}
		}
	default:
		add(address.IP.String())
	}
	if err == nil {
		add(machine)
	}
	return hosts
}

// Address is where the server listens, with the port that it really has.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Names are the hosts that names of images in the registry begin with, the
// listener's own first.
func (s *Server) Names() []string { return slices.Clone(s.names) }

// Serve begins to serve a [Registry], or what stands for one. Stop calls closeIt
// when no request is served any more.
func (s *Server) Serve(g http.Handler, closeIt func() error) {
	s.close = closeIt
	s.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.RLock()
		defer s.requests.RUnlock()
		if s.stopped {
			return
		}
		if refused := s.refuse(r); refused != nil {
			boundBody(w, r, s.server.ReadHeaderTimeout)
			refused.write(w)
			return
		}
		g.ServeHTTP(w, r)
	})
	go func() { // ends with Stop
		serve := s.server.Serve
		if s.server.TLSConfig != nil {
			serve = func(l net.Listener) error { return s.server.ServeTLS(l, "", "") }
		}
		if err := serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			s.opts.Logger.Error("the registry failed, nothing can be pushed until the server is started again", "error", err)
		}
	}()
}

// refuse keeps browsers out: a page from anywhere could otherwise push, as
// nobody is asked for a password, by a form or by a domain that comes to mean
// 127.0.0.1.
func (s *Server) refuse(r *http.Request) *refusal {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return refuse(http.StatusForbidden, codeDenied, "the request comes from a page of another origin")
	}
	if s.opts.Users != nil {
		return nil
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	if strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback() || slices.Contains(s.opts.Names, r.Host) {
		return nil
	}
	return refuse(http.StatusForbidden, codeDenied, "this registry is not known as %.100q", r.Host)
}

// errStopping is the cause with which requests end that the deadline cuts.
var errStopping = errors.New("the server is stopping")

// Stop takes no new requests, lets those in progress finish until ctx ends, and
// cuts them then. What was uploaded of blobs that are not complete is dropped.
func (s *Server) Stop(ctx context.Context) error {
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests to the registry were still in progress: %w", err), s.server.Close())
	}
	// Of a server that never served, the listener is still open.
	if closeErr := s.listener.Close(); closeErr != nil && !errors.Is(closeErr, net.ErrClosed) {
		err = errors.Join(err, closeErr)
	}
	s.cancel(errStopping)
	s.requests.Lock()
	s.stopped = true
	s.requests.Unlock()
	if s.close != nil {
		err = errors.Join(err, s.close())
	}
	return err
}
