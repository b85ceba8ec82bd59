package config

// notYet are variables of Fn that this version does not act on, with the
// reason. Setting one is worth a warning and no more.
var notYet = map[string]string{
	"FN_LOG_PREFIX":                 "the log does not go to syslog yet",
	"FN_ZIPKIN_URL":                 "there are no traces yet",
	"FN_JAEGER_URL":                 "there are no traces yet",
	"FN_PROCESS_COLLECTOR_LIST":     "other processes are not watched",
	"FN_HOT_POLL_MSECS":             "nothing is polled",
	"FN_HOT_LAUNCHER_TIMEOUT_MSECS": "there are no launchers to time out",
	"FN_IOFS_TMPFS":                 "socket directories are in memory with the native driver, and plain directories with Docker",
	"FN_IOFS_OPTS":                  "FN_SANDBOX_SOCKETS_INODES and FN_SANDBOX_SOCKETS_BYTES are its like",
	"FN_LOCAL_DEBUG":                "it is for the fn command",
	"FN_LOCAL_DEBUG_PORT":           "it is for the fn command",
	"FN_MQ_URL":                     "there is no message queue",
	"FN_EJECT_IDLE_MSECS":           "instances are evicted when memory is needed",
}

// foreign are variables of the fn command, which people have in their
// environment without meaning the server.
var foreign = []string{"FN_API_URL", "FN_REGISTRY", "FN_CONTEXT"}
