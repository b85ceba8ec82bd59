package registry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/tinefn/tine/internal/image"
)

// start serves a new store at a port of its own, by the names that it has there.
func start(t *testing.T, server ServerOptions, opts Options) (*Server, *image.Store) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: owners of layers")
	}
	if server.Address == "" {
		server.Address = "127.0.0.1:0"
	}
	s, err := Listen(server)
	if err != nil {
		t.Fatal(err)
	}
	store, err := image.Open(t.TempDir(), image.Options{OwnHosts: s.Names()})
	if err != nil {
		t.Fatal(err)
	}
	opts.Host = image.OwnHost
	if server.Users != nil {
		opts.Accept = server.Users.Accept
	}
	g, err := New(store, opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(g, g.Close)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(s.Stop(ctx), store.Close()); err != nil {
			t.Error(err)
		}
	})
	return s, store
}

func TestServedImagesHaveAllNamesOfTheServer(t *testing.T) {
	var pushed atomic.Value
	s, store := start(t, ServerOptions{Names: []string{"registry.example.com"}}, Options{
		Pushed: func(_ context.Context, name string) { pushed.Store(name) },
	})
	if err := remote.Write(parse(t, s.Address()+"/me/hello:1"), randomImage(t)); err != nil {
		t.Fatal(err)
	}
	if got := pushed.Load(); got != "tine.internal/me/hello:1" {
		t.Errorf("pushed %v", got)
	}
	names := s.Names()
	if !slices.Contains(names, s.Address()) || !slices.Contains(names, strings.Replace(s.Address(), "127.0.0.1", "localhost", 1)) {
		t.Errorf("names %q", names)
	}
	for _, host := range append(names, image.OwnHost, strings.ToUpper(names[1])) {
		if _, err := store.Get(host + "/me/hello:1"); err != nil || !store.Own(host+"/me/hello:1") {
			t.Errorf("%s: %v", host, err)
		}
	}
	if _, err := store.Get("127.0.0.1:1/me/hello:1"); err == nil || store.Own("127.0.0.1:1/me/hello:1") {
		t.Error("another registry's image is its own")
	}
	if _, err := store.Pull(t.Context(), s.Address()+"/me/absent:1", image.PullOptions{}); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("pull from itself: %v", err)
	}
}

func TestPagesOfOtherOriginsCannotPush(t *testing.T) {
	s, _ := start(t, ServerOptions{}, Options{})
	for name, change := range map[string]func(*http.Request){
		"form":      func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") },
		"fetch":     func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"rebinding": func(r *http.Request) { r.Host = "evil.example:80" },
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.Address()+"/v2/a/blobs/uploads/", nil)
		if err != nil {
			t.Fatal(err)
		}
		change(request)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s", name, response.Status)
		}
	}
}

func TestServerOnTheOtherLoopback(t *testing.T) {
	s, err := Listen(ServerOptions{Address: "[::1]:0"})
	if err != nil {
		t.Skipf("this machine has no IPv6: %v", err)
	}
	defer s.Stop(t.Context()) //nolint:errcheck // it never served
	for _, name := range s.Names() {
		if got, err := image.Normalize(name + "/a:b"); err != nil || got != name+"/a:b" {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	if names := s.Names(); len(names) != 2 || names[0] != s.Address() {
		t.Errorf("names %q of %s", names, s.Address())
	}
}

func TestOpenServersAreRefused(t *testing.T) {
	if _, err := Listen(ServerOptions{Address: "0.0.0.0:0"}); !errors.Is(err, ErrOpen) {
		t.Errorf("without users: %v", err)
	}
	if _, err := Listen(ServerOptions{Address: "127.0.0.1:0", Names: []string{"http://x"}}); err == nil {
		t.Error("a URL is no name")
	}
	s, err := Listen(ServerOptions{Address: "0.0.0.0:0", Users: users(t, "a:b")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil { // it never served
		t.Error(err)
	}
	if _, err := Listen(ServerOptions{Address: "192.0.2.1:5050"}); !errors.Is(err, ErrAddress) {
		t.Errorf("an address that is not here: %v", err)
	}
}

func TestPushWithEncryptionAndPassword(t *testing.T) {
	cert, key, roots := certificate(t)
	s, store := start(t, ServerOptions{CertFile: cert, KeyFile: key, Users: users(t, "fn:secret")}, Options{})
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	ref := parse(t, strings.Replace(s.Address(), "127.0.0.1", "localhost", 1)+"/a:1")
	err := remote.Write(ref, randomImage(t), remote.WithTransport(transport), remote.WithAuth(&authn.Basic{Username: "fn", Password: "secret"}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get(ref.String()); err != nil {
		t.Error(err)
	}
}

// certificate makes one for localhost.
func certificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	roots.AppendCertsFromPEM(certPEM)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := errors.Join(os.WriteFile(cert, certPEM, 0o600), os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)); err != nil {
		t.Fatal(err)
	}
	return cert, key, roots
}

func TestBlobsLargerThanTheLimitAreRefused(t *testing.T) {
	s, _ := start(t, ServerOptions{}, Options{BlobBytes: 100})
	url := "http://" + s.Address() + "/v2/a/blobs/uploads/"
	for name, body := range map[string]io.Reader{
		"announced": strings.NewReader(strings.Repeat("x", 101)),
		"streamed":  io.MultiReader(strings.NewReader(strings.Repeat("x", 101))),
	} {
		begun, err := http.Post(url, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		begun.Body.Close()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, "http://"+s.Address()+begun.Header.Get("Location"), body)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %s", name, response.Status)
		}
	}
}

// A push that goes on is cut at the deadline, and leaves nothing.
func TestStopCutsPushes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: owners of layers")
	}
	s, err := Listen(ServerOptions{Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	store, err := image.Open(t.TempDir(), image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	g, err := New(store, Options{Host: image.OwnHost})
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(g, g.Close)
	begun, err := http.Post("http://"+s.Address()+"/v2/a/blobs/uploads/", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	begun.Body.Close()
	connection, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if _, err := io.WriteString(connection, "PATCH "+begun.Header.Get("Location")+" HTTP/1.1\r\nHost: "+s.Address()+"\r\nContent-Length: 1000\r\n\r\nx"); err != nil {
		t.Fatal(err)
	}
	for { // until the server has what was sent
		entries, err := os.ReadDir(filepath.Join(store.Dir(), "tmp"))
		if err != nil {
			t.Fatal(err)
		}
		if info, err := entries[0].Info(); err != nil || info.Size() == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stop: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(store.Dir(), "tmp")); err != nil || len(left) != 0 {
		t.Errorf("left: %v %v", left, err)
	}
	if _, err := http.Get("http://" + s.Address() + "/v2/"); err == nil {
		t.Error("it still serves")
	}
}
