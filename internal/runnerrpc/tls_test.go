package runnerrpc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tinefn/tine/invoke"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

var serials int64

func template(name string) *x509.Certificate {
	serials++
	return &x509.Certificate{
		SerialNumber: big.NewInt(serials), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir(), cert: template("authority")}
	a.cert.IsCA, a.cert.KeyUsage = true, x509.KeyUsageCertSign
	a.key = a.newKey()
	a.file = filepath.Join(a.dir, "ca.pem")
	a.write(a.file, "CERTIFICATE", a.sign(a.cert, a.key))
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *authority) sign(cert *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	raw, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return raw
}

func (a *authority) write(name, kind string, raw []byte) {
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// issue writes a certificate and its key to files.
func (a *authority) issue(name string) (certFile, keyFile string) {
	certFile, keyFile = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	key := a.newKey()
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(keyFile, "EC PRIVATE KEY", raw)
	a.write(certFile, "CERTIFICATE", a.sign(template(name), key))
	return certFile, keyFile
}

func TestBothSidesProveWhoTheyAre(t *testing.T) {
	runners, balancers := newAuthority(t), newAuthority(t)
	cert, key := runners.issue("runner")
	serverTLS, err := ServerTLS(cert, key, balancers.file)
	if err != nil {
		t.Fatal(err)
	}
	_, address := serve(t, ServerOptions{Connection: Connection{TLS: serverTLS}, Invoker: echo})
	try := func(opts ClientOptions) error {
		response, err := dial(t, address, opts).Invoke(t.Context(), newCall("x"))
		if err == nil {
			read(t, response, nil)
		}
		return err
	}
	clientTLS := func(ca *authority, own *authority, name string) ClientOptions {
		cert, key := "", ""
		if own != nil {
			cert, key = own.issue("balancer")
		}
		made, err := ClientTLS(ca.file, cert, key, name)
		if err != nil {
			t.Fatal(err)
		}
		return ClientOptions{Connection: Connection{TLS: made}, ConnectTimeout: patience}
	}
	if err := try(clientTLS(runners, balancers, "runner")); err != nil {
		t.Error(err)
	}
	for name, opts := range map[string]ClientOptions{
		"without TLS":                        {},
		"without a certificate":              clientTLS(runners, nil, "runner"),
		"with one of another authority":      clientTLS(runners, runners, "runner"),
		"of a runner of another authority":   clientTLS(balancers, balancers, "runner"),
		"of a runner that is called another": clientTLS(runners, balancers, "other"),
	} {
		if err := try(opts); !errors.Is(err, invoke.ErrNotPlaced) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestCertificateIsReadAgainWhenItHasChanged(t *testing.T) {
	ca := newAuthority(t)
	certFile, keyFile := ca.issue("runner")
	config, err := ServerTLS(certFile, keyFile, "")
	if err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		t.Helper()
		got, err := config.GetCertificate(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		return got.Leaf.SerialNumber.Int64()
	}
	first := serial()
	ca.issue("runner")
	later := time.Now().Add(time.Minute)
	for _, name := range []string{certFile, keyFile} {
		if err := os.Chtimes(name, later, later); err != nil {
			t.Fatal(err)
		}
	}
	second := serial()
	if second <= first {
		t.Error("the old certificate is used")
	}
	// One that cannot be read leaves the one from before.
	if err := os.WriteFile(certFile, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if serial() != second {
		t.Error("another certificate is used")
	}
	os.Remove(certFile)
	if serial() != second {
		t.Error("another certificate is used")
	}
}

func TestFilesThatAreNoCertificatesAreRefused(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue("runner")
	other, _ := ca.issue("other")
	for name, files := range map[string][3]string{
		"no key":           {cert, "", ""},
		"no certificate":   {"", key, ""},
		"no such file":     {"/none", key, ""},
		"another's key":    {other, key, ""},
		"no authority":     {cert, key, "/none"},
		"key as authority": {cert, key, key},
	} {
		if _, err := ServerTLS(files[0], files[1], files[2]); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := ClientTLS("/none", "", "", ""); err == nil {
		t.Error("no authority is accepted")
	}
	if _, err := ClientTLS(ca.file, cert, "", ""); err == nil {
		t.Error("no key is accepted")
	}
}
