package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// descriptionPrefix begins the alias of a bridge; the policy follows. It tells
// our bridges from others, and servers what they have to agree on.
const descriptionPrefix = "tine bridge "

// defaultMTU is for hosts without a default route, in bytes: that of Ethernet.
const defaultMTU = 1500

// ensureBridge makes the bridge if it is not there, and returns its index. Alone
// says that no other server uses it, so that one with another description was
// left by a server that was killed. The caller holds the lock for set-ups.
func (m *Manager) ensureBridge(alone bool) (int, error) {
	name := m.opts.Bridge
	link, err := m.host.LinkByName(name)
	switch {
	case err == nil:
		if err := m.checkBridge(link, alone); err == nil {
			return link.Attrs().Index, m.configureBridge(link)
		} else if !alone || !strings.HasPrefix(link.Attrs().Alias, descriptionPrefix) {
			return 0, err
		}
		if err := m.host.LinkDel(link); err != nil {
			return 0, fmt.Errorf("remove bridge %s of an earlier server: %w", name, err)
		}
	case !isGone(err):
		return 0, fmt.Errorf("look up bridge %s: %w", name, err)
	}

	snooping := false // sandboxes have no multicast
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, m.mtu
	// Otherwise the bridge takes the lowest of its ports', and sandboxes that
	// remember an earlier one lose their connections.
	attrs.HardwareAddr = hardwareAddr(m.addresses.gateway())
	if err := m.host.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
		return 0, fmt.Errorf("make bridge %s, which needs CAP_NET_ADMIN: %w", name, err)
	}
	if link, err = m.host.LinkByName(name); err != nil {
		return 0, fmt.Errorf("look up bridge %s: %w", name, err)
	}
	return link.Attrs().Index, m.configureBridge(link)
}

// checkBridge makes sure that what has the bridge's name is ours, and is used
// as this server is set to.
func (m *Manager) checkBridge(link netlink.Link, alone bool) error {
	name, alias := m.opts.Bridge, link.Attrs().Alias
	if link.Type() != "bridge" {
		return fmt.Errorf("%w: there is a network interface %s that is no bridge, set FN_SANDBOX_BRIDGE to another name", ErrConflict, name)
	}
	if alias == "" && alone {
		// A server may have been killed before it wrote the alias. Then there is
		// nothing else either.
		addrs, err := m.host.AddrList(link, netlink.FAMILY_V4)
		if err == nil && len(addrs) == 0 {
			return nil
		}
	}
	description, ours := strings.CutPrefix(alias, descriptionPrefix)
	if !ours {
		return fmt.Errorf("%w: bridge %s was not made by this server, set FN_SANDBOX_BRIDGE to another name", ErrConflict, name)
	}
	if description != m.policy.String() {
		return fmt.Errorf("%w: another server uses bridge %s with %q and this one is set to %q, set both to the same or FN_SANDBOX_BRIDGE to another name",
			ErrConflict, name, description, m.policy)
	}
	return nil
}

// configureBridge may be repeated.
func (m *Manager) configureBridge(link netlink.Link) error {
	name := m.opts.Bridge
	if err := m.host.LinkSetAlias(link, descriptionPrefix+m.policy.String()); err != nil {
		return fmt.Errorf("describe bridge %s: %w", name, err)
	}
	// Nobody has an IPv6 address to reach; this saves the kernel from announcing
	// its own.
	if err := disableIPv6(name); err != nil {
		return fmt.Errorf("turn IPv6 off for bridge %s: %w", name, err)
	}
	gateway := netip.PrefixFrom(m.addresses.gateway(), m.opts.Subnet.Bits())
	if err := m.host.AddrAdd(link, &netlink.Addr{IPNet: ipNet(gateway)}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("give bridge %s the address %v: %w", name, gateway, err)
	}
	if err := m.host.LinkSetUp(link); err != nil {
		return fmt.Errorf("turn bridge %s on: %w", name, err)
	}
	return nil
}

// removeBridge removes the bridge, unless a port is left on it. It tells whether
// there is none of ours any more.
func (m *Manager) removeBridge() (bool, error) {
	link, err := m.host.LinkByName(m.opts.Bridge)
	if isGone(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up bridge %s: %w", m.opts.Bridge, err)
	}
	if !strings.HasPrefix(link.Attrs().Alias, descriptionPrefix) {
		return true, nil
	}
	links, err := listLinks(m.host)
	if err != nil {
		return false, err
	}
	for _, port := range links {
		if port.Attrs().MasterIndex == link.Attrs().Index {
			return false, nil
		}
	}
	if err := m.host.LinkDel(link); err != nil && !isGone(err) {
		return false, fmt.Errorf("remove bridge %s: %w", m.opts.Bridge, err)
	}
	return true, nil
}

// routes returns the host's routes for IPv4, of all tables.
func (m *Manager) routes() ([]netlink.Route, error) {
	const attempts = 10
	var routes []netlink.Route
	var err error
	for range attempts {
		routes, err = m.host.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list the host's routes: %w", err)
	}
	return routes, nil
}

// halfBits is the length of networks that are half of all addresses. VPNs make
// two routes to such instead of a default route.
const halfBits = 1

// checkRoutes makes sure that the host reaches nothing else under the
// sandboxes' addresses.
func (m *Manager) checkRoutes(routes []netlink.Route) error {
	own := 0
	if link, err := m.host.LinkByName(m.opts.Bridge); err == nil && strings.HasPrefix(link.Attrs().Alias, descriptionPrefix) {
		own = link.Attrs().Index
	}
	for _, route := range routes {
		destination, ok := destinationOf(route)
		if !ok || destination.Bits() <= halfBits || own != 0 && route.LinkIndex == own || !destination.Overlaps(m.opts.Subnet) {
			continue
		}
		by := ""
		if link, err := m.host.LinkByIndex(route.LinkIndex); err == nil {
			by = " by interface " + link.Attrs().Name
		}
		return fmt.Errorf("%w: the sandboxes' subnet %v overlaps %v, to which this host has a route%s, set FN_SANDBOX_SUBNET to a network that is not in use",
			ErrConflict, m.opts.Subnet, destination, by)
	}
	return nil
}

// outsideMTU is the MTU of the interface with the default route, in bytes.
func (m *Manager) outsideMTU(routes []netlink.Route) int {
	best := -1
	for i, route := range routes {
		if destination, ok := destinationOf(route); route.Table != unix.RT_TABLE_MAIN || ok && destination.Bits() > 0 {
			continue
		}
		if best < 0 || route.Priority < routes[best].Priority {
			best = i
		}
	}
	if best < 0 {
		return defaultMTU
	}
	index := routes[best].LinkIndex
	if hops := routes[best].MultiPath; index == 0 && len(hops) > 0 {
		index = hops[0].LinkIndex
	}
	link, err := m.host.LinkByIndex(index)
	if err != nil || link.Attrs().MTU < minMTU {
		return defaultMTU
	}
	return min(link.Attrs().MTU, maxMTU)
}

// destinationOf returns a route's destination. A default route may have none.
func destinationOf(route netlink.Route) (netip.Prefix, bool) {
	if route.Dst == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(route.Dst.IP.To4())
	bits, _ := route.Dst.Mask.Size()
	return netip.PrefixFrom(addr, bits), ok
}

// ipNet is an address and the length of its network as netlink takes it.
func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}
