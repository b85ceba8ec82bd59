package runnerrpc

import (
	"cmp"
	"crypto/tls"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/tinefn/tine/internal/runnerrpc/direct"
)

// The defaults of both sides. Sources: the message size is gRPC's own, the times
// of keep-alives are what Fn's nodes are tested with.
const (
	DefaultMaxMessageBytes  = 4 << 20
	DefaultKeepAliveIdle    = 60 * time.Second
	DefaultKeepAliveTimeout = 10 * time.Second
	DefaultKeepAliveLeast   = 5 * time.Second
	DefaultConnectTimeout   = time.Second

	DefaultDirectConnections = 512 // to each runner
)

// Connection is how both sides of a connection treat it. Zero values mean the
// defaults above.
type Connection struct {
	// TLS protects connections; nil: they are not, and everybody on the network may
	// read calls and their functions' configuration.
	TLS *tls.Config

	// MaxMessageBytes is the largest message that is accepted. Bodies travel in
	// pieces, so that only definitions can be large.
	MaxMessageBytes int

	// KeepAliveIdle is after how long without a word the other side is asked whether
	// it is there, and KeepAliveTimeout how long it may take to answer. Negative:
	// it is not asked.
	KeepAliveIdle, KeepAliveTimeout time.Duration
}

func (c Connection) maxMessageBytes() int { return cmp.Or(c.MaxMessageBytes, DefaultMaxMessageBytes) }

// maxFrameBytes is the same for a direct connection, where a call is as large as its
// definition and what comes with it.
func (c Connection) maxFrameBytes() int { return c.maxMessageBytes() + headroom }

// headroom is for what is around a call on a direct connection, in bytes.
const headroom = 64

// keepAlive returns idle time and timeout.
func (c Connection) keepAlive() (idle, timeout time.Duration) {
	idle, timeout = cmp.Or(c.KeepAliveIdle, DefaultKeepAliveIdle), cmp.Or(c.KeepAliveTimeout, DefaultKeepAliveTimeout)
	if idle < 0 {
		return math.MaxInt64, timeout
	}
	return idle, timeout
}

func (c Connection) credentials() credentials.TransportCredentials {
	if c.TLS == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(c.TLS)
}

// deadAfter is how long the other side may not acknowledge what was sent; 0: for ever.
func (c Connection) deadAfter() time.Duration {
	idle, timeout := c.keepAlive()
	if idle == math.MaxInt64 {
		return 0
	}
	return idle + timeout
}

// streamWindow is how much of one call's body, and connectionWindow how much of
// those of all calls of a connection, may be under way without having been read,
// in bytes. Fixed sizes spare a connection the measuring of what would be best.
const (
	streamWindow     = 256 << 10
	connectionWindow = 4 << 20
)

// How soon a client tries again to connect to a runner that it cannot reach.
var reconnect = backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second}

// ClientOptions configures a [Client].
type ClientOptions struct {
	Connection
	ConnectTimeout time.Duration // of one attempt; 0: DefaultConnectTimeout

	// DirectConnections bounds connections that are for one call at a time, to a runner
	// that takes them, as Tine's do: a call costs less so. What is more goes over gRPC. 0:
	// DefaultDirectConnections. Negative: there are none.
	DirectConnections int
}

// direct is how calls are made on connections of their own.
func (o ClientOptions) direct(address string) direct.PoolOptions {
	idle, timeout := o.keepAlive()
	if idle == math.MaxInt64 {
		idle = 0
	}
	return direct.PoolOptions{
		Address: address, TLS: o.TLS, ConnectTimeout: cmp.Or(o.ConnectTimeout, DefaultConnectTimeout), MaxFrameBytes: o.maxFrameBytes(),
		MaxConnections: max(cmp.Or(o.DirectConnections, DefaultDirectConnections), 0), PingInterval: idle, PingTimeout: timeout,
	}
}

func (o ClientOptions) dialOptions() []grpc.DialOption {
	idle, timeout := o.keepAlive()
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(o.credentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: cmp.Or(o.ConnectTimeout, DefaultConnectTimeout)}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(o.maxMessageBytes()), grpc.MaxCallSendMsgSize(o.maxMessageBytes())),
		grpc.WithInitialWindowSize(streamWindow), grpc.WithInitialConnWindowSize(connectionWindow),
		grpc.WithIdleTimeout(0), // a placer wants to know early who is there
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(), // those of the environment are for the way out, not for nodes
	}
	if idle != math.MaxInt64 {
		dial = append(dial, grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: idle, Timeout: timeout, PermitWithoutStream: true}))
	}
	return dial
}

// streamWorkers is how many goroutines serve streams one after the other, so that
// their stacks need not grow anew for each call. More calls at one time get
// goroutines of their own.
const streamWorkers = 64

func (o ServerOptions) grpcOptions(creds credentials.TransportCredentials) []grpc.ServerOption {
	idle, timeout := o.keepAlive()
	return []grpc.ServerOption{
		grpc.Creds(creds),
		grpc.MaxRecvMsgSize(o.maxMessageBytes()),
		grpc.InitialWindowSize(streamWindow), grpc.InitialConnWindowSize(connectionWindow),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: idle, Timeout: timeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: cmp.Or(o.KeepAliveLeast, DefaultKeepAliveLeast), PermitWithoutStream: true}),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.WaitForHandlers(true), // who stops the server ends next what its calls use
	}
}
