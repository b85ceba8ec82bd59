// Package config reads the settings of a node from environment variables. One
// table of settings drives reading, fnserver --help and docs/configuration.md.
//
// Read settings.go and the other settings_*.go for the tables, parse.go for the forms of values, load.go
// for how they are read, and document.go for how they are described.
package config

import (
	"log/slog"
	"net/netip"
	"net/url"
	"time"
)

// Config is every setting of a node, read and checked.
type Config struct {
	NodeType string // one of those below

	HTTP    HTTP
	Store   Store
	Log     Log
	Runner  Runner
	Engine  Engine
	Sockets Sockets
	RPC     RPC
	LB      LoadBalancer

	Placement Placement

	ShutdownTimeout time.Duration
	ShutdownDelay   time.Duration
}

// The node types.
const (
	NodeFull   = "full"
	NodeAPI    = "api"
	NodeRunner = "pure-runner"
	NodeLB     = "lb"
)

// HTTP is about the web listener.
type HTTP struct {
	Host string // address to bind; empty: all
	Port int    // 0: any free one

	PublicURL       string
	CORSOrigins     []string
	CORSHeaders     []string
	RequestIDHeader string

	MaxRequestBytes       int64 // 0: no limit
	MaxRequestHeaderBytes int64
	MaxDefinitionBytes    int64

	HeaderReadTimeout time.Duration // this and the following: 0 is none
	BodyReadTimeout   time.Duration
	WriteTimeout      time.Duration
	IdleTimeout       time.Duration
}

// Store is about the database.
type Store struct {
	URL         SecretURL
	PingRetries int // attempts to reach it at start, a second apart
}

// Log is about the server's own log.
type Log struct {
	Format string // "text" or "json"
	Level  slog.Level
	Dest   string // "stderr" or a file:// URL
}

// Runner is about calls and the containers they run in.
type Runner struct {
	PullTimeout  time.Duration // 0: none
	StartTimeout time.Duration // 0: none
	QueueTimeout time.Duration // 0: none
	QueueSize    int
	FailFast     bool
	FreezeAfter  time.Duration // negative: never
	ImageRefresh time.Duration // 0: never

	Scale        Scale
	StockPercent int // of the capacity, for minimum instances
	YieldAfter   time.Duration

	MaxResponseBytes       int64 // 0: no limit
	MaxResponseHeaderBytes int64 // 0: the default of package runner
	ResponseHoldBytes      int64
	MaxDetachedBytes       int64 // 0: no limit

	MaxMemoryBytes int64 // of all containers together; 0: what the machine has
	MaxMilliCPU    int64 // likewise

	DiskMiB           int64 // of one container; 0: no limit
	Processes         int64 // 0: no limit
	OpenFiles         int64
	LockedMemoryBytes int64
	PendingSignals    int64
	MessageQueueBytes int64
	TmpInodes         int64

	WritableRoot bool
	Privileged   bool
	LogOutput    bool
	MaxLogBytes  int64 // of one call's output
}

// Scale bounds the instances of functions whose annotations say nothing else,
// in the form of the model. Zero means no bound.
type Scale struct {
	MinInstances int
	MaxInstances int
	MaxCalls     int
	MaxAge       time.Duration
}

// Engine is about the container engine.
type Engine struct {
	Driver        string // DriverAuto, DriverNative or DriverDocker
	Host          string // DOCKER_HOST
	CertPath      string
	Auth          []byte        // credentials for registries, of FN_DOCKER_AUTH
	AppAuthDir    string        // of files with apps' own
	ConfigDir     string        // where Docker keeps them otherwise; empty: nowhere
	StateDir      string        // what the driver must remember
	AccessTTL     time.Duration // of the proof that an app may use a private image; 0: none
	TLSVerify     bool
	CallTimeout   time.Duration
	PullRetries   int           // of pulls that fail for a passing reason
	Failures      int           // requests in a row without an answer that open the circuit
	MaxPause      time.Duration // until it is tried again
	Networks      []string
	LabelTag      string
	Runtime       string   // OCI runtime of all containers; empty: the engine's
	Runtimes      []string // that functions may ask for
	EnableVolumes bool
	LoadFile      string // archive of images
	MaxStarts     int    // of containers at one time
	Prefork       Prefork
	Sandbox       Sandbox
	Pool          Pool
	Registry      Registry
	MaxImageBytes int64 // 0: no limit
	ExemptImages  []string
}

