package docker_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/docker"
)

// certificates writes one self-signed certificate in all its roles to a
// directory as Docker's clients expect it.
func certificates(t *testing.T) (dir string, pair tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "engine"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyBytes, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyBytes})
	dir = t.TempDir()
	for name, content := range map[string][]byte{"ca.pem": certPEM, "cert.pem": certPEM, "key.pem": keyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return dir, pair
}

// remoteEngine is as much of an engine on TCP with TLS as New asks for. It
// insists on a client certificate.
func remoteEngine(t *testing.T, pair tls.Certificate) (host string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.50") })
	mux.HandleFunc("/v1.50/info", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"ServerVersion":"28.1","CgroupDriver":"none"}`)
	})
	server := httptest.NewUnstartedServer(mux)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	return "tcp://" + server.Listener.Addr().String()
}

func TestRemoteEngineIsReachedByTLS(t *testing.T) {
	dir, pair := certificates(t)
	host := remoteEngine(t, pair)
	for _, verify := range []bool{true, false} {
		d, err := docker.New(t.Context(), docker.Options{Host: host, CertPath: dir, TLSVerify: verify})
		if err != nil {
			t.Fatalf("verify %t: %v", verify, err)
		}
		want := driver.Capabilities{Name: "docker", Version: "28.1", Pull: true}
		if diff := cmp.Diff(want, d.Capabilities()); diff != "" {
			t.Errorf("capabilities (-want +got)\n%s", diff)
		}
		closeNow(t, d)
	}
}

func TestStrangeCertificateIsRefusedWhenVerifying(t *testing.T) {
	dir, _ := certificates(t)
	_, strange := certificates(t)
	host := remoteEngine(t, strange)
	if _, err := docker.New(t.Context(), docker.Options{Host: host, CertPath: dir, TLSVerify: true}); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestMissingCertificateIsNamed(t *testing.T) {
	dir := t.TempDir()
	if _, err := docker.New(t.Context(), docker.Options{Host: "tcp://127.0.0.1:1", CertPath: dir}); err == nil || !strings.Contains(err.Error(), "cert.pem") {
		t.Errorf("got %v", err)
	}
}
