package client_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tinefn/tine/client"
)

// writePEM writes one block to a file and returns its name.
func writePEM(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ownCertificate makes a certificate of a client that vouches for itself.
func ownCertificate(t *testing.T) (parsed *x509.Certificate, cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	if parsed, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return parsed, writePEM(t, "cert.pem", "CERTIFICATE", der), writePEM(t, "key.pem", "PRIVATE KEY", keyDER)
}

func TestBothSidesProveWhoTheyAre(t *testing.T) {
	served := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"id":"a","name":"%d"}`, r.ProtoMajor)
	}))
	parsed, cert, key := ownCertificate(t)
	clients := x509.NewCertPool()
	clients.AddCert(parsed)
	served.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	served.EnableHTTP2 = true
	served.StartTLS()
	defer served.Close()
	ca := writePEM(t, "ca.pem", "CERTIFICATE", served.Certificate().Raw)

	for name, test := range map[string]struct {
		ca, cert, key string
		works         bool
	}{
		"both":                {ca, cert, key, true},
		"without our own":     {ca, "", "", false},
		"without authorities": {"", cert, key, false},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := client.TLSConfig(test.ca, test.cert, test.key)
			if err != nil {
				t.Fatal(err)
			}
			c := must[*client.Client](t)(client.New(served.URL, client.Options{TLS: config}))
			defer c.Close()
			app, err := c.App(t.Context(), "a")
			if (err == nil) != test.works || test.works && app.Name != "2" {
				t.Errorf("got %+v, %v", app, err)
			}
		})
	}
}

func TestFilesOfTLSAreNamedWhenTheyAreWrong(t *testing.T) {
	_, cert, key := ownCertificate(t)
	absent := filepath.Join(t.TempDir(), "absent.pem")
	for name, test := range map[string]struct{ ca, cert, key, says string }{
		"no authorities":   {absent, "", "", absent},
		"none in the file": {key, "", "", key},
		"no key":           {"", cert, "", "neither"},
		"no certificate":   {"", absent, key, absent},
		"exchanged":        {"", key, cert, key},
	} {
		if _, err := client.TLSConfig(test.ca, test.cert, test.key); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want something of %s", name, err, test.says)
		}
	}
}
