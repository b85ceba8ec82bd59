package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/moby/client"
)

// clientDeadline bounds what programs that push take.
const clientDeadline = 2 * time.Minute

var registryLine = regexp.MustCompile(`functions use them by the same names" address=(\S+)`)

// registry is where the server's own registry is.
func (s *server) registry(t *testing.T) string {
	t.Helper()
	found := registryLine.FindStringSubmatch(s.log.String())
	if found == nil {
		t.Fatalf("the log does not say where the registry is:\n%s", s.log)
	}
	return found[1]
}

// saved is the test function's image as an archive of docker save.
func saved(t *testing.T, ref string) []byte {
	t.Helper()
	return askEngine(t, func(ctx context.Context, engine *client.Client) ([]byte, error) {
		stream, err := engine.ImageSave(ctx, []string{ref})
		if err != nil {
			return nil, err
		}
		defer stream.Close()
		return io.ReadAll(stream)
	})
}

// version is the test function's image with a variable that tells it apart.
func (n *node) version(t *testing.T, number string) v1.Image {
	t.Helper()
	archive := saved(t, n.image)
	base, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	file, err := base.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config := file.Config
	config.Env = append(append([]string(nil), config.Env...), "VERSION="+number)
	made, err := mutate.Config(base, config)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func pushTo(t *testing.T, ref string, made v1.Image, options ...remote.Option) error {
	t.Helper()
	to, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	return remote.Write(to, made, options...)
}

func (n *node) wantVersion(t *testing.T, id, want string) {
	t.Helper()
	if got := n.invoke(id, `{"isDebug":true}`, nil).seen(t).Config["VERSION"]; got != want {
		t.Errorf("version %q, want %q\n%s", got, want, n.log)
	}
}

func run(t *testing.T, program string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("needs the program %s: %v", program, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), clientDeadline)
	defer cancel()
	output, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	return string(output), err
}

func TestPushedImageIsUsedAtOnce(t *testing.T) {
	// Nobody asks for what images mean by now but the push.
	n := startNative(t, map[string]string{"FN_REGISTRY_LISTEN": "127.0.0.1:0", "FN_IMAGE_REFRESH": "0"})
	host := n.registry(t)
	ref := host + "/me/hello:1"
	id := n.fn(object{"image": ref})
	n.invoke(id, "", nil).wantError(t, 404, "Failed to pull image '"+ref+"': this server's own registry does not have it: push it there, for example with docker push "+ref)
	if err := pushTo(t, ref, n.version(t, "1")); err != nil {
		t.Fatal(err)
	}
	n.wantVersion(t, id, "1")
	_, port, err := net.SplitHostPort(host)
	if err != nil {
		t.Fatal(err)
	}
	others := []string{n.fn(object{"image": "localhost:" + port + "/me/hello:1"}), n.fn(object{"image": "tine.internal/me/hello:1"})}
	for _, other := range others {
		n.wantVersion(t, other, "1")
	}
	for _, number := range []string{"2", "3", "4"} {
		if err := pushTo(t, "localhost:"+port+"/me/hello:1", n.version(t, number)); err != nil {
			t.Fatal(err)
		}
		n.wantVersion(t, id, number)
		for _, other := range others {
			n.wantVersion(t, other, number)
		}
	}
	if strings.Contains(n.log.String(), "pulling image") {
		t.Errorf("an image was pulled:\n%s", n.log)
	}

	// The port changes, names stay.
	settings := map[string]string{}
	for _, name := range []string{"FN_DRIVER", "FN_SANDBOX_MIN", "FN_SANDBOX_BRIDGE", "FN_SANDBOX_SUBNET", "FN_IOFS_PATH", "FN_CONTAINER_LABEL_TAG", "FN_IMAGE_REFRESH"} {
		settings[name] = n.setting(name)
	}
	n.stopClean(t)
	settings["FN_REGISTRY_LISTEN"] = "127.0.0.1:0"
	next := &node{server: launch(t, n.dir, settings), image: n.image, appID: n.appID, names: n.names}
	if !next.awaitServing() {
		t.Fatal(next.log)
	}
	t.Cleanup(next.stop)
	if next.registry(t) == host {
		t.Skip("the port is the same by chance")
	}
	next.wantVersion(t, id, "4")
	next.wantVersion(t, others[1], "4")
	if err := pushTo(t, next.registry(t)+"/me/hello:1", next.version(t, "5")); err != nil {
		t.Fatal(err)
	}
	next.wantVersion(t, id, "5")
	next.stopClean(t)
}

func TestDockerAndSkopeoPushToTheServer(t *testing.T) {
	n := startNative(t, map[string]string{"FN_REGISTRY_LISTEN": "127.0.0.1:0"})
	ref := n.registry(t) + "/hello:1"
	if output, err := run(t, "docker", "tag", n.image, ref); err != nil {
		t.Fatal(err, output)
	}
	t.Cleanup(func() { _, _ = run(t, "docker", "rmi", ref) })
	if output, err := run(t, "docker", "push", ref); err != nil {
		t.Fatal(err, output)
	}
	id := n.fn(object{"image": ref})
	n.wantNext(t, id)
	copied := n.registry(t) + "/copied/by/skopeo:1"
	if output, err := run(t, "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+ref, "docker://"+copied); err != nil {
		t.Fatal(err, output)
	}
	n.wantNext(t, n.fn(object{"image": copied}))
	n.stopClean(t)
}

