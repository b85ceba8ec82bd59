package image

import (
	"errors"
	"net"
	"net/http"
)

// errPlainHTTP says that a registry would be asked without encryption.
var errPlainHTTP = errors.New("plain HTTP to a registry that is not on loopback is not allowed: give the registry a certificate, or allow it")

// plainGuard refuses requests without encryption that nobody allowed: the
// registry client falls back to them for private addresses, with credentials.
type plainGuard struct {
	http.RoundTripper
	allowed bool
}

func (g plainGuard) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.URL.Scheme == "http" && !g.allowed && !isLoopback(request.URL.Hostname()) {
		return nil, errPlainHTTP
	}
	return g.RoundTripper.RoundTrip(request)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
