//go:build !linux

package network

import (
	"context"
	"net/netip"
)

// Manager gives sandboxes their networks, on Linux.
type Manager struct{}

// Open returns ErrUnsupported.
func Open(opts Options) (*Manager, error) {
	if _, err := opts.withDefaults(); err != nil {
		return nil, err
	}
	return nil, ErrUnsupported
}

// Attach returns ErrUnsupported.
func (*Manager) Attach(context.Context, Class, Target, string) (*Attachment, error) {
	return nil, ErrUnsupported
}

// Sweep returns ErrUnsupported.
func (*Manager) Sweep(context.Context, func(instance string) bool) (int, error) {
	return 0, ErrUnsupported
}

// Ensure returns ErrUnsupported.
func (*Manager) Ensure(context.Context) error { return ErrUnsupported }

// Close does nothing.
func (*Manager) Close(context.Context) error { return nil }

// Attachment is the network of one sandbox, on Linux.
type Attachment struct {
	Class   Class
	Addr    netip.Prefix
	Gateway netip.Addr
}

// ResolvConf is empty.
func (*Attachment) ResolvConf() string { return "" }

// Probe returns ErrUnsupported.
func (*Attachment) Probe(context.Context) error { return ErrUnsupported }

// Detach does nothing.
func (*Attachment) Detach() {}
