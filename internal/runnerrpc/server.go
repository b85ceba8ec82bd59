package runnerrpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
	"github.com/tinefn/tine/invoke"
)

// ServerOptions configures a [Server].
type ServerOptions struct {
	Connection

	// KeepAliveLeast is the least time between two questions of a client whether the
	// runner is there; one that asks more often is disconnected. 0:
	// DefaultKeepAliveLeast.
	KeepAliveLeast time.Duration

	Invoker invoke.Invoker // executes the calls
	Logger  *slog.Logger   // nil: none

	Detached bool // detached calls are accepted
	Status   StatusOptions

	// Configure receives what is sent by ConfigureRunner; nil: nobody wants it.
	Configure func(ctx context.Context, config map[string]string) error
	// Logs is what StreamLogs delivers; nil: nothing, and readers are told so.
	Logs LogSource
}

// Server is a runner's side of the protocol. It is safe for concurrent use.
type Server struct {
	runnerpb.UnimplementedRunnerProtocolServer

	opts        ServerOptions
	log         *slog.Logger
	grpc        *grpc.Server
	definitions definitions
	status      statusRuns
	pumps       sync.WaitGroup // goroutines that read requests

	active            atomic.Int32  // calls in progress
	received, handled atomic.Uint64 // calls

	draining context.Context // ends when Stop begins
	drain    context.CancelFunc
}

// NewServer returns a server, which accepts nothing before Serve.
func NewServer(opts ServerOptions) (*Server, error) {
	if opts.Invoker == nil {
		return nil, errors.New("a runner without an invoker executes nothing")
	}
	s := &Server{opts: opts, log: opts.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.draining, s.drain = context.WithCancel(context.Background())
	s.status.server = s
	s.grpc = grpc.NewServer(append(opts.grpcOptions(), grpc.StreamInterceptor(s.recoverStream), grpc.UnaryInterceptor(s.recoverUnary))...)
	runnerpb.RegisterRunnerProtocolServer(s.grpc, s)
	return s, nil
}

// Serve accepts connections until Stop, and returns nil then. It closes the
// listener.
func (s *Server) Serve(listener net.Listener) error {
	if err := s.grpc.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// Stop refuses new calls, which load balancers place elsewhere, and lets those in
// progress finish until ctx ends; then it cuts them off. The invoker is not used
// any more when it returns.
func (s *Server) Stop(ctx context.Context) error {
	s.drain()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.grpc.GracefulStop()
	}()
	var late error
	select {
	case <-stopped:
	case <-ctx.Done():
		late = fmt.Errorf("%d calls of load balancers were still running: %w", s.active.Load(), context.Cause(ctx))
		s.grpc.Stop()
		<-stopped
	}
	s.pumps.Wait()
	s.status.runs.Wait()
	return late
}

// errPanicked is what a client is told of a panic.
var errPanicked = status.Error(codes.Internal, "the runner panicked")

// recoverFrom makes an error of a panic, which must not end the process.
func (s *Server) recoverFrom(method string, err *error) {
	if cause := recover(); cause != nil {
		s.log.Error("a call of the runner protocol panicked", slog.String("method", method),
			slog.Any("error", fmt.Errorf("panic: %v", cause)), slog.String("stack", string(debug.Stack())))
		*err = errPanicked
	}
}

func (s *Server) recoverStream(_ any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer s.recoverFrom(info.FullMethod, &err)
	return handle(s, stream)
}

func (s *Server) recoverUnary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (_ any, err error) {
	defer s.recoverFrom(info.FullMethod, &err)
	return handle(ctx, request)
}

// ConfigureRunner hands settings to the embedding program.
func (s *Server) ConfigureRunner(ctx context.Context, message *runnerpb.ConfigMsg) (*runnerpb.ConfigStatus, error) {
	if s.opts.Configure == nil {
		s.log.Warn("ConfigureRunner was called, and this runner has nothing that can be configured by it")
		return &runnerpb.ConfigStatus{}, nil
	}
	if err := s.opts.Configure(ctx, message.GetConfig()); err != nil {
		return nil, err
	}
	return &runnerpb.ConfigStatus{}, nil
}
