package network

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
)

// Attachment is the network of one sandbox. It is safe for concurrent use. An
// attachment of class Egress holds one descriptor, a connection to the
// sandbox's namespace, which therefore exists until Detach.
type Attachment struct {
	Class   Class
	Addr    netip.Prefix // the sandbox's address and the subnet's length; zero unless Egress
	Gateway netip.Addr   // the bridge's address; zero unless Egress

	manager *Manager
	id      string
	port    int // index of the host's end, 0 if there is none
	eth     int // index of the sandbox's end

	mu       sync.Mutex // guards the rest
	inside   *netlink.Handle
	detached bool
}

// ResolvConf is the content of the sandbox's /etc/resolv.conf: the nameservers
// that it is let through to, as they are now. It is empty for the class None.
func (a *Attachment) ResolvConf() string {
	if a.Class != Egress {
		return ""
	}
	a.manager.mu.Lock()
	defer a.manager.mu.Unlock()
	return a.manager.resolvers.String()
}

// Probe makes sure that the address and the default route are there, and that
// the pair is a port of the bridge. Errors: ErrBroken, ErrClosed after Detach,
// context errors.
func (a *Attachment) Probe(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.detached {
		return ErrClosed
	}
	if a.Class != Egress {
		return nil
	}
	bridge := a.manager.bridgeIndex()
	link, err := a.manager.host.LinkByIndex(a.port)
	if err != nil {
		return fmt.Errorf("%w: look up its interface on the host: %w", ErrBroken, err)
	}
	if link.Attrs().MasterIndex != bridge {
		return fmt.Errorf("%w: interface %s is not on bridge %s", ErrBroken, link.Attrs().Name, a.manager.opts.Bridge)
	}
	eth := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: a.eth}}
	addrs, err := a.inside.AddrList(eth, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("%w: list its addresses: %w", ErrBroken, err)
	}
	found := false
	for _, addr := range addrs {
		found = found || addr.IPNet.String() == a.Addr.String()
	}
	if !found {
		return fmt.Errorf("%w: %s does not have the address %v", ErrBroken, insideName, a.Addr)
	}
	routes, err := a.inside.RouteList(eth, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("%w: list its routes: %w", ErrBroken, err)
	}
	for _, route := range routes {
		destination, ok := destinationOf(route)
		if (!ok || destination.Bits() == 0) && route.Gw.Equal(a.Gateway.AsSlice()) {
			return nil
		}
	}
	return fmt.Errorf("%w: it has no default route by %v", ErrBroken, a.Gateway)
}

// Detach returns at once and removes the pair in the background, which takes
// about 15 ms for one and little more for sixteen; its address is free then. It may be repeated.
func (a *Attachment) Detach() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.detached {
		return
	}
	a.detached = true
	if a.inside != nil {
		a.inside.Close()
	}
	if a.port == 0 {
		return
	}
	m, addr := a.manager, a.Addr.Addr()
	m.remover.remove(removal{a.port, portName(addr), func() {
		m.addresses.give(addr)
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.attached, a)
	}})
}
