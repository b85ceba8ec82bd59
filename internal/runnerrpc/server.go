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

	"github.com/tinefn/tine/internal/runnerrpc/direct"
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

	MaxRequestBytes int64 // of a request's body; 0: no limit

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
	direct      *direct.Server // calls that come without gRPC
	conns       grpcConns
	definitions definitions
	status      statusRuns
	pumps       sync.WaitGroup // goroutines that read requests

	received, handled atomic.Uint64 // calls

	draining context.Context // ends when Stop begins
	drain    context.CancelFunc
	linger   time.Duration // how long Stop waits for connections without calls
	ended    func()        // end, as a value, which is made once

	mu     sync.Mutex    // guards the rest
	active int           // calls in progress; direct ones until all of the answer was sent
	quiet  chan struct{} // of Stop, closed when there are none; nil before it
}

// linger is how long a stopping runner waits for connections to end on which there
// is no call: a load balancer that is well closes them at once, and needs so long to
// send what it has under way.
const linger = 2 * time.Second

// begin counts a call in.
func (s *Server) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active++
}

// end counts a call out.
func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	s.settleLocked()
}

// settleLocked tells Stop that there are no calls.
func (s *Server) settleLocked() {
	if s.active == 0 && s.quiet != nil {
		close(s.quiet)
		s.quiet = nil
	}
}

// count is the number of calls in progress.
func (s *Server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}

// NewServer returns a server, which accepts nothing before Serve.
func NewServer(opts ServerOptions) (*Server, error) {
	if opts.Invoker == nil {
		return nil, errors.New("a runner without an invoker executes nothing")
	}
	s := &Server{opts: opts, log: opts.Logger, linger: linger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.draining, s.drain = context.WithCancel(context.Background())
	s.ended = s.end
	s.status.server = s
	s.direct = direct.NewServer(s.engageDirectly, opts.maxFrameBytes(), opts.deadAfter())
	creds := &knownCredentials{direct.Credentials(opts.TLS, s.direct), &s.conns}
	s.grpc = grpc.NewServer(append(opts.grpcOptions(creds),
		grpc.StreamInterceptor(s.recoverStream), grpc.UnaryInterceptor(s.recoverUnary))...)
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
	directly := s.direct.Drain()
	go func() {
		defer close(stopped)
		s.grpc.GracefulStop()
		<-directly
	}()
	late := s.awaitStop(ctx, stopped)
	s.grpc.Stop() // which does nothing if all have ended
	s.direct.Close()
	<-stopped
	s.pumps.Wait()
	s.status.runs.Wait()
	return late
}

// awaitStop waits until all connections have ended, or need not be waited for.
func (s *Server) awaitStop(ctx context.Context, stopped <-chan struct{}) error {
	quiet := make(chan struct{})
	s.mu.Lock()
	s.quiet = quiet
	s.settleLocked()
	s.mu.Unlock()
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d calls of load balancers were still running: %w", s.count(), context.Cause(ctx))
	case <-quiet:
	}
	// What is left are load balancers that do not answer, streams without a try, and
	// answers whose end waits for slow load balancers.
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
	case <-time.After(s.linger):
	}
	return s.awaitTaken(ctx, stopped)
}

// awaitTaken waits until load balancers have taken all answers over gRPC. One that does
// not even answer to pings keeps the runner for 6 s, after which gRPC has closed connections
// without streams, or until its keep-alive fails if its answers wait.
func (s *Server) awaitTaken(ctx context.Context, stopped <-chan struct{}) error {
	select {
	case <-stopped:
	case <-s.conns.none():
	case <-ctx.Done():
		if n := s.conns.count(); n > 0 {
			return fmt.Errorf("%d load balancers had not closed their connections, and may lack the end of an answer: %w", n, context.Cause(ctx))
		}
	}
	return nil
}

// errPanicked is what a client is told of a panic.
var errPanicked = status.Error(codes.Internal, panicText)

const panicText = "the runner panicked"

// recoverFrom makes an error of a panic, which must not end the process.
func (s *Server) recoverFrom(method string, err *error) {
	if cause := recover(); cause != nil {
		s.logPanic(method, cause)
		*err = errPanicked
	}
}

// logPanic is called while the goroutine panics.
func (s *Server) logPanic(method string, cause any) {
	s.log.Error("a call of the runner protocol panicked", slog.String("method", method),
		slog.Any("error", fmt.Errorf("panic: %v", cause)), slog.String("stack", string(debug.Stack())))
}

func (s *Server) recoverStream(_ any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer s.recoverFrom(info.FullMethod, &err)
	return handle(s, stream)
}

func (s *Server) recoverUnary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (_ any, err error) {
	defer s.recoverFrom(info.FullMethod, &err)
	return handle(ctx, request)
}

// engageDirectly is Engage for calls that come without gRPC.
func (s *Server) engageDirectly(stream *direct.ServerStream) (err error) {
	defer s.recoverFrom(runnerpb.RunnerProtocol_Engage_FullMethodName, &err)
	d := &directServerStream{ServerStream: stream, definitions: &s.definitions}
	if err := d.receiveTry(); err != nil {
		return err
	}
	s.begin()
	stream.WhenSent(s.ended)
	return s.engage(d)
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