// Prefork is about the pool of network namespaces that are made beforehand.
type Prefork struct {
	Min, Max   int      // Max 0: no pool; PreforkAuto: by the machine's memory
	Networks   []string // empty: Engine.Networks
	Image      string   // empty: a built-in one
	Command    []string // of Image
	UseOnce    bool
	Quarantine time.Duration
	KeepUsed   time.Duration
}

// Sandbox is about the native driver.
type Sandbox struct {
	Min, Max     int // of the pool
	MaxReady     int // of those that nobody uses; PreforkAuto: by the machine's memory
	Users        SandboxUsers
	FirstID      uint32       // of the ids that its users have; 0: the driver's default
	LastID       uint32       // likewise
	Bridge       string       // empty: the driver's default
	Subnet       netip.Prefix // zero: the driver's default
	DNS          []netip.Addr // empty: the machine's
	AllowHost    bool
	AllowPrivate bool

	SocketBytes  int64 // of a function's directory of sockets
	SocketInodes int64 // likewise; 0: directories are on disk
}

// Pool is about the pool of namespaces or sandboxes.
type Pool struct {
	AppShare      int // percentage of what is ready, for an app that uses much
	CPUPercent    int // pressure; 100: nothing is too much
	MemoryPercent int
	MinFreeBytes  int64
}

// Registry is about the registry that the native driver's images are served from.
type Registry struct {
	Off     bool
	Address string   // host:port; empty: the default, if it is free
	Names   []string // further hosts by which clients know it
	Users   SecretText
	Cert    string // path; empty: plain HTTP
	Key     string // path

	MaxBlobBytes  int64
	MaxUploads    int
	UploadTimeout time.Duration
	BodyTimeout   time.Duration
}

// SecretText is not for logs.
type SecretText string

// String returns something else than the text.
func (SecretText) String() string { return "[hidden]" }

// LogValue keeps the text out of logs.
func (s SecretText) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Reveal returns the text as it was given.
func (s SecretText) Reveal() string { return string(s) }

// SandboxUsers says who the users of a sandbox are to the machine.
type SandboxUsers string

// The possibilities.
const (
	SandboxUsersAuto SandboxUsers = "auto" // own where that works
	SandboxUsersOwn  SandboxUsers = "own"
	SandboxUsersHost SandboxUsers = "host"
)

// The drivers.
const (
	DriverAuto   = "auto"   // the first of the others that works
	DriverNative = "native" // needs no engine
	DriverDocker = "docker"
)

// PreforkAuto is the size of a pool that depends on the machine.
const PreforkAuto = -1

// The defaults of a pool, as they are for images of Fn's operators where one is set.
const (
	preforkMin     = 5
	preforkCommand = "tail -f /dev/null"
)

// Sockets is about the directories that functions put their sockets in.
type Sockets struct {
	Path       string // as the server sees it; empty: the system's temporary directory
	EnginePath string // as the engine sees it; empty: the same
}

// SecretURL is a URL whose password is not for logs.
type SecretURL string

// String returns the URL with its password masked.
func (u SecretURL) String() string {
	parsed, err := url.Parse(string(u))
	if err != nil {
		return "[unreadable url]"
	}
	return parsed.Redacted()
}

// LogValue keeps the password out of logs.
func (u SecretURL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// Reveal returns the URL as it was given.
func (u SecretURL) Reveal() string { return string(u) }
