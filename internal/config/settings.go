package config

import (
	"slices"
	"time"
)

// Setting is one environment variable that a node reads.
type Setting struct {
	Name    string
	Group   string // heading in the documentation
	Form    string // what is accepted
	Default string // as it would be given; empty: see Doc
	Doc     string

	parse func(c *Config, value string) error
}

// Headings of the documentation, in its order.
const (
	groupNode      = "Node"
	groupHTTP      = "HTTP"
	groupLog       = "Log"
	groupCalls     = "Calls"
	groupCapacity  = "Capacity"
	groupScale     = "Instances of a function"
	groupContainer = "Containers"
	groupEngine    = "Container engine"
	groupPrefork   = "Prefork pool"
	groupSandbox   = "Native driver"
	groupPool      = "Pools of namespaces and sandboxes"
	groupRegistry  = "Registry of the native driver"
	groupLB        = "Load balancer"
	groupPlacement = "Runners of a load balancer"
)

// settings is the table. Order is that of the documentation.
var settings = slices.Concat(nodeSettings, httpSettings, logSettings, callSettings, scaleSettings, containerSettings, engineSettings, preforkSettings, sandboxSettings, poolSettings, registrySettings, lbSettings, placementSettings, rpcSettings)

var nodeSettings = []Setting{
	{
		"FN_NODE_TYPE", groupNode, "full, api, lb or pure-runner", "full",
		"What the node does: `full` keeps definitions and executes calls, `api` only keeps definitions, `lb` accepts calls and has runners execute them, `pure-runner` only executes calls that load balancers send.", nodeType,
	},
	{
		"FN_DB_URL", groupNode, "sqlite3://<path>", "",
		"Where definitions are kept. Default: data/fn.db below the working directory.", secret(databaseURL, maskURL),
	},
	{
		"FN_DS_DB_PING_MAX_RETRIES", groupNode, "whole number from 0", "10",
		"How often reaching the database is tried at start, a second apart.", whole(func(c *Config, n int64) { c.Store.PingRetries = int(n) }),
	},
	{
		"FN_SHUTDOWN_TIMEOUT", groupNode, formDuration, "30s",
		"How long calls in progress may take to finish when the server is told to stop.", duration(func(c *Config) *time.Duration { return &c.ShutdownTimeout }),
	},
	{
		"FN_SHUTDOWN_DELAY", groupNode, formDuration, "0",
		"How long it goes on serving before that, with `/ready` answering 503, so that whoever sends it requests can stop doing so.", duration(func(c *Config) *time.Duration { return &c.ShutdownDelay }),
	},
}

