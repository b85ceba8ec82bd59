package config

import "time"

// Setting is one environment variable.
type Setting struct {
	Name    string
	Group   string
	Default string // as one would write it; empty: nothing
	Form    string // what is accepted
	Doc     string // Markdown, one paragraph

	parse func(c *Config, value string) error // of a value without white space around it, and not empty
}

// settings are all settings there are, group by group. They are not changed.
var settings = []Setting{
	// Node
	{
		Name: "FN_NODE_TYPE", Group: "Node", Default: "full", Form: "full or api",
		Doc:   "What the node does: `full` keeps definitions and executes calls, `api` only keeps definitions.",
		parse: nodeType,
	},
	{
		Name: "FN_DB_URL", Group: "Node", Form: "sqlite3://<path>",
		Doc: "Where definitions are kept. Default: data/fn.db below the working directory.",
		parse: func(c *Config, value string) error {
			c.Store.URL = SecretURL(value)
			return nil
		},
	},
	{
		Name: "FN_DS_DB_PING_MAX_RETRIES", Group: "Node", Default: "10", Form: "whole number from 0",
		Doc:   "How often reaching the database is tried at start, a second apart.",
		parse: whole(func(c *Config, n int64) { c.Store.PingRetries = int(n) }),
	},
	{
		Name: "FN_SHUTDOWN_TIMEOUT", Group: "Node", Default: "30s", Form: formDuration,
		Doc:   "How long calls in progress may take to finish when the server is told to stop.",
		parse: duration(func(c *Config) *time.Duration { return &c.ShutdownTimeout }),
	},

	// HTTP
	{
		Name: "FN_HOST", Group: "HTTP", Form: "host name or address",
		Doc:   "Address to listen on. Default: all.",
		parse: text(func(c *Config) *string { return &c.HTTP.Host }),
	},
	{
		Name: "FN_PORT", Group: "HTTP", Default: "8080", Form: "port from 0 to 65535",
		Doc:   "Port to listen on; 0 takes any free one and says which in the log.",
		parse: port,
	},
	{
		Name: "FN_PUBLIC_LB_URL", Group: "HTTP", Form: "http or https URL",
		Doc:   "Base of the endpoints that responses name. Default: the address that the client used.",
		parse: publicURL,
	},
	{
		Name: "FN_API_CORS_ORIGINS", Group: "HTTP", Form: "* or a list of origins, separated by commas",
		Doc:   "Origins whose pages may use the server. Default: CORS is off.",
		parse: list(func(c *Config) *[]string { return &c.HTTP.CORSOrigins }),
	},
	{
		Name: "FN_API_CORS_HEADERS", Group: "HTTP", Default: "Origin,Content-Length,Content-Type", Form: "list of header names, separated by commas",
		Doc:   "Headers that such pages may send.",
		parse: list(func(c *Config) *[]string { return &c.HTTP.CORSHeaders }),
	},
	{
		Name: "FN_RID_HEADER", Group: "HTTP", Form: "header name",
		Doc:   "Header that carries a request's identifier into the log; a new one is made if it is absent. Default: no identifiers.",
		parse: text(func(c *Config) *string { return &c.HTTP.RequestIDHeader }),
	},
	{
		Name: "FN_MAX_REQUEST_SIZE", Group: "HTTP", Default: "0", Form: formBytes,
		Doc:   "Largest body of any request; 0 is no limit.",
		parse: whole(func(c *Config, n int64) { c.HTTP.MaxRequestBytes = n }),
	},
	{
		Name: "FN_MAX_REQUEST_HEADER_SIZE", Group: "HTTP", Default: "1048576", Form: formBytes,
		Doc:   "Largest header of any request.",
		parse: whole(func(c *Config, n int64) { c.HTTP.MaxRequestHeaderBytes = n }),
	},
	{
		Name: "FN_MAX_DEFINITION_SIZE", Group: "HTTP", Default: "10485760", Form: formBytes,
		Doc:   "Largest body of a request that creates or changes a definition.",
		parse: whole(func(c *Config, n int64) { c.HTTP.MaxDefinitionBytes = n }),
	},
	{
		Name: "FN_REQUEST_HEADER_READ_TIMEOUT", Group: "HTTP", Default: "10s", Form: formDuration,
		Doc:   "How long a client may take to send a request's header; 0 is no limit.",
		parse: duration(func(c *Config) *time.Duration { return &c.HTTP.HeaderReadTimeout }),
	},
	{
		Name: "FN_REQUEST_BODY_READ_TIMEOUT", Group: "HTTP", Default: "300s", Form: formDuration,
		Doc:   "How long the server waits for the pieces of one request's body, all together; 0 is no limit.",
		parse: duration(func(c *Config) *time.Duration { return &c.HTTP.BodyReadTimeout }),
	},
	{
		Name: "FN_RESPONSE_WRITE_TIMEOUT", Group: "HTTP", Default: "0", Form: formDuration,
		Doc:   "How long a request may take from its header to the end of its response, the function's time included; 0 is no limit.",
		parse: duration(func(c *Config) *time.Duration { return &c.HTTP.WriteTimeout }),
	},
	{
		Name: "FN_HTTP_IDLE_TIMEOUT", Group: "HTTP", Default: "120s", Form: formDuration,
		Doc:   "How long a client's unused connection is kept; 0 is no limit.",
		parse: duration(func(c *Config) *time.Duration { return &c.HTTP.IdleTimeout }),
	},

	// Log
	{
		Name: "FN_LOG_FORMAT", Group: "Log", Default: "text", Form: "text or json",
		Doc:   "Form of the log.",
		parse: logFormat,
	},
	{
		Name: "FN_LOG_LEVEL", Group: "Log", Default: "info", Form: "panic, fatal, error, warn, info, debug or trace",
		Doc:   "Least level that is logged. What functions print is at debug.",
		parse: logLevel,
	},
	{
		Name: "FN_LOG_DEST", Group: "Log", Default: "stderr", Form: "stderr or file:///<path>",
		Doc:   "Where the log goes.",
		parse: logDest,
	},

	// Calls
	{
		Name: "FN_HOT_START_TIMEOUT_MSECS", Group: "Calls", Default: "5000", Form: formMillis,
		Doc:   "From a container's start to the function's socket.",
		parse: millis(func(c *Config) *time.Duration { return &c.Runner.StartTimeout }),
	},
	{
		Name: "FN_HOT_PULL_TIMEOUT_MSECS", Group: "Calls", Default: "600000", Form: formMillis,
		Doc:   "For the pull of an image.",
		parse: millis(func(c *Config) *time.Duration { return &c.Runner.PullTimeout }),
	},
	{
		Name: "FN_QUEUE_TIMEOUT", Group: "Calls", Default: "60s", Form: formDuration,
		Doc:   "How long a call waits for an instance before it gets 503; 0 is no limit.",
		parse: duration(func(c *Config) *time.Duration { return &c.Runner.QueueTimeout }),
	},
	{
		Name: "FN_QUEUE_SIZE", Group: "Calls", Default: "1024", Form: "whole number from 1",
		Doc:   "How many calls of one function may wait; one more gets 503.",
		parse: positive(func(c *Config, n int64) { c.Runner.QueueSize = int(n) }),
	},
	{
		Name: "FN_ENABLE_NB_RESOURCE_TRACKER", Group: "Calls", Default: "false", Form: formBool,
		Doc:   "Answer 503 at once to calls that cannot have an instance now, instead of letting them wait.",
		parse: boolean(func(c *Config, b bool) { c.Runner.FailFast = b }),
	},
	{
		Name: "FN_MAX_RESPONSE_SIZE", Group: "Calls", Default: "0", Form: formBytes,
		Doc:   "Largest body of a function's answer; 0 is no limit.",
		parse: whole(func(c *Config, n int64) { c.Runner.MaxResponseBytes = n }),
	},
	{
		Name: "FN_MAX_HDR_RESPONSE_SIZE", Group: "Calls", Default: "0", Form: formBytes,
		Doc:   "Largest header of a function's answer; 0 is 10 MiB.",
		parse: whole(func(c *Config, n int64) { c.Runner.MaxResponseHeaderBytes = n }),
	},
	{
		Name: "FN_RESPONSE_HOLD_SIZE", Group: "Calls", Default: "8388608", Form: formBytes,
		Doc:   "Response limits up to this are checked before the first byte is sent, by holding answers of unknown length back; above it, an answer that turns out too large is cut off.",
		parse: whole(func(c *Config, n int64) { c.Runner.ResponseHoldBytes = n }),
	},
	{
		Name: "FN_MAX_DETACHED_SIZE", Group: "Calls", Default: "8388608", Form: formBytes,
		Doc:   "Largest body of a detached call, which is held in memory; 0 is no limit.",
		parse: whole(func(c *Config, n int64) { c.Runner.MaxDetachedBytes = n }),
	},
	{
		Name: "FN_DISABLE_DEBUG_USER_LOGS", Group: "Calls", Default: "false", Form: formBool,
		Doc:   "Throw away what functions print, instead of logging it at debug level.",
		parse: boolean(func(c *Config, b bool) { c.Runner.LogOutput = !b }),
	},

	// Capacity
	{
		Name: "FN_MAX_TOTAL_MEMORY_BYTES", Group: "Capacity", Default: "0", Form: formBytes,
		Doc:   "What all containers together may use; 0 is what the machine has available, less headroom.",
		parse: whole(func(c *Config, n int64) { c.Runner.MaxMemoryBytes = n }),
	},
	{
		Name: "FN_MAX_TOTAL_CPU_MCPUS", Group: "Capacity", Default: "0", Form: "whole number from 0, 1000 is a processor",
		Doc:   "Likewise for processor time; 0 is all of it.",
		parse: whole(func(c *Config, n int64) { c.Runner.MaxMilliCPU = n }),
	},

	// Containers
	{
		Name: "FN_MAX_PIDS", Group: "Containers", Default: "50", Form: "whole number from 0",
		Doc:   "Processes in a container; 0 is no limit.",
		parse: whole(func(c *Config, n int64) { c.Runner.Processes = n }),
	},
	{
		Name: "FN_MAX_OPEN_FILES", Group: "Containers", Default: "350", Form: "whole number from 0",
		Doc:   "Open files per process; 0 leaves it to the engine, likewise below.",
		parse: whole(func(c *Config, n int64) { c.Runner.OpenFiles = n }),
	},
	{
		Name: "FN_MAX_LOCKED_MEMORY", Group: "Containers", Default: "65536", Form: formBytes,
		Doc:   "Locked memory per process.",
		parse: whole(func(c *Config, n int64) { c.Runner.LockedMemoryBytes = n }),
	},
	{
		Name: "FN_MAX_PENDING_SIGNALS", Group: "Containers", Default: "5000", Form: "whole number from 0",
		Doc:   "Pending signals per user.",
		parse: whole(func(c *Config, n int64) { c.Runner.PendingSignals = n }),
	},
	{
		Name: "FN_MAX_MESSAGE_QUEUE", Group: "Containers", Default: "819200", Form: formBytes,
		Doc:   "Message queues per user.",
		parse: whole(func(c *Config, n int64) { c.Runner.MessageQueueBytes = n }),
	},
	{
		Name: "FN_MAX_FS_SIZE_MB", Group: "Containers", Default: "0", Form: "whole number of MiB from 0",
		Doc:   "Size of a container's writable layer, where the engine's storage can limit it; 0 is no limit.",
		parse: whole(func(c *Config, n int64) { c.Runner.DiskMiB = n }),
	},
	{
		Name: "FN_MAX_TMPFS_INODES", Group: "Containers", Default: "0", Form: "whole number from 0",
		Doc:   "Files in /tmp, where its size is limited; 0 is no limit.",
		parse: whole(func(c *Config, n int64) { c.Runner.TmpInodes = n }),
	},
	{
		Name: "FN_DISABLE_READONLY_ROOTFS", Group: "Containers", Default: "false", Form: formBool,
		Doc:   "Let functions write to their root file system.",
		parse: boolean(func(c *Config, b bool) { c.Runner.WritableRoot = b }),
	},
	{
		Name: "FN_DISABLE_UNPRIVILEGED_CONTAINERS", Group: "Containers", Default: "false", Form: formBool,
		Doc:   "Run functions as their image's user and with the engine's default capabilities.",
		parse: boolean(func(c *Config, b bool) { c.Runner.Privileged = b }),
	},
	{
		Name: "FN_IOFS_PATH", Group: "Containers", Form: "path",
		Doc:   "Where the directories for functions' sockets are made. Default: the system's temporary directory.",
		parse: text(func(c *Config) *string { return &c.Sockets.Path }),
	},
	{
		Name: "FN_IOFS_DOCKER_PATH", Group: "Containers", Form: "path",
		Doc:   "The same directory as the container engine sees it. Default: FN_IOFS_PATH.",
		parse: text(func(c *Config) *string { return &c.Sockets.EnginePath }),
	},

	// Container engine
	{
		Name: "FN_DRIVER", Group: "Container engine", Default: "auto", Form: "auto or docker",
		Doc:   "Which kind of container engine to use.",
		parse: driverName,
	},
	{
		Name: "DOCKER_HOST", Group: "Container engine", Default: "unix:///var/run/docker.sock", Form: "unix://<path> or tcp://<host>:<port>",
		Doc:   "Where the engine answers.",
		parse: text(func(c *Config) *string { return &c.Engine.Host }),
	},
	{
		Name: "DOCKER_CERT_PATH", Group: "Container engine", Form: "path",
		Doc:   "Directory of ca.pem, cert.pem and key.pem for TLS. Default: no TLS.",
		parse: text(func(c *Config) *string { return &c.Engine.CertPath }),
	},
	{
		Name: "DOCKER_TLS_VERIFY", Group: "Container engine", Form: "anything or nothing",
		Doc: "If not empty, the engine's certificate is verified.",
		parse: func(c *Config, value string) error {
			c.Engine.TLSVerify = value != ""
			return nil
		},
	},
	{
		Name: "FN_ENGINE_TIMEOUT", Group: "Container engine", Default: "30s", Form: formDuration,
		Doc:   "For one request to the engine.",
		parse: duration(func(c *Config) *time.Duration { return &c.Engine.CallTimeout }),
	},
	{
		Name: "FN_DOCKER_NETWORKS", Group: "Container engine", Form: "list of names, separated by spaces or commas",
		Doc:   "Networks to spread containers over. Default: the engine's own.",
		parse: list(func(c *Config) *[]string { return &c.Engine.Networks }),
	},
	{
		Name: "FN_CONTAINER_LABEL_TAG", Group: "Container engine", Form: "text",
		Doc:   "Marks this node's containers, so that those which a crash left behind are removed at the next start. Use one tag per node.",
		parse: text(func(c *Config) *string { return &c.Engine.LabelTag }),
	},
	{
		Name: "FN_IMAGE_ENABLE_VOLUME", Group: "Container engine", Default: "false", Form: formBool,
		Doc:   "Allow images that declare volumes.",
		parse: boolean(func(c *Config, b bool) { c.Engine.EnableVolumes = b }),
	},
}

