// Package e2e drives the real server binary over HTTP, with a real database
// and, for calls, a real container engine.
package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tinefn/tine/test/nodelog"
)

// Deadlines of the server under test, far above what it needs.
const (
	startDeadline = 20 * time.Second
	stopDeadline  = 40 * time.Second
)

// binary is the server, built once by TestMain.
var binary string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tine-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "fnserver")
	arguments := []string{"build", "-o", binary, "github.com/tinefn/tine/cmd/fnserver"}
	if raceDetector { // it belongs into the server then
		arguments = slices.Insert(arguments, 1, "-race")
	}
	build := exec.Command("go", arguments...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the server: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// server is a running fnserver with a directory of its own.
type server struct {
	t    *testing.T
	url  string
	dir  string
	cmd  *exec.Cmd
	log  *nodelog.Buffer
	done chan error // receives how the process ended
	once sync.Once

	faulty bool // the log may speak of faults, which the test makes
}

// start runs the server with settings on top of a fresh database, a free port
// and a fresh directory for sockets, and waits until it serves. It is stopped
// at the end of the test.
func start(t *testing.T, settings map[string]string) *server {
	t.Helper()
	s := launch(t, t.TempDir(), settings)
	if !s.awaitServing() {
		t.Fatalf("the server does not serve:\n%s", s.log)
	}
	t.Cleanup(func() { s.stop() })
	return s
}

// launch runs the server without waiting.
func launch(t *testing.T, dir string, settings map[string]string) *server {
	t.Helper()
	// Short, because the names of sockets are.
	sockets, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	all := map[string]string{
		"FN_PORT": "0", "FN_DB_URL": "sqlite3://" + filepath.Join(dir, "fn.db"),
		"FN_IOFS_PATH": sockets, "FN_LOG_LEVEL": "debug", "FN_CONTAINER_LABEL_TAG": "e2e-" + filepath.Base(sockets),
		"FN_DRIVER":            "docker", // tests of the other one, and of both, set it
		"FN_PREFORK_MAX":       "0",      // tests of the pool set it; others need not wait for it
		"FN_POOL_CPU_PRESSURE": "100",    // pools are filled also while other tests run
		"FN_REGISTRY_LISTEN":   "off",    // tests of the registry set it; there is one default port
	}
	maps.Copy(all, settings)
	s := &server{t: t, dir: dir, log: &nodelog.Buffer{}, done: make(chan error, 1)}
	s.cmd = exec.Command(binary)
	s.cmd.Dir = dir
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "FN_") {
			s.cmd.Env = append(s.cmd.Env, variable)
		}
	}
	for name, value := range all {
		s.cmd.Env = append(s.cmd.Env, name+"="+value)
	}
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	return s
}

// serving is the line by which the server tells its address.
var serving = regexp.MustCompile("Fn serving on `:([0-9]+)`")

func (s *server) awaitServing() bool {
	for deadline := time.Now().Add(startDeadline); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if found := serving.FindStringSubmatch(s.log.String()); found != nil {
			s.url = "http://127.0.0.1:" + found[1]
			return true
		}
		select {
		case err := <-s.done:
			s.done <- err
			return false
		default:
		}
	}
	return false
}

// exitCode waits for the process to end.
func (s *server) exitCode() int {
	s.t.Helper()
	select {
	case err := <-s.done:
		s.done <- err
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return exit.ExitCode()
		}
		if err != nil {
			s.t.Error(err)
		}
		return 0
	case <-time.After(stopDeadline):
		_ = s.cmd.Process.Kill() // it is the test that failed
		s.t.Errorf("the server did not end:\n%s", s.log)
		return -1
	}
}

// stop asks the server to end and expects it to do so in order.
func (s *server) stop() {
	s.once.Do(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		if code := s.exitCode(); code != 0 {
			s.t.Errorf("exit code %d:\n%s", code, s.log)
		}
		if log := s.log.String(); strings.Contains(log, "panic") || strings.Contains(log, "DATA RACE") || strings.Contains(log, "level=ERROR") && !s.faulty {
			s.t.Errorf("the log speaks of a fault:\n%s", log)
		}
	})
}

// answer is a response, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
	took   time.Duration
}

// do sends a request as it is: no redirects, no retries.
func (s *server) do(request *http.Request) (answer, error) {
	began := time.Now()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(body), time.Since(began)}, err
}

var transport = &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}

func (s *server) request(method, path, body string, header map[string]string) *http.Request {
	s.t.Helper()
	request, err := http.NewRequestWithContext(context.WithoutCancel(s.t.Context()), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	return request
}

// send sends a request and fails the test if there is no answer.
func (s *server) send(method, path, body string, header map[string]string) answer {
	s.t.Helper()
	got, err := s.do(s.request(method, path, body, header))
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", method, path, err, s.log)
	}
	return got
}

// object is a JSON object.
type object = map[string]any

// create makes a definition and returns its ID.
func (s *server) create(path string, definition object) string {
	s.t.Helper()
	raw, err := json.Marshal(definition)
	if err != nil {
		s.t.Fatal(err)
	}
	got := s.send("POST", path, string(raw), nil)
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(got.body), &made); err != nil || got.status != http.StatusOK {
		s.t.Fatalf("POST %s: %d %s", path, got.status, got.body)
	}
	return made.ID
}

// wantError checks that an answer is the error that clients expect.
func (got answer) wantError(t *testing.T, status int, message string) {
	t.Helper()
	raw, err := json.Marshal(object{"message": message})
	if err != nil {
		t.Fatal(err)
	}
	if got.status != status || got.body != string(raw)+"\n" {
		t.Errorf("got %d %q, want %d %q", got.status, got.body, status, string(raw)+"\n")
	}
	if contentType := got.header.Get("Content-Type"); contentType != "application/json; charset=utf-8" {
		t.Errorf("content type %q", contentType)
	}
}
