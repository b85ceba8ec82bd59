// Package node puts a server together: which parts a node of a type has, how
// they are connected, and in which order they start and stop. It is the only
// package that knows all others, and does nothing else.
//
// A program that embeds a node calls [New] and [Node.Run]; cmd/fnserver is one, and
// examples/extending one that changes what the node does, by [Options]. Read full.go
// for what the default node consists of.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tinefn/tine/internal/config"
	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/metrics"
	"github.com/tinefn/tine/internal/telemetry"
	"github.com/tinefn/tine/invoke"
)

// Node is a server. Run it once.
type Node struct {
	config *config.Config
	opts   Options
	log    *slog.Logger
	stack  stack // what was started
	web    *webServer
	rpc    *rpcServer // of a runner node; nil otherwise

	registry     *prometheus.Registry
	invoker      invoke.Invoker                 // what calls go to; nil: the node takes none
	keys         func(map[string]string) string // what extensions mean for containers
	prefork      *metrics.Prefork               // nil before a driver is opened
	registryPort *registryPort                  // of a driver that keeps images itself; nil: none

	needs    func(context.Context) string // what keeps the node from being ready; nil: nothing
	stopping atomic.Bool                  // it is not ready any more
}

// New builds the node that the settings describe and opens what it needs:
// database, container engine, listener. The error of wrong settings lists all
// of them.
func New(ctx context.Context, opts Options) (*Node, error) {
	cfg, warnings, err := config.Load(opts.Environ, os.ReadFile, opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("wrong settings:\n%w", err)
	}
	n := &Node{config: cfg, opts: opts}
	if err := n.openLog(); err != nil {
		return nil, err
	}
	for _, text := range warnings {
		n.log.Warn(text)
	}
	if err := n.build(ctx); err != nil {
		return nil, errors.Join(err, n.stack.stop(ctx))
	}
	return n, nil
}

// openLog opens the log where the settings say, or on standard error if that
// fails: a server is worth more than the place of its log.
func (n *Node) openLog() error {
	c := n.config.Log
	opts := telemetry.LogOptions{Format: c.Format, Level: c.Level, Dest: c.Dest, Stderr: n.opts.Stderr}
	log, file, failure := telemetry.NewLogger(opts)
	if failure != nil {
		var err error
		opts.Dest = ""
		if log, file, err = telemetry.NewLogger(opts); err != nil {
			return err
		}
	}
	n.log = slog.New(edge.LogHandler(log.Handler()))
	n.stack.push("the log", func(context.Context) error { return file.Close() })
	if failure != nil {
		n.log.Error("FN_LOG_DEST: the log stays on standard error", slog.Any("error", failure))
	}
	return nil
}

// build starts the parts of the node's type and the listener above them.
func (n *Node) build(ctx context.Context) error {
	router, err := n.newRouter()
	if err != nil {
		return err
	}
	parts := map[string]func(context.Context, *edge.Router) error{
		config.NodeFull: n.buildFull, config.NodeAPI: n.buildAPI, config.NodeLB: n.buildLB, config.NodeRunner: n.buildRunnerNode,
	}
	if err := parts[n.config.NodeType](ctx, router); err != nil {
		return err
	}
	if err := n.serveExtras(router); err != nil {
		return err
	}
	n.web, err = n.listen(router)
	return err
}

// URL is where the node serves, with the port that it really has.
func (n *Node) URL() string { return n.web.url() }

// Run serves until ctx ends, or one of Options.StopWith, or the server fails, then stops everything within
// the shutdown deadline. It returns nil after an orderly stop.
func (n *Node) Run(ctx context.Context) error {
	ctx, release := withOthers(ctx, n.opts.StopWith)
	defer release()
	failed, rpcFailed := n.web.serve(), n.rpc.serve()
	n.log.Info("Fn serving on `"+n.web.port()+"`", slog.String("type", n.config.NodeType), slog.String("url", n.URL()))
	var err error
	select {
	case <-ctx.Done():
		err = n.linger(n.config.ShutdownDelay, failed)
		n.log.Info("Halting...", slog.Duration("deadline", n.config.ShutdownTimeout))
	case err = <-failed:
		n.log.Error("the web server failed", slog.Any("error", err))
	case err = <-rpcFailed:
		n.log.Error("the server for load balancers failed", slog.Any("error", err))
	}
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.config.ShutdownTimeout)
	defer cancel()
	return errors.Join(err, n.stack.stop(deadline))
}