var httpSettings = []Setting{
	{
		"FN_HOST", groupHTTP, "host name or address", "",
		"Address to listen on. Default: all.", text(func(c *Config) *string { return &c.HTTP.Host }),
	},
	{
		"FN_PORT", groupHTTP, "port from 0 to 65535", "8080",
		"Port to listen on; 0 takes any free one and says which in the log.", port,
	},
	{
		"FN_PUBLIC_LB_URL", groupHTTP, "http or https URL", "",
		"Base of the endpoints that responses name. Default: the address that the client used.", publicURL,
	},
	{
		"FN_API_CORS_ORIGINS", groupHTTP, "* or a list of origins, separated by commas", "",
		"Origins whose pages may use the server. Default: CORS is off.", list(func(c *Config) *[]string { return &c.HTTP.CORSOrigins }),
	},
	{
		"FN_API_CORS_HEADERS", groupHTTP, "list of header names, separated by commas", "Origin,Content-Length,Content-Type",
		"Headers that such pages may send.", list(func(c *Config) *[]string { return &c.HTTP.CORSHeaders }),
	},
	{
		"FN_RID_HEADER", groupHTTP, "header name", "",
		"Header that carries a request's identifier into the log; a new one is made if it is absent. Default: no identifiers.", text(func(c *Config) *string { return &c.HTTP.RequestIDHeader }),
	},
	{
		"FN_MAX_REQUEST_SIZE", groupHTTP, formBytes, "0",
		"Largest body of any request; 0 is no limit.", whole(func(c *Config, n int64) { c.HTTP.MaxRequestBytes = n }),
	},
	{
		"FN_MAX_REQUEST_HEADER_SIZE", groupHTTP, formSomeBytes, "1048576",
		"Largest header of any request.", positive(func(c *Config, n int64) { c.HTTP.MaxRequestHeaderBytes = n }),
	},
	{
		"FN_MAX_DEFINITION_SIZE", groupHTTP, formSomeBytes, "10485760",
		"Largest body of a request that creates or changes a definition.", positive(func(c *Config, n int64) { c.HTTP.MaxDefinitionBytes = n }),
	},
	{
		"FN_REQUEST_HEADER_READ_TIMEOUT", groupHTTP, formDuration, "10s",
		"How long a client may take to send a request's header; 0 is no limit.", duration(func(c *Config) *time.Duration { return &c.HTTP.HeaderReadTimeout }),
	},
	{
		"FN_REQUEST_BODY_READ_TIMEOUT", groupHTTP, formDuration, "300s",
		"How long the server waits for the pieces of one request's body, all together; 0 is no limit.", duration(func(c *Config) *time.Duration { return &c.HTTP.BodyReadTimeout }),
	},
	{
		"FN_RESPONSE_WRITE_TIMEOUT", groupHTTP, formDuration, "0",
		"How long a request may take from its header to the end of its response, the function's time included; 0 is no limit.", duration(func(c *Config) *time.Duration { return &c.HTTP.WriteTimeout }),
	},
	{
		"FN_HTTP_IDLE_TIMEOUT", groupHTTP, formDuration, "120s",
		"How long a client's unused connection is kept; 0 is no limit.", duration(func(c *Config) *time.Duration { return &c.HTTP.IdleTimeout }),
	},
}

var logSettings = []Setting{
	{"FN_LOG_FORMAT", groupLog, "text or json", "text", "Form of the log.", logFormat},
	{"FN_LOG_LEVEL", groupLog, "panic, fatal, error, warn, info, debug or trace", "info", "Least level that is logged. What functions print is at debug.", logLevel},
	{"FN_LOG_DEST", groupLog, "stderr or file:///<path>", "stderr", "Where the log goes.", logDest},
}

var callSettings = []Setting{
	{
		"FN_HOT_START_TIMEOUT_MSECS", groupCalls, formMillis, "5000",
		"From a container's start to the function's socket.", millis(func(c *Config) *time.Duration { return &c.Runner.StartTimeout }),
	},
	{
		"FN_HOT_PULL_TIMEOUT_MSECS", groupCalls, formMillis, "600000",
		"For the pull of an image.", millis(func(c *Config) *time.Duration { return &c.Runner.PullTimeout }),
	},
	{
		"FN_QUEUE_TIMEOUT", groupCalls, formDuration, "60s",
		"How long a call waits for an instance before it gets 503; 0 is no limit.", duration(func(c *Config) *time.Duration { return &c.Runner.QueueTimeout }),
	},
	{
		"FN_QUEUE_SIZE", groupCalls, "whole number from 1", "1024",
		"How many calls of one function may wait; one more gets 503.", positive(func(c *Config, n int64) { c.Runner.QueueSize = int(n) }),
	},
	{
		"FN_FREEZE_IDLE_MSECS", groupCalls, "whole number of milliseconds, negative for never", "50",
		"How long an instance is idle before it is frozen, so that it takes no processor time.", freezeAfter,
	},
	{
		"FN_IMAGE_REFRESH", groupCalls, formDuration, "15m",
		"How often the registry is asked whether the name of a called function's image means another image by now; 0 is never. Calls do not wait for that.", duration(func(c *Config) *time.Duration { return &c.Runner.ImageRefresh }),
	},
	{
		"FN_ENABLE_NB_RESOURCE_TRACKER", groupCalls, formBool, "false",
		"Answer 503 at once to calls that cannot have an instance now, instead of letting them wait.", boolean(func(c *Config, b bool) { c.Runner.FailFast = b }),
	},
	{
		"FN_MAX_RESPONSE_SIZE", groupCalls, formBytes, "0",
		"Largest body of a function's answer; 0 is no limit.", whole(func(c *Config, n int64) { c.Runner.MaxResponseBytes = n }),
	},
	{
		"FN_MAX_HDR_RESPONSE_SIZE", groupCalls, formBytes, "0",
		"Largest header of a function's answer; 0 is 10 MiB.", whole(func(c *Config, n int64) { c.Runner.MaxResponseHeaderBytes = n }),
	},
	{
		"FN_RESPONSE_HOLD_SIZE", groupCalls, formBytes, "8388608",
		"Response limits up to this are checked before the first byte is sent, by holding answers of unknown length back; above it, an answer that turns out too large is cut off.", whole(func(c *Config, n int64) { c.Runner.ResponseHoldBytes = n }),
	},
	{
		"FN_MAX_DETACHED_SIZE", groupCalls, formBytes, "8388608",
		"Largest body of a detached call, which is held in memory; 0 is no limit.", whole(func(c *Config, n int64) { c.Runner.MaxDetachedBytes = n }),
	},
	{
		"FN_DISABLE_DEBUG_USER_LOGS", groupCalls, formBool, "false",
		"Throw away what functions print, instead of logging it at debug level and with failed calls. What goes to syslog still does.", boolean(func(c *Config, b bool) { c.Runner.LogOutput = !b }),
	},
	{
		"FN_MAX_LOG_SIZE_BYTES", groupCalls, formBytes, "1048576",
		"How much of what one call prints is logged and sent to syslog; the rest is dropped, with a line that says so. 0 is the default.", whole(func(c *Config, n int64) { c.Runner.MaxLogBytes = n }),
	},
	{
		"FN_MAX_TOTAL_MEMORY_BYTES", groupCapacity, formBytes, "0",
		"What all containers together may use; 0 is what the machine has available, less headroom.", whole(func(c *Config, n int64) { c.Runner.MaxMemoryBytes = n }),
	},
	{
		"FN_MAX_TOTAL_CPU_MCPUS", groupCapacity, "whole number from 0, 1000 is a processor", "0",
		"Likewise for processor time; 0 is all of it.", whole(func(c *Config, n int64) { c.Runner.MaxMilliCPU = n }),
	},
}

