package runnerrpc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// ServerTLS makes the settings of a runner that proves who it is by the certificate
// in a file, and, if clientCA names one, lets only clients connect that have a
// certificate of an authority in it. All files are PEM. Those of the certificate are
// read again when they have changed.
func ServerTLS(certFile, keyFile, clientCA string) (*tls.Config, error) {
	own, err := newKeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own.get() },
	}
	if clientCA != "" {
		if config.ClientCAs, err = authorities(clientCA); err != nil {
			return nil, err
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, nil
}

// ClientTLS makes the settings of a load balancer that believes runners with a
// certificate of an authority in a file. If certFile is not empty it proves who it is,
// which a runner may ask for. Runners must be called as in their certificate;
// serverName, if not empty, is what they all are called there.
func ClientTLS(authorityFile, certFile, keyFile, serverName string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName}
	var err error
	if config.RootCAs, err = authorities(authorityFile); err != nil {
		return nil, err
	}
	if certFile != "" || keyFile != "" {
		own, err := newKeyPair(certFile, keyFile)
		if err != nil {
			return nil, err
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own.get() }
	}
	return config, nil
}

// authorities reads certificates of authorities.
func authorities(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("certificates of authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificates of authorities: there is none in %s, it must be PEM", file)
	}
	return pool, nil
}

// keyPair is a certificate and its key in files that may be replaced.
type keyPair struct {
	certFile, keyFile string

	mu     sync.Mutex // guards the rest
	loaded *tls.Certificate
	asOf   [2]time.Time // when the files had been changed then
}

func newKeyPair(certFile, keyFile string) (*keyPair, error) {
	if certFile == "" || keyFile == "" {
		return nil, errors.New("a certificate and its key belong together: name both files, or neither")
	}
	pair := &keyPair{certFile: certFile, keyFile: keyFile}
	_, err := pair.get()
	return pair, err
}

// get returns the certificate, which was read again if its files have changed. Files
// that cannot be read, or do not fit together as only one was replaced so far, leave
// the one from before.
func (p *keyPair) get() (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	asOf, err := p.changed()
	if err == nil && p.loaded != nil && asOf == p.asOf {
		return p.loaded, nil
	}
	var fresh tls.Certificate
	if err == nil {
		fresh, err = tls.LoadX509KeyPair(p.certFile, p.keyFile)
	}
	if err == nil {
		p.loaded, p.asOf = &fresh, asOf
	}
	if p.loaded == nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", p.certFile, p.keyFile, err)
	}
	return p.loaded, nil
}

// changed is when the files were changed last.
func (p *keyPair) changed() (at [2]time.Time, err error) {
	for i, name := range []string{p.certFile, p.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return at, err
		}
		at[i] = info.ModTime()
	}
	return at, nil
}
