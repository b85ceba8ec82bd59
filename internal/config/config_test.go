package config

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// load reads settings that must be right.
func load(t *testing.T, environ ...string) (*Config, []string) {
	t.Helper()
	c, warnings, err := Load(environ, noFiles, "/srv/tine")
	if err != nil {
		t.Fatal(err)
	}
	return c, warnings
}

func noFiles(string) ([]byte, error) { return nil, os.ErrNotExist }

func TestDefaults(t *testing.T) {
	c, warnings := load(t, "HOME=/root", "PATH=/bin", "FN_API_URL=http://localhost:8080")
	if len(warnings) != 0 {
		t.Errorf("warnings: %q", warnings)
	}
	want := &Config{
		NodeType: NodeFull, ShutdownTimeout: 30 * time.Second,
		HTTP: HTTP{
			Port: 8080, CORSHeaders: []string{"Origin", "Content-Length", "Content-Type"},
			MaxRequestHeaderBytes: 1 << 20, MaxDefinitionBytes: 10 << 20,
			HeaderReadTimeout: 10 * time.Second, BodyReadTimeout: 300 * time.Second, IdleTimeout: 120 * time.Second,
		},
		Store: Store{URL: "sqlite3:///srv/tine/data/fn.db", PingRetries: 10},
		Log:   Log{Format: "text", Dest: "stderr"},
		Runner: Runner{
			PullTimeout: 10 * time.Minute, StartTimeout: 5 * time.Second, QueueTimeout: time.Minute, QueueSize: 1024,
			FreezeAfter: 50 * time.Millisecond, ImageRefresh: 15 * time.Minute, StockPercent: 75, YieldAfter: time.Second,
			ResponseHoldBytes: 8 << 20, MaxDetachedBytes: 8 << 20, LogOutput: true, MaxLogBytes: 1 << 20,
			Processes: 50, OpenFiles: 350, LockedMemoryBytes: 65536, PendingSignals: 5000, MessageQueueBytes: 819200,
		},
		Engine: Engine{Driver: "auto", Host: "unix:///var/run/docker.sock", ConfigDir: "/root/.docker", StateDir: "/srv/tine/data", AccessTTL: 10 * time.Minute, PullRetries: 2, CallTimeout: 30 * time.Second, Failures: 3, MaxPause: 30 * time.Second, MaxStarts: 16, Prefork: Prefork{
			Min: 5, Max: PreforkAuto, Command: []string{"tail", "-f", "/dev/null"}, Quarantine: time.Minute, KeepUsed: 5 * time.Minute,
		}, Sandbox: Sandbox{Min: 8, Max: 1000, MaxReady: PreforkAuto, Users: SandboxUsersAuto, AllowPrivate: true, SocketInodes: 64, SocketBytes: 65536}, Pool: Pool{AppShare: 75, CPUPercent: 80, MemoryPercent: 10, MinFreeBytes: 128 << 20}, Registry: Registry{
			MaxBlobBytes: 16 << 30, MaxUploads: 64, UploadTimeout: 10 * time.Minute, BodyTimeout: time.Minute,
		}},
		LB: LoadBalancer{
			APITimeout: time.Minute, APIRetries: 5, StaleFor: time.Hour, StalePatience: 500 * time.Millisecond, Definitions: 10_000, Headroom: 6 * time.Minute,
		},
		RPC: RPC{
			Port: 9190, ConnectTimeout: time.Second, DirectConnections: 512, MaxMessageBytes: 4 << 20, Detached: true,
			KeepAliveIdle: time.Minute, KeepAliveTimeout: 10 * time.Second, KeepAliveLeast: 5 * time.Second,
		},
		Placement: Placement{
			LookupInterval: 5 * time.Second, LookupTimeout: 5 * time.Second, FileInterval: time.Second, DrainTimeout: 10 * time.Minute,
			Placer: PlacerChoices, LoadFactor: 1.25, Timeout: 360 * time.Second, DetachedTimeout: 30 * time.Second,
			RetryDelay: 10 * time.Millisecond, MaxRetryDelay: 250 * time.Millisecond, MaxBackoff: 10 * time.Second,
			ProbeInterval: time.Second, ProbeTimeout: 3 * time.Second, MaxKeptBody: 1 << 20, MaxKeptBodies: 256 << 20,
		},
	}
	if diff := cmp.Diff(want, c, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestSettingsAreRead(t *testing.T) {
	c, warnings := load(t,
		"FN_NODE_TYPE=api", "FN_PORT=0", "FN_DB_URL=sqlite3://x.db", "FN_SHUTDOWN_TIMEOUT=2m5s", "FN_HTTP_IDLE_TIMEOUT=7",
		"FN_API_CORS_ORIGINS=https://a.example, https://b.example", "FN_DOCKER_NETWORKS=one two,three", "FN_LOG_LEVEL=DEBUG", "FN_LOG_FORMAT=JSON",
		"FN_LOG_DEST=file:///var/log/tine.log", "FN_MAX_REQUEST_SIZE= 6291456 ", "FN_ENABLE_NB_RESOURCE_TRACKER=1", "FN_DISABLE_DEBUG_USER_LOGS=t",
		"FN_HOT_START_TIMEOUT_MSECS=300000", "FN_HOT_PULL_TIMEOUT_MSECS=-1", "DOCKER_TLS_VERIFY=1", "FN_MAX_PIDS=0", "FN_PUBLIC_LB_URL=http://foo.example/somewhere",
		"FN_FREEZE_IDLE_MSECS=-5", "FN_IMAGE_REFRESH=0", "FN_IMAGE_ACCESS_TTL=1h", "FN_IMAGE_PULL_RETRIES=0", "FN_APP_DOCKER_AUTH_DIR=/run/apps", "FN_STATE_DIR=/var/lib/tine",
		"FN_MIN_INSTANCES=1", "FN_MAX_INSTANCES=2", "FN_MAX_CALLS_PER_INSTANCE=3", "FN_MAX_INSTANCE_AGE=4m", "FN_MIN_INSTANCES_PERCENT=50")
	if len(warnings) != 0 {
		t.Errorf("warnings: %q", warnings)
	}
	for name, ok := range map[string]bool{
		"node type": c.NodeType == NodeAPI, "port": c.HTTP.Port == 0, "url": c.Store.URL.Reveal() == "sqlite3://x.db",
		"duration": c.ShutdownTimeout == 2*time.Minute+5*time.Second, "seconds": c.HTTP.IdleTimeout == 7*time.Second,
		"list by commas":  slices.Equal(c.HTTP.CORSOrigins, []string{"https://a.example", "https://b.example"}),
		"list by either":  slices.Equal(c.Engine.Networks, []string{"one", "two", "three"}),
		"level":           c.Log.Level == slog.LevelDebug,
		"format":          c.Log.Format == "json",
		"log file":        c.Log.Dest == "file:///var/log/tine.log",
		"trimmed number":  c.HTTP.MaxRequestBytes == 6291456,
		"boolean":         c.Runner.FailFast && !c.Runner.LogOutput,
		"milliseconds":    c.Runner.StartTimeout == 5*time.Minute,
		"no limit":        c.Runner.PullTimeout == 0,
		"set is true":     c.Engine.TLSVerify,
		"images":          c.Runner.ImageRefresh == 0 && c.Engine.AccessTTL == time.Hour && c.Engine.PullRetries == 0,
		"paths":           c.Engine.AppAuthDir == "/run/apps" && c.Engine.StateDir == "/var/lib/tine",
		"never":           c.Runner.FreezeAfter < 0,
		"instances":       c.Runner.Scale == Scale{1, 2, 3, 4 * time.Minute} && c.Runner.StockPercent == 50,
		"zero":            c.Runner.Processes == 0,
		"url with a path": c.HTTP.PublicURL == "http://foo.example/somewhere",
	} {
		if !ok {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func TestAllWrongSettingsAreReportedAtOnce(t *testing.T) {
	_, _, err := Load([]string{
		"FN_NODE_TYPE=runner", "FN_PORT=70000", "FN_MAX_PIDS=-1", "FN_QUEUE_TIMEOUT=soon", "FN_QUEUE_SIZE=0", "FN_IMAGE_ENABLE_VOLUME=perhaps",
		"FN_PUBLIC_LB_URL=example.com", "FN_DRIVER=podman", "FN_HOT_START_TIMEOUT_MSECS=5s", "FN_MAX_TOTAL_MEMORY_BYTES=99999999999999999999",
		"FN_SHUTDOWN_TIMEOUT=-1s", "FN_HTTP_IDLE_TIMEOUT=9223372036854775807", "FN_RID_HEADER_FILE=/absent",
		"FN_MAX_INSTANCES=10001", "FN_MIN_INSTANCES_PERCENT=0", "FN_FREEZE_IDLE_MSECS=never", "FN_DOCKER_AUTH=secret",
	}, noFiles, "/")
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	want := []string{
		`FN_NODE_TYPE="runner": there is no such node type; expected full, api, lb or pure-runner (default full)`,
		`FN_SHUTDOWN_TIMEOUT="-1s": it is negative; expected duration like 500ms, 30s or 2m, or whole seconds (default 30s)`,
		`FN_PORT="70000": it is not a port; expected port from 0 to 65535 (default 8080)`,
		`FN_PUBLIC_LB_URL="example.com": it is not an http or https URL; expected http or https URL`,
		`FN_RID_HEADER="/absent": FN_RID_HEADER_FILE cannot be read: file does not exist; expected header name`,
		`FN_HTTP_IDLE_TIMEOUT="9223372036854775807": it is too long; expected duration like 500ms, 30s or 2m, or whole seconds (default 120s)`,
		`FN_HOT_START_TIMEOUT_MSECS="5s": it is not a whole number; expected whole number of milliseconds, negative for no limit (default 5000)`,
		`FN_QUEUE_TIMEOUT="soon": it is not a duration; expected duration like 500ms, 30s or 2m, or whole seconds (default 60s)`,
		`FN_QUEUE_SIZE="0": it is below 1; expected whole number from 1 (default 1024)`,
		`FN_FREEZE_IDLE_MSECS="never": it is not a whole number; expected whole number of milliseconds, negative for never (default 50)`,
		`FN_MAX_TOTAL_MEMORY_BYTES="99999999999999999999": it is not a whole number; expected whole number of bytes from 0 (default 0)`,
		`FN_MAX_INSTANCES="10001": it is not from 0 to 10000; expected whole number from 0 to 10000 (default 0)`,
		`FN_MIN_INSTANCES_PERCENT="0": it is not from 1 to 100; expected whole number from 1 to 100 (default 75)`,
		`FN_MAX_PIDS="-1": it is below 0; expected whole number from 0 (default 50)`,
		`FN_DRIVER="podman": there is no such driver; expected auto, docker or native (default auto)`,
		`FN_DOCKER_AUTH="[hidden]": it is not JSON; expected the JSON of a Docker config.json`,
		`FN_IMAGE_ENABLE_VOLUME="perhaps": it is neither true nor false; expected true or false (default false)`,
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestSecretsAreNotShownWhenTheyAreWrong(t *testing.T) {
	for variable, want := range map[string]string{
		"FN_DB_URL=user:sesame@host/fn":      `FN_DB_URL="[hidden]": it is not a URL`,
		"FN_DB_URL=fn.db":                    `FN_DB_URL="fn.db": it is not a URL`,
		"FN_DOCKER_AUTH=sesame":              `FN_DOCKER_AUTH="[hidden]": it is not JSON`,
		"FN_DOCKER_AUTH_FILE=/absent/sesam.": `FN_DOCKER_AUTH="/absent/sesam.": FN_DOCKER_AUTH_FILE cannot be read`,
	} {
		_, _, err := Load([]string{variable}, noFiles, "/")
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: got %v", variable, err)
		}
	}
}

func TestOddSettingsAreWorthAWarning(t *testing.T) {
	c, warnings := load(t, "FN_LOG_LEVEL=loud", "FN_LOG_FORMAT=xml", "FN_LOG_DEST=udp://host:514", "FN_PROT=80", "FN_LOG_PREFIX=x", "FN_WHATEVER_THIS_IS=1", "FN_IOFS_OPTS_FILE=x")
	want := []string{
		`FN_LOG_FORMAT="xml": there is no such format; expected text or json (default text)`,
		`FN_LOG_LEVEL="loud": there is no such level; expected panic, fatal, error, warn, info, debug or trace (default info)`,
		`FN_LOG_DEST="udp://host:514": this version cannot log to syslog yet; expected stderr or file:///<path> (default stderr)`,
		"FN_IOFS_OPTS_FILE has no effect: FN_SANDBOX_SOCKETS_INODES and FN_SANDBOX_SOCKETS_BYTES are its like",
		"FN_LOG_PREFIX has no effect: the log does not go to syslog yet",
		"FN_PROT is not a setting, did you mean FN_PORT?",
		"FN_WHATEVER_THIS_IS is not a setting",
	}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if c.Log != (Log{Format: "text", Dest: "stderr"}) {
		t.Errorf("not the defaults: %+v", c.Log)
	}
}

func TestValuesComeFromFilesUnlessTheVariableIsSet(t *testing.T) {
	files := func(name string) ([]byte, error) {
		if name == "/run/secret" {
			return []byte(" sqlite3://secret.db\n"), nil
		}
		return nil, os.ErrNotExist
	}
	c, _, err := Load([]string{"FN_DB_URL_FILE=/run/secret", "FN_PORT=1", "FN_PORT_FILE=/absent"}, files, "/")
	if err != nil || c.Store.URL != "sqlite3://secret.db" || c.HTTP.Port != 1 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestEmptyVariableMeansTheDefault(t *testing.T) {
	c, _ := load(t, "FN_PORT=", "FN_LOG_LEVEL=", "FN_DB_URL=", "FN_API_CORS_ORIGINS=")
	if c.HTTP.Port != 8080 || len(c.HTTP.CORSOrigins) != 0 {
		t.Errorf("%+v", c.HTTP)
	}
	if c.Store.URL != "sqlite3:///srv/tine/data/fn.db" {
		t.Errorf("database %s", c.Store.URL)
	}
}

func TestPasswordsAreMasked(t *testing.T) {
	for given, want := range map[SecretURL]string{
		"postgres://user:pass@host/db": "postgres://user:xxxxx@host/db",
		"sqlite3:///data/fn.db":        "sqlite3:///data/fn.db",
		"postgres://user:p%zz@host/db": "[unreadable url]",
	} {
		if got := given.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := given.LogValue().String(); got != want {
			t.Errorf("in the log: %s", got)
		}
	}
}

func TestEverySettingIsDescribed(t *testing.T) {
	var help bytes.Buffer
	if err := WriteHelp(&help); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, s := range Settings() {
		if s.Doc == "" || s.Form == "" || s.Group == "" || names[s.Name] {
			t.Errorf("%+v", s)
		}
		names[s.Name] = true
		if _, ok := notYet[s.Name]; ok {
			t.Errorf("%s is a setting and has no effect", s.Name)
		}
		if !strings.Contains(help.String(), s.Name) {
			t.Errorf("%s is not in the help", s.Name)
		}
	}
	for line := range strings.Lines(help.String()) {
		if len(line) > helpWidth+1 {
			t.Errorf("too wide: %q", line)
		}
	}
}

func TestDocumentationIsUpToDate(t *testing.T) {
	var want bytes.Buffer
	if err := WriteMarkdown(&want); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), string(got)); diff != "" {
		t.Errorf("run go generate ./internal/config (-want +got)\n%s", diff)
	}
}

func FuzzLoad(f *testing.F) {
	for _, s := range settings {
		f.Add(s.Name, s.Default)
		f.Add(s.Name, "-1")
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		c, _, err := Load([]string{name + "=" + value}, noFiles, "/")
		if err == nil && c.Runner.QueueSize < 1 {
			t.Errorf("accepted %s=%s", name, value)
		}
		if err != nil && errors.As(err, new(warning)) {
			t.Error("a warning kept the server from starting")
		}
	})
}