func TestRegistryAsksForPasswords(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	// The hash is bcrypt's of "secret", as htpasswd -B makes it.
	if err := os.WriteFile(file, []byte("# who pushes\nreader:$2b$04$lbQu0LjPeuzx5PFFGMIniuAZvwXf8K9GrPB4Umy6C6AyoOPLwvrny\nplain:word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := startNative(t, map[string]string{"FN_REGISTRY_LISTEN": "127.0.0.1:0", "FN_REGISTRY_USERS_FILE": file})
	ref := n.registry(t) + "/hello:1"
	made := n.version(t, "1")
	for _, wrong := range []authn.Authenticator{authn.Anonymous, &authn.Basic{Username: "reader", Password: "word"}, &authn.Basic{Username: "nobody", Password: "secret"}} {
		if err := pushTo(t, ref, made, remote.WithAuth(wrong)); err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("%v: %v", wrong, err)
		}
	}
	for _, right := range []authn.Authenticator{&authn.Basic{Username: "reader", Password: "secret"}, &authn.Basic{Username: "plain", Password: "word"}} {
		if err := pushTo(t, ref, made, remote.WithAuth(right)); err != nil {
			t.Error(err)
		}
	}
	n.wantVersion(t, n.fn(object{"image": ref}), "1") // the server asks itself for no password
	n.stopClean(t)
}

func TestRegistryThatCannotListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if os.Geteuid() != 0 {
		t.Skip("sandboxes need root")
	}
	for name, test := range map[string]struct {
		settings map[string]string
		want     string
	}{
		"taken":       {map[string]string{"FN_REGISTRY_LISTEN": taken.Addr().String()}, "free the address, set another one, or off"},
		"open":        {map[string]string{"FN_REGISTRY_LISTEN": "0.0.0.0:0"}, "set FN_REGISTRY_USERS to user:password, or listen on 127.0.0.1"},
		"users":       {map[string]string{"FN_REGISTRY_USERS": "fn:$apr1$x$y"}, "not a bcrypt one"},
		"half a pair": {map[string]string{"FN_REGISTRY_TLS_CERT": "/cert.pem"}, "set both, or neither"},
	} {
		t.Run(name, func(t *testing.T) {
			settings := map[string]string{
				"FN_DRIVER": "auto", "FN_SANDBOX_MIN": "0", "FN_REGISTRY_LISTEN": "127.0.0.1:0", "FN_SANDBOX_BRIDGE": ownBridge(), "FN_SANDBOX_SUBNET": ownSubnet,
			}
			for name, value := range test.settings {
				settings[name] = value
			}
			s := launch(t, t.TempDir(), settings)
			if code := s.exitCode(); code == 0 || !strings.Contains(s.log.String(), test.want) {
				t.Errorf("exit code %d, log:\n%s", code, s.log)
			}
		})
	}
}

func TestRegistryAtTheDefaultAddressThatIsTaken(t *testing.T) {
	// The other server may be a real one that somebody runs here.
	if taken, err := net.Listen("tcp", "127.0.0.1:5050"); err == nil {
		defer taken.Close()
	}
	n := startNative(t, map[string]string{"FN_REGISTRY_LISTEN": ""})
	n.wantNext(t, n.fn(nil))
	if !strings.Contains(n.log.String(), "address of its registry is taken") {
		t.Error(n.log)
	}
	n.stopClean(t)
}

func TestPushesUnderLoad(t *testing.T) {
	n := startNative(t, map[string]string{"FN_REGISTRY_LISTEN": "127.0.0.1:0", "FN_IMAGE_REFRESH": "0"})
	ref := n.registry(t) + "/busy:1"
	versions := make([]v1.Image, 6)
	for i := range versions {
		versions[i] = n.version(t, fmt.Sprint(i))
	}
	if err := pushTo(t, ref, versions[0]); err != nil {
		t.Fatal(err)
	}
	id := n.fn(object{"image": ref})
	n.wantNext(t, id)
	l := n.underLoad(t, 4, id)
	for i, made := range versions {
		before := l.answered.Load()
		if err := pushTo(t, ref, made); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			n.wantVersion(t, id, fmt.Sprint(i))
		}
		l.await(t, before+50)
	}
	l.end()
	if cut := l.cut.Load(); cut != 0 {
		t.Errorf("%d calls were cut", cut)
	}
	if !strings.Contains(n.send("GET", "/metrics", "", nil).body, `tine_registry_requests_total{method="PUT",status="201"}`) {
		t.Error("pushes are not counted")
	}
	n.stopClean(t)
}
