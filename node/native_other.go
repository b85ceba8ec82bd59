//go:build !linux

package node

import (
	"context"
	"errors"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/internal/config"
)

var errOnlyLinux = errors.New("the native driver works on Linux only: set FN_DRIVER=docker")

func (n *Node) openNative(*capacity.Sizing) (driver.Driver, error) { return nil, errOnlyLinux }

func examineNative(context.Context, *config.Config) []driver.Finding {
	return []driver.Finding{{Subject: "kernel", Err: errOnlyLinux}}
}