var scaleSettings = []Setting{
	{
		"FN_MIN_INSTANCES", groupScale, formInstances, "0",
		"How many instances a function keeps, called or not.", scale(func(c *Config, n int) { c.Runner.Scale.MinInstances = n }),
	},
	{
		"FN_MAX_INSTANCES", groupScale, formInstances, "0",
		"How many instances a function may have at one time; 0 is no bound.", scale(func(c *Config, n int) { c.Runner.Scale.MaxInstances = n }),
	},
	{
		"FN_MAX_CALLS_PER_INSTANCE", groupScale, "whole number from 0", "0",
		"How many calls an instance serves before it is replaced; 0 is no bound.", whole(func(c *Config, n int64) { c.Runner.Scale.MaxCalls = int(n) }),
	},
	{
		"FN_MAX_INSTANCE_AGE", groupScale, formDuration, "0",
		"How long an instance lives before it is replaced; 0 is no bound.", duration(func(c *Config) *time.Duration { return &c.Runner.Scale.MaxAge }),
	},
	{
		"FN_MIN_INSTANCES_PERCENT", groupScale, formPercent, "75",
		"How much of the node's memory and processor time minimum instances may take, all together. What exceeds it is not kept.", percent(func(c *Config, n int) { c.Runner.StockPercent = n }),
	},
	{
		"FN_YIELD_AFTER", groupScale, formDuration, "1s",
		"How long a function waits, when there is no free memory, until one that uses more must give up an instance between two calls.", duration(func(c *Config) *time.Duration { return &c.Runner.YieldAfter }),
	},
}

