package syslog

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// The usual ports, RFC 5426 and RFC 5425.
const (
	defaultPort    = "514"
	defaultTLSPort = "6514"
)

// stream and framed tell connections that need something between two messages.
type (
	stream struct{ net.Conn } // a line feed after each, RFC 6587 section 3.4.2
	framed struct{ net.Conn } // the length before each, RFC 5425 section 4.3
)

// dial connects to the server of a URL.
func dial(ctx context.Context, address string) (net.Conn, error) {
	u, err := url.Parse(strings.TrimSpace(address))
	if err != nil {
		return nil, err
	}
	var dialer net.Dialer
	switch u.Scheme {
	case "udp":
		return dialer.DialContext(ctx, "udp", withPort(u, defaultPort))
	case "tcp":
		conn, err := dialer.DialContext(ctx, "tcp", withPort(u, defaultPort))
		return stream{conn}, err
	case "tcp+tls":
		secure := tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12}}
		conn, err := secure.DialContext(ctx, "tcp", withPort(u, defaultTLSPort))
		return framed{conn}, err
	case "unixgram":
		return dialer.DialContext(ctx, "unixgram", u.Path)
	case "unix": // most servers listen for datagrams there
		if conn, err := dialer.DialContext(ctx, "unixgram", u.Path); err == nil {
			return conn, nil
		}
		conn, err := dialer.DialContext(ctx, "unix", u.Path)
		return stream{conn}, err
	}
	return nil, fmt.Errorf("there is no syslog over %q", u.Scheme)
}

func withPort(u *url.URL, port string) string {
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// frame is a message as it goes over the connection.
func frame(conn net.Conn, text []byte) []byte {
	switch conn.(type) {
	case stream:
		return append(text, '\n')
	case framed:
		return append(append(strconv.AppendInt(nil, int64(len(text)), 10), ' '), text...)
	}
	return text
}
