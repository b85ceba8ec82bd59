// Package config turns environment variables into a [Config]. One table,
// settings.go, says what there is; it drives parsing, the text of --help and
// docs/configuration.md.
//
// Parts of the server do not import this package: the composition root gives
// them the values they need. Read settings.go first, then load.go.
package config

import (
	"log/slog"
	"time"
)

// Config is everything an operator can set.
type Config struct {
	NodeType        string        // NodeFull or NodeAPI
	ShutdownTimeout time.Duration // of a graceful stop, then what still runs is cut
	HTTP            HTTP
	Store           Store
	Log             Log
	Runner          Runner
	Sockets         Sockets
	Engine          Engine
}

// Types of nodes.
const (
	NodeFull = "full" // definitions and calls
	NodeAPI  = "api"  // definitions only
)

// HTTP configures the listener and what every request passes.
type HTTP struct {
	Host string // address to listen on; empty: all
	Port int    // 0: any free one

	PublicURL       string   // base of endpoints in responses; empty: as the client came
	CORSOrigins     []string // "*" first: all; empty: CORS is off
	CORSHeaders     []string
	RequestIDHeader string // empty: no request identifiers

	MaxRequestBytes       int64 // of a body; 0: no limit
	MaxRequestHeaderBytes int64
	MaxDefinitionBytes    int64 // of a body of the definitions API

	HeaderReadTimeout time.Duration // this and the next three: 0 is no limit
	BodyReadTimeout   time.Duration // of the time that reading one body may block
	WriteTimeout      time.Duration
	IdleTimeout       time.Duration
}

// Store says where definitions are kept.
type Store struct {
	URL         SecretURL
	PingRetries int // attempts to connect at start, a second apart
}

// Log configures the server's log.
type Log struct {
	Format string // text or json
	Level  slog.Level
	Dest   string // stderr or file:///path
}

// Runner bounds calls and containers. Zero numbers are no limit, unless said
// otherwise.
type Runner struct {
	PullTimeout  time.Duration // of one image
	StartTimeout time.Duration // from a container's start to its socket
	QueueTimeout time.Duration // longest wait for an instance
	QueueSize    int           // waiting calls per function, at least 1
	FailFast     bool          // refuse at once what cannot be launched now

	MaxResponseBytes       int64
	MaxResponseHeaderBytes int64 // 0: 10 MiB
	ResponseHoldBytes      int64 // response limits up to this are checked before the first byte is sent
	MaxDetachedBytes       int64
	LogOutput              bool // write what functions print to the log

	MaxMemoryBytes int64 // of all containers together; 0: what the machine has, likewise the next
	MaxMilliCPU    int64

	Processes         int64 // of each container, likewise the rest
	OpenFiles         int64
	LockedMemoryBytes int64
	PendingSignals    int64
	MessageQueueBytes int64
	DiskMiB           int64
	TmpInodes         int64
	WritableRoot      bool
	Privileged        bool // keep the image's user and the engine's default capabilities
}

// Sockets says where the sockets of functions are.
type Sockets struct {
	Path       string // empty: the system's temporary directory
	EnginePath string // Path as the container engine sees it; empty: the same
}

// Engine says which container engine to use, and how.
type Engine struct {
	Driver        string        // auto or docker
	Host          string        // as in DOCKER_HOST
	CertPath      string        // directory; empty: no TLS
	TLSVerify     bool          // verify the engine's certificate
	CallTimeout   time.Duration // of one request to the engine
	Networks      []string      // empty: the engine's default network
	LabelTag      string        // empty: containers are not labelled, leftovers not removed
	EnableVolumes bool          // allow images that declare volumes
}