var containerSettings = []Setting{
	{
		"FN_MAX_PIDS", groupContainer, "whole number from 0", "50",
		"Processes in a container; 0 is no limit.", whole(func(c *Config, n int64) { c.Runner.Processes = n }),
	},
	{
		"FN_MAX_OPEN_FILES", groupContainer, "whole number from 0", "350",
		"Open files per process; 0 leaves it to the engine, likewise below.", whole(func(c *Config, n int64) { c.Runner.OpenFiles = n }),
	},
	{
		"FN_MAX_LOCKED_MEMORY", groupContainer, formBytes, "65536",
		"Locked memory per process.", whole(func(c *Config, n int64) { c.Runner.LockedMemoryBytes = n }),
	},
	{
		"FN_MAX_PENDING_SIGNALS", groupContainer, "whole number from 0", "5000",
		"Pending signals per user.", whole(func(c *Config, n int64) { c.Runner.PendingSignals = n }),
	},
	{
		"FN_MAX_MESSAGE_QUEUE", groupContainer, formBytes, "819200",
		"Message queues per user.", whole(func(c *Config, n int64) { c.Runner.MessageQueueBytes = n }),
	},
	{
		"FN_MAX_FS_SIZE_MB", groupContainer, "whole number of MiB from 0", "0",
		"Size of a container's writable layer, where the engine's storage can limit it; 0 is no limit.", whole(func(c *Config, n int64) { c.Runner.DiskMiB = n }),
	},
	{
		"FN_MAX_TMPFS_INODES", groupContainer, "whole number from 0", "0",
		"Files in /tmp, where its size is limited; 0 is no limit.", whole(func(c *Config, n int64) { c.Runner.TmpInodes = n }),
	},
	{
		"FN_DISABLE_READONLY_ROOTFS", groupContainer, formBool, "false",
		"Let functions write to their root file system.", boolean(func(c *Config, b bool) { c.Runner.WritableRoot = b }),
	},
	{
		"FN_DISABLE_UNPRIVILEGED_CONTAINERS", groupContainer, formBool, "false",
		"Run functions as their image's user and with the engine's default capabilities.", boolean(func(c *Config, b bool) { c.Runner.Privileged = b }),
	},
	{
		"FN_IOFS_PATH", groupContainer, "path", "",
		"Where the directories for functions' sockets are made. Default: the system's temporary directory.", text(func(c *Config) *string { return &c.Sockets.Path }),
	},
	{
		"FN_IOFS_DOCKER_PATH", groupContainer, "path", "",
		"The same directory as the container engine sees it. Default: FN_IOFS_PATH.", text(func(c *Config) *string { return &c.Sockets.EnginePath }),
	},
}