// notYet are variables of Fn that have no effect in this version, and why.
var notYet = map[string]string{
	"FN_API_URL":                        "it is for clients",
	"FN_DOCKER_AUTH":                    "images are pulled anonymously yet",
	"FN_DOCKER_LOAD_FILE":               "images are not loaded at start yet",
	"FN_EJECT_IDLE_MSECS":               "instances are evicted when memory is needed",
	"FN_EXECUTION_HEADROOM":             "there are no load balancer nodes yet",
	"FN_EXPERIMENTAL_PREFORK_CMD":       "there is no prefork pool yet",
	"FN_EXPERIMENTAL_PREFORK_IMAGE":     "there is no prefork pool yet",
	"FN_EXPERIMENTAL_PREFORK_NETWORKS":  "there is no prefork pool yet",
	"FN_EXPERIMENTAL_PREFORK_POOL_SIZE": "there is no prefork pool yet",
	"FN_EXPERIMENTAL_PREFORK_USE_ONCE":  "there is no prefork pool yet",
	"FN_FREEZE_IDLE_MSECS":              "idle containers are not frozen yet",
	"FN_GRPC_PORT":                      "there are no runner nodes yet",
	"FN_HOT_LAUNCHER_TIMEOUT_MSECS":     "there are no launchers to time out",
	"FN_HOT_POLL_MSECS":                 "nothing is polled",
	"FN_IMAGE_CLEAN_EXEMPT_TAGS":        "images are not cleaned up yet",
	"FN_IMAGE_CLEAN_MAX_SIZE":           "images are not cleaned up yet",
	"FN_IOFS_OPTS":                      "socket directories are plain directories",
	"FN_IOFS_TMPFS":                     "socket directories are plain directories",
	"FN_JAEGER_URL":                     "there are no traces yet",
	"FN_LOCAL_DEBUG":                    "it is for the fn command",
	"FN_LOCAL_DEBUG_PORT":               "it is for the fn command",
	"FN_LOG_PREFIX":                     "the log does not go to syslog yet",
	"FN_MAX_LOG_SIZE_BYTES":             "a call's output is not kept",
	"FN_MQ_URL":                         "there is no message queue",
	"FN_PLACER":                         "there are no load balancer nodes yet",
	"FN_PROCESS_COLLECTOR_LIST":         "other processes are not watched",
	"FN_RUNNER_ADDRESSES":               "there are no load balancer nodes yet",
	"FN_RUNNER_API_URL":                 "there are no load balancer nodes yet",
	"FN_ZIPKIN_URL":                     "there are no traces yet",
}
