package image

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// startRegistry runs Debian's docker-registry on loopback, with further lines
// of its configuration, and returns its address.
func startRegistry(t *testing.T, lines ...string) string {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skipf("needs the program docker-registry: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
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
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		response, err := http.Get("http://" + address + "/v2/")
		if err == nil {
			response.Body.Close()
			return address
		}
		if time.Now().After(deadline) {
			t.Fatalf("the registry does not answer: %v", err)
		}
	}
}

func parseReference(t *testing.T, text string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(text)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestPullFromDockersRegistry(t *testing.T) {
	made := small(t, "1", "2")
	ref := startRegistry(t) + "/fn/hello:1"
	if err := remote.Write(parseReference(t, ref), made); err != nil {
		t.Fatal(err)
	}
	s := newStore(t, Options{})
	if got := mustPull(t, s, ref); got.Manifest != digestOf(t, made) {
		t.Errorf("got %+v", got)
	}
	_, err := s.Pull(t.Context(), strings.TrimSuffix(ref, "1")+"absent", PullOptions{})
	if refused, ok := errors.AsType[*transport.Error](err); !ok || refused.StatusCode != http.StatusNotFound {
		t.Errorf("absent: %v", err)
	}
}

type keychain struct{ user, password string }

func (k keychain) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: k.user, Password: k.password}, nil
}

// passwords is the registry's file: bcrypt's hash of "secret" for "reader".
const passwords = "reader:$2b$04$lbQu0LjPeuzx5PFFGMIniuAZvwXf8K9GrPB4Umy6C6AyoOPLwvrny\n"

func TestPullWithCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, []byte(passwords), 0o600); err != nil {
		t.Fatal(err)
	}
	address := startRegistry(t, fmt.Sprintf("auth: {htpasswd: {realm: tine, path: %s}}", file))
	ref := address + "/fn/private:1"
	right, wrong := &authn.Basic{Username: "reader", Password: "secret"}, &authn.Basic{Username: "reader", Password: "wrong"}
	if err := remote.Write(parseReference(t, ref), small(t, "private"), remote.WithAuth(right)); err != nil {
		t.Fatal(err)
	}
	s := newStore(t, Options{})
	for name, opts := range map[string]PullOptions{"nobody": {}, "wrong": {Auth: wrong}, "wrong keychain": {Keychain: keychain{"x", "y"}}} {
		_, err := s.Pull(t.Context(), ref, opts)
		if refused, ok := errors.AsType[*transport.Error](err); !ok || refused.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, opts := range map[string]PullOptions{"credentials": {Auth: right}, "keychain": {Keychain: keychain{"reader", "secret"}}} {
		if _, err := s.Pull(t.Context(), ref, opts); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