var engineSettings = []Setting{
	{"FN_DRIVER", groupEngine, "auto, docker or native", "auto", "What runs containers: `native`, the server itself (docs/sandbox.md), or `docker`; `auto`, the first where this machine allows it and no setting is for Docker alone, else Docker. `fnserver doctor` tells.", driverName},
	{
		"DOCKER_HOST", groupEngine, "unix://<path> or tcp://<host>:<port>", "unix:///var/run/docker.sock",
		"Where the engine answers.", text(func(c *Config) *string { return &c.Engine.Host }),
	},
	{
		"DOCKER_CERT_PATH", groupEngine, "path", "",
		"Directory of ca.pem, cert.pem and key.pem for TLS. Default: no TLS.", text(func(c *Config) *string { return &c.Engine.CertPath }),
	},
	{
		"DOCKER_TLS_VERIFY", groupEngine, "anything or nothing", "",
		"If not empty, the engine's certificate is verified.", func(c *Config, v string) error { c.Engine.TLSVerify = v != ""; return nil },
	},
	{
		"FN_ENGINE_TIMEOUT", groupEngine, formDuration, "30s",
		"For one request to the engine.", duration(func(c *Config) *time.Duration { return &c.Engine.CallTimeout }),
	},
	{
		"FN_ENGINE_FAILURES", groupEngine, "whole number from 1", "3",
		"After so many requests in a row without an answer from the engine, calls that need a new container are refused at once, until the engine answers again.", positive(func(c *Config, n int64) { c.Engine.Failures = int(n) }),
	},
	{
		"FN_ENGINE_MAX_PAUSE", groupEngine, formDuration, "30s",
		"How long such an engine is left alone at most, until it is tried again. The first pause is a second.", duration(func(c *Config) *time.Duration { return &c.Engine.MaxPause }),
	},
	{
		"FN_MAX_STARTS", groupEngine, "whole number from 1", "16",
		"Containers that the engine is asked to start at one time; others wait for their turn.", positive(func(c *Config, n int64) { c.Engine.MaxStarts = int(n) }),
	},
	{
		"FN_IMAGE_PULL_RETRIES", groupEngine, "whole number from 0", "2",
		"How often a pull that failed for a reason that may pass, such as a registry that is overloaded, is tried again, within FN_HOT_PULL_TIMEOUT_MSECS.", whole(func(c *Config, n int64) { c.Engine.PullRetries = int(n) }),
	},
	{
		"FN_DOCKER_AUTH", groupEngine, "the JSON of a Docker config.json", "",
		"Credentials for the registries that images are pulled from. Default: those of the config.json in DOCKER_CONFIG, which is read anew for each pull.", secret(dockerAuth, maskAll),
	},
	{
		"DOCKER_CONFIG", groupEngine, "path", "",
		"Directory of Docker's config.json. Default: .docker in the home directory.", text(func(c *Config) *string { return &c.Engine.ConfigDir }),
	},
	{
		"FN_APP_DOCKER_AUTH_DIR", groupEngine, "path", "",
		"Directory of files `<app id>.json` in the form of Docker's config.json: credentials of single apps, read anew for each pull. Default: apps have none of their own.", text(func(c *Config) *string { return &c.Engine.AppAuthDir }),
	},
	{
		"FN_IMAGE_ACCESS_TTL", groupEngine, formDuration, "10m",
		"How long it is believed that an app may use an image which was pulled with credentials of an app; 0 asks the registry each time that the image is looked for.", duration(func(c *Config) *time.Duration { return &c.Engine.AccessTTL }),
	},
	{
		"FN_DOCKER_LOAD_FILE", groupEngine, "path", "",
		"Archive of images, as `docker save` writes it, that is loaded at start. Default: none.", text(func(c *Config) *string { return &c.Engine.LoadFile }),
	},
	{
		"FN_DOCKER_NETWORKS", groupEngine, formNames, "",
		"Networks to spread containers over. Default: the engine's own.", list(func(c *Config) *[]string { return &c.Engine.Networks }),
	},
	{
		"FN_STATE_DIR", groupEngine, "path", "",
		"Where the server keeps what its next start has to know: which containers are those of a server that crashed, which images are private, and, with the native driver, the images themselves. Servers that use the same Docker engine may share it; with the native driver each needs its own. Default: data below the working directory.", text(func(c *Config) *string { return &c.Engine.StateDir }),
	},
	{
		"FN_CONTAINER_LABEL_TAG", groupEngine, "text", "",
		"Marks this node's containers with Fn's labels. All others with the tag are removed at the next start, also without FN_STATE_DIR. Use one tag per node. Default: none.", text(func(c *Config) *string { return &c.Engine.LabelTag }),
	},
	{
		"FN_CONTAINER_RUNTIME", groupEngine, "name", "",
		"OCI runtime of containers whose functions ask for no other, such as `crun`, `runsc` or `kata`, by the engine's name for it. Default: the engine's own.", text(func(c *Config) *string { return &c.Engine.Runtime }),
	},
	{
		"FN_CONTAINER_RUNTIMES_ALLOWED", groupEngine, "list of names, separated by spaces or commas", "",
		"Runtimes that functions may ask for with the annotation `tine/runtime`, besides FN_CONTAINER_RUNTIME. Default: no other.", list(func(c *Config) *[]string { return &c.Engine.Runtimes }),
	},
	{
		"FN_IMAGE_ENABLE_VOLUME", groupEngine, formBool, "false",
		"Allow images that declare volumes.", boolean(func(c *Config, b bool) { c.Engine.EnableVolumes = b }),
	},
	{
		"FN_IMAGE_CLEAN_MAX_SIZE", groupEngine, formBytes, "0",
		"What the images of the engine, or of the native driver, may take together. Beyond it, those that were not used for longest are removed, but none that a container or a launch needs; 0 is no limit.",
		whole(func(c *Config, n int64) { c.Engine.MaxImageBytes = n }),
	},
	{
		"FN_IMAGE_CLEAN_EXEMPT_TAGS", groupEngine, "list of images, separated by spaces or commas", "",
		"Images that are not counted and never removed, each with a tag (`latest` if there is none) or a digest, or by its identifier. Default: none.",
		list(func(c *Config) *[]string { return &c.Engine.ExemptImages }),
	},
}
