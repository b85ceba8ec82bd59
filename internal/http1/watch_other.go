//go:build !linux

package http1

import (
	"errors"
	"net"
)

// watch watches nothing: net/http serves all connections.
type watch struct{}

func newWatch() (*watch, error) { return &watch{}, nil }

func (*watch) add(net.Conn, func()) (func(), error) {
	return nil, errors.New("connections cannot be watched on this system")
}

func (*watch) close() {}
