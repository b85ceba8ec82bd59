package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/metrics"
	"github.com/tinefn/tine/internal/runnerrpc"
	"github.com/tinefn/tine/invoke"
)

// buildRunnerNode builds a node that executes calls of load balancers:
//
//	load balancer => runnerrpc -> runner -> pool -> driver
//
// It has no definitions: each call comes with its own. Over HTTP it serves only
// what every node does.
func (n *Node) buildRunnerNode(ctx context.Context, _ *edge.Router) error {
	local, err := n.buildLocal(ctx)
	if err != nil {
		return err
	}
	n.rpc, err = n.listenRPC(n.overridden(n.extend(local, whenHeld)))
	return err
}

// rpcServer is a runner's listener for load balancers and what serves it.
type rpcServer struct {
	server   *runnerrpc.Server
	listener net.Listener
}

// listenRPC binds the port for load balancers. Calls are served from serve on.
func (n *Node) listenRPC(invoker invoke.Invoker) (*rpcServer, error) {
	connection, err := n.runnerConnection()
	if err != nil {
		return nil, err
	}
	c := n.config.RPC
	server, err := runnerrpc.NewServer(runnerrpc.ServerOptions{
		Connection: connection, KeepAliveLeast: c.KeepAliveLeast, Invoker: invoker, Logger: n.log, Detached: c.Detached,
		MaxRequestBytes: n.config.HTTP.MaxRequestBytes,
		Status: runnerrpc.StatusOptions{
			Image: c.StatusImage, BarrierFile: c.BarrierFile, Observer: metrics.NewStatus(n.registry),
			Check: n.opts.StatusCheck, KernelDumps: n.opts.KernelDumps,
		},
		Configure: n.opts.Configure, Logs: n.opts.Logs,
	})
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(n.config.HTTP.Host, strconv.Itoa(c.Port)))
	if err != nil {
		return nil, fmt.Errorf("serve load balancers on port %d, set FN_GRPC_PORT to another one or free it: %w", c.Port, err)
	}
	s := &rpcServer{server, listener}
	n.stack.push("calls of load balancers", s.stop)
	// The words and the two spaces are those that Fn's operators look for.
	n.log.Info("Pure Runner listening on  "+s.port(), slog.String("address", s.address()), slog.Bool("tls", connection.TLS != nil))
	return s, nil
}

// runnerConnection is how this node, a runner, treats connections.
func (n *Node) runnerConnection() (runnerrpc.Connection, error) {
	c := n.config.RPC
	connection := n.rpcConnection()
	if c.Cert == "" && c.Key == "" {
		if c.ClientCA != "" {
			return connection, errors.New("FN_GRPC_TLS_CLIENT_CA is set without FN_GRPC_TLS_CERT: set it and FN_GRPC_TLS_KEY too, or none of them")
		}
		n.log.Warn("load balancers are served without TLS: everybody on the network can execute calls and read the configuration of functions, set FN_GRPC_TLS_CERT")
		return connection, nil
	}
	var err error
	if connection.TLS, err = runnerrpc.ServerTLS(c.Cert, c.Key, c.ClientCA); err != nil {
		return connection, fmt.Errorf("FN_GRPC_TLS_CERT, FN_GRPC_TLS_KEY and FN_GRPC_TLS_CLIENT_CA: %w", err)
	}
	if c.ClientCA == "" {
		n.log.Warn("every client is served that can reach this runner: set FN_GRPC_TLS_CLIENT_CA to serve only those with a certificate")
	}
	return connection, nil
}

// rpcConnection is what both sides of a connection have in common.
func (n *Node) rpcConnection() runnerrpc.Connection {
	c := n.config.RPC
	connection := runnerrpc.Connection{MaxMessageBytes: c.MaxMessageBytes, KeepAliveIdle: c.KeepAliveIdle, KeepAliveTimeout: c.KeepAliveTimeout}
	if connection.KeepAliveIdle == 0 {
		connection.KeepAliveIdle = -1
	}
	return connection
}

// runnerClients says how this node, a load balancer, connects to runners.
func (n *Node) runnerClients() (runnerrpc.ClientOptions, error) {
	c := n.config.RPC
	opts := runnerrpc.ClientOptions{
		Connection: n.rpcConnection(), ConnectTimeout: c.ConnectTimeout, DirectConnections: cmp.Or(c.DirectConnections, -1),
	}
	if c.RunnerCA == "" {
		if c.RunnerCert != "" || c.RunnerKey != "" || c.RunnerName != "" {
			return opts, errors.New("a setting FN_RUNNER_TLS_… is set without FN_RUNNER_TLS_CA: set it too, or none of them")
		}
		n.log.Warn("runners are connected to without TLS: everybody on the network can read calls and the configuration of functions, set FN_RUNNER_TLS_CA")
		return opts, nil
	}
	var err error
	if opts.TLS, err = runnerrpc.ClientTLS(c.RunnerCA, c.RunnerCert, c.RunnerKey, c.RunnerName); err != nil {
		return opts, fmt.Errorf("FN_RUNNER_TLS_CA, FN_RUNNER_TLS_CERT and FN_RUNNER_TLS_KEY: %w", err)
	}
	return opts, nil
}

// serve begins to serve; the channel receives the error that ended it early. A node
// that is no runner has none.
func (s *rpcServer) serve() <-chan error {
	if s == nil {
		return nil
	}
	failed := make(chan error, 1)
	go func() { // ends with stop
		if err := s.server.Serve(s.listener); err != nil {
			failed <- err
		}
	}()
	return failed
}

// stop refuses new calls and lets those in progress finish until ctx ends.
func (s *rpcServer) stop(ctx context.Context) error {
	err := s.server.Stop(ctx)
	// Of a server that never served, the listener is still open.
	if closing := s.listener.Close(); closing != nil && !errors.Is(closing, net.ErrClosed) {
		err = errors.Join(err, closing)
	}
	return err
}

func (s *rpcServer) address() string { return s.listener.Addr().String() }

func (s *rpcServer) port() string {
	return ":" + strconv.Itoa(s.listener.Addr().(*net.TCPAddr).Port)
}

// RunnerAddress is where a pure-runner node takes calls, with the port that it really
// has; empty for other nodes.
func (n *Node) RunnerAddress() string {
	if n.rpc == nil {
		return ""
	}
	return n.rpc.address()
}
