package config

import "time"

// Headings of the documentation.
const (
	groupRPC    = "Connections between load balancers and runners"
	groupRunner = "Runners"
)

// RPC is about connections between load balancers and runners.
type RPC struct {
	Port int // of a runner; 0: any free one

	Cert, Key string // paths of a runner's certificate; empty: no TLS
	ClientCA  string // path; empty: everybody may connect

	RunnerCA              string // path, of who runners' certificates are believed from; empty: no TLS
	RunnerCert, RunnerKey string // paths of a load balancer's own certificate; empty: none
	RunnerName            string // what all runners are called in theirs; empty: as they are addressed
	ConnectTimeout        time.Duration
	DirectConnections     int // to each runner; 0: none

	MaxMessageBytes  int
	KeepAliveIdle    time.Duration // 0: never
	KeepAliveTimeout time.Duration
	KeepAliveLeast   time.Duration // between a client's; 0: any

	Detached    bool // runners execute such calls
	StatusImage string
	BarrierFile string // path
}

// maxRPCMessage is the largest message that can be set: what is larger is no
// definition.
const maxRPCMessage = 1 << 30

// rpcSettings are those of pure-runner nodes, and of what load balancers have to do
// with them.
var rpcSettings = []Setting{
	{
		"FN_GRPC_PORT", groupRPC, "port from 0 to 65535", "9190",
		"Port on which a runner takes calls from load balancers; 0 takes any free one and says which in the log. The address is FN_HOST.",
		between(0, 65535, func(c *Config, n int) { c.RPC.Port = n }),
	},
	{
		"FN_GRPC_TLS_CERT", groupRPC, "path", "",
		"A runner's certificate with its chain, PEM. It is read again when it has changed. Default: no TLS, and the configuration of functions travels in clear.",
		text(func(c *Config) *string { return &c.RPC.Cert }),
	},
	{
		"FN_GRPC_TLS_KEY", groupRPC, "path", "",
		"Its private key, PEM.", text(func(c *Config) *string { return &c.RPC.Key }),
	},
	{
		"FN_GRPC_TLS_CLIENT_CA", groupRPC, "path", "",
		"Certificates of authorities, PEM: a runner lets only those load balancers connect that have a certificate of one of them. Default: all.",
		text(func(c *Config) *string { return &c.RPC.ClientCA }),
	},
	{
		"FN_RUNNER_TLS_CA", groupRPC, "path", "",
		"Certificates of authorities, PEM: a load balancer connects by TLS, and believes runners that have a certificate of one of them. Default: no TLS.",
		text(func(c *Config) *string { return &c.RPC.RunnerCA }),
	},
	{
		"FN_RUNNER_TLS_NAME", groupRPC, "host name", "",
		"What all runners are called in their certificates. Default: each as it is addressed.", text(func(c *Config) *string { return &c.RPC.RunnerName }),
	},
	{
		"FN_RUNNER_TLS_CERT", groupRPC, "path", "",
		"A load balancer's own certificate for runners with FN_GRPC_TLS_CLIENT_CA, PEM. It is read again when it has changed. Default: none.",
		text(func(c *Config) *string { return &c.RPC.RunnerCert }),
	},
	{
		"FN_RUNNER_TLS_KEY", groupRPC, "path", "",
		"Its private key, PEM.", text(func(c *Config) *string { return &c.RPC.RunnerKey }),
	},
	{
		"FN_RUNNER_CONNECT_TIMEOUT", groupRPC, formDuration, "1s",
		"How long a load balancer tries to connect to a runner until it takes it for unreachable; 0 is the default.",
		duration(func(c *Config) *time.Duration { return &c.RPC.ConnectTimeout }),
	},
	{
		"FN_RUNNER_DIRECT_CONNECTIONS", groupRPC, "whole number from 0 to 65535", "512",
		"How many connections for one call at a time a load balancer has to each runner, at most: a call takes less time on one. The others go over gRPC, as all do to runners of Fn.",
		between(0, 65535, func(c *Config, n int) { c.RPC.DirectConnections = n }),
	},
	{
		"FN_GRPC_MAX_MESSAGE_SIZE", groupRPC, "whole number of bytes from 65536 to 1073741824", "4194304",
		"Largest message on both sides. Bodies travel in pieces of 10 KiB: only a call's definition and header can be large.",
		between(64<<10, maxRPCMessage, func(c *Config, n int) { c.RPC.MaxMessageBytes = n }),
	},
	{
		"FN_GRPC_KEEPALIVE_IDLE", groupRPC, formDuration, "60s",
		"After how long without a word each side asks the other whether it is there; gRPC does not ask more often than every 10s. 0 is never.",
		duration(func(c *Config) *time.Duration { return &c.RPC.KeepAliveIdle }),
	},
	{
		"FN_GRPC_KEEPALIVE_TIMEOUT", groupRPC, formDuration, "10s",
		"How long the other side may take to answer that, or to acknowledge anything, until the connection counts as broken and its calls as lost; 0 is the default.",
		duration(func(c *Config) *time.Duration { return &c.RPC.KeepAliveTimeout }),
	},
	{
		"FN_GRPC_KEEPALIVE_MIN", groupRPC, formDuration, "5s",
		"A load balancer that asks a runner more often than this is disconnected; 0 is the default.",
		duration(func(c *Config) *time.Duration { return &c.RPC.KeepAliveLeast }),
	},
	{
		"FN_RUNNER_DETACHED", groupRunner, formBool, "true",
		"A runner executes detached calls; otherwise it answers 501 to them.", boolean(func(c *Config, b bool) { c.RPC.Detached = b }),
	},
	{
		"FN_RUNNER_STATUS_IMAGE", groupRunner, "image", "",
		"Image of a function that a runner calls to find out how it is, when it is asked for its status; nobody else can call it. Default: none, the status is the numbers of calls.",
		text(func(c *Config) *string { return &c.RPC.StatusImage }),
	},
	{
		"FN_RUNNER_NETWORK_BARRIER", groupRunner, "path", "",
		"A file without which a runner's status says that the network is disabled, and its status image gets none. Default: the network is always there.",
		text(func(c *Config) *string { return &c.RPC.BarrierFile }),
	},
}
