//go:build !linux

package node

import (
	"errors"

	"github.com/tinefn/tine/driver"
)

func (n *Node) openNative() (driver.Driver, error) {
	return nil, errors.New("the native driver works on Linux only: set FN_DRIVER=docker")
}
