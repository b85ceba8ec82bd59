package node

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/http1"
	"github.com/tinefn/tine/internal/httpapi"
	"github.com/tinefn/tine/internal/metrics"
	"github.com/tinefn/tine/internal/telemetry"
)

// newRouter makes a router with the routes that every node has.
func (n *Node) newRouter() (*edge.Router, error) {
	c := n.config.HTTP
	registry := telemetry.NewRegistry()
	n.registry = registry
	ids := n.requestID()
	router, err := edge.NewRouter(edge.Options{
		Observer: metrics.NewRequests(registry),
		Logger:   n.log, MaxRequestBytes: c.MaxRequestBytes, BodyReadTimeout: c.BodyReadTimeout,
		CORSOrigins: c.CORSOrigins, CORSHeaders: c.CORSHeaders, RequestIDHeader: ids.Header, NewRequestID: ids.Generate,
		Middleware: n.opts.RootMiddleware,
	})
	if err != nil {
		return nil, fmt.Errorf("FN_API_CORS_ORIGINS: %w", err)
	}
	httpapi.RegisterPing(router)
	httpapi.RegisterVersion(router, "")
	n.serveReady(router)
	router.Handle(http.MethodGet, "/metrics", plain(telemetry.MetricsHandler(registry)))
	if halt := n.opts.Halt; halt != nil {
		router.Handle(http.MethodGet, "/shutdown", func(w http.ResponseWriter, _ *http.Request) error {
			halt()
			return edge.WriteJSON(w, http.StatusOK, "shutting down")
		})
	}
	if n.opts.OmitProfiler {
		return router, nil
	}
	router.Handle("*", "/debug/vars", plain(expvar.Handler()))
	router.Handle("*", "/debug/pprof/", plain(http.HandlerFunc(pprof.Index)))
	for name, handler := range map[string]http.HandlerFunc{"cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol} {
		router.Handle("*", "/debug/pprof/"+name, plain(handler))
	}
	for _, name := range []string{"block", "heap", "goroutine", "threadcreate"} {
		router.Handle("*", "/debug/pprof/"+name, plain(pprof.Handler(name)))
	}
	return router, nil
}

// plain makes an edge handler of one that writes its own errors.
func plain(h http.Handler) edge.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		h.ServeHTTP(w, r)
		return nil
	}
}

// webServer is the node's listener and what serves it.
type webServer struct {
	server interface {
		Serve(net.Listener) error
		Shutdown(context.Context) error
		Close() error
	}
	listener net.Listener
	scheme   string
}

// secured serves over TLS.
type secured struct{ *http.Server }

func (s secured) Serve(listener net.Listener) error { return s.ServeTLS(listener, "", "") }

// listen binds the web port. Requests are served from serve on.
func (n *Node) listen(router *edge.Router) (*webServer, error) {
	c := n.config.HTTP
	listener, err := net.Listen("tcp", net.JoinHostPort(c.Host, strconv.Itoa(c.Port)))
	if err != nil {
		return nil, fmt.Errorf("serve on port %d, set FN_PORT to another one or free it: %w", c.Port, err)
	}
	settings := &http.Server{
		Handler:           router,
		ReadHeaderTimeout: c.HeaderReadTimeout,
		WriteTimeout:      c.WriteTimeout,
		IdleTimeout:       c.IdleTimeout,
		MaxHeaderBytes:    int(c.MaxRequestHeaderBytes),
		ErrorLog:          slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
		TLSConfig:         n.opts.WebTLS,
	}
	if n.opts.WebServer != nil {
		n.opts.WebServer(settings)
	}
	w := &webServer{listener: listener, server: secured{settings}, scheme: "https"}
	if settings.TLSConfig == nil {
		w.scheme = "http"
		if w.server, err = http1.New(settings); err != nil {
			return nil, errors.Join(err, listener.Close())
		}
	}
	n.stack.push("the web server", w.stop)
	return w, nil
}

// serve begins to serve; the channel receives the error that ended it early.
func (w *webServer) serve() <-chan error {
	failed := make(chan error, 1)
	go func() { // ends with stop
		if err := w.server.Serve(w.listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}()
	return failed
}

// stop lets requests in progress finish until ctx ends, then cuts them.
func (w *webServer) stop(ctx context.Context) error {
	if err := w.server.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("requests were still in progress: %w", err), w.server.Close())
	}
	// Of a server that never served, the listener is still open.
	if err := w.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (w *webServer) port() string {
	return ":" + strconv.Itoa(w.listener.Addr().(*net.TCPAddr).Port)
}

func (w *webServer) url() string {
	return w.scheme + "://" + w.listener.Addr().String()
}
