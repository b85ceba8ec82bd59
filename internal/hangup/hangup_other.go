//go:build !linux

// Package hangup tells when the other side of a connection has closed it, on Linux.
package hangup

import (
	"errors"
	"net"
)

// Watch watches nothing.
type Watch struct{}

// New returns a watch.
func New() (*Watch, error) { return &Watch{}, nil }

// Add fails.
func (*Watch) Add(net.Conn, func()) (func(), error) {
	return nil, errors.New("connections cannot be watched on this system")
}

// Close does nothing.
func (*Watch) Close() {}
