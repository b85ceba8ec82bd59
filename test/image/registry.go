package image

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tinefn/tine/driver"
)

// registryTimeout bounds the wait for a registry that was started.
const registryTimeout = 10 * time.Second

// Registry runs Debian's docker-registry on loopback, with further lines of its
// configuration, and returns its address. It skips the test where none is installed.
func Registry(t testing.TB, lines ...string) (address string) {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skipf("needs the program docker-registry: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = listener.Addr().String()
	if err := listener.Close(); err != nil { // the registry takes the port over
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", dir, address) +
		strings.Join(lines, "\n")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, "serve", config)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
	})
	for deadline := time.Now().Add(registryTimeout); ; time.Sleep(20 * time.Millisecond) {
		response, err := http.Get("http://" + address + "/v2/")
		if err == nil {
			_ = response.Body.Close()
			http.DefaultClient.CloseIdleConnections()
			return address
		}
		if time.Now().After(deadline) {
			t.Fatalf("the registry does not answer: %v", err)
		}
	}
}

// Who may read and write in a registry of [PrivateRegistry].
const (
	RegistryUser     = "reader"
	RegistryPassword = "secret"
)

// passwords is the registry's file: bcrypt's hash of the password.
const passwords = RegistryUser + ":$2b$04$lbQu0LjPeuzx5PFFGMIniuAZvwXf8K9GrPB4Umy6C6AyoOPLwvrny\n"

// PrivateRegistry is a registry that asks for a name and a password.
func PrivateRegistry(t testing.TB) (address string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, []byte(passwords), 0o600); err != nil {
		t.Fatal(err)
	}
	return Registry(t, fmt.Sprintf("auth: {htpasswd: {realm: test, path: %s}}", file))
}

// ServeRegistry serves what pretends to be a registry on loopback.
func ServeRegistry(t testing.TB, handle http.HandlerFunc) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handle, ReadHeaderTimeout: time.Minute}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		wg.Wait()
	})
	return listener.Addr().String()
}

// FaultyRegistry serves a registry of which each directory has a fault of its own:
// private/ wants credentials, garbage/ answers what is no manifest, hangs/ does not
// answer until the test ends.
func FaultyRegistry(t testing.TB) (address string) {
	t.Helper()
	release := make(chan struct{})
	address = ServeRegistry(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Contains(r.URL.Path, "/private/"):
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
		case strings.Contains(r.URL.Path, "/hangs/"):
			<-release
		case strings.Contains(r.URL.Path, "/garbage/"):
			fmt.Fprint(w, "garbage")
		}
	})
	t.Cleanup(func() { close(release) }) // before the registry is closed, which waits
	return address
}

// FrontRegistry stands before a real registry. Requests that handle does not
// answer, which it says by false, go on to it.
func FrontRegistry(t testing.TB, behind string, handle func(w http.ResponseWriter, r *http.Request) bool) (address string) {
	t.Helper()
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: behind})
		r.Out.Host = r.In.Host // the registry names itself in its answers
	}}
	return ServeRegistry(t, func(w http.ResponseWriter, r *http.Request) {
		if !handle(w, r) {
			proxy.ServeHTTP(w, r)
		}
	})
}

// TokenRegistry stands before a real registry and lets in who has the bearer token.
// There is no token service, so nobody can get another one.
func TokenRegistry(t testing.TB, behind, token string) (address string) {
	t.Helper()
	return FrontRegistry(t, behind, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Bearer "+token {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/token" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, r.Host))
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
		return true
	})
}

// WantStatus checks that an image was refused with that status; 0: with none,
// negative: it was not refused.
func WantStatus(t testing.TB, what string, err error, status int) {
	t.Helper()
	refused, isRefusal := errors.AsType[*driver.PullError](err)
	switch {
	case status < 0 && err != nil:
		t.Errorf("%s: %v", what, err)
	case status >= 0 && (!isRefusal || refused.Status != status):
		t.Errorf("%s: got %v, want status %d", what, err, status)
	}
}
