// Package network gives sandboxes their network. A sandbox is a set of
// processes in a network namespace of their own, which is made before it is
// needed; so is what this package puts into it.
//
// Terms: the bridge joins all sandboxes of a host with it; a pair is two
// connected virtual interfaces (veth), of which one is a port of the bridge and
// the other is the sandbox's eth0. An attachment is what one sandbox got.
//
//	sandbox: eth0 ◄──pair──► tnXXXXXXXX: port ── bridge tine0 ── host's routes, masqueraded ──► outside
//
// What sandboxes cannot reach is decided in two places. The bridge forwards
// nothing between its ports, as each is marked isolated. The table in nftables
// (see rules_linux.go) drops what goes from the bridge to the host, back into
// the bridge, to metadata services and to private networks, unless [Options]
// open it, and masquerades the rest by one rule for all.
//
// Several servers may use one bridge if they agree on its subnet and on what is
// open. The kernel keeps their addresses apart: the name of a port is its
// sandbox's address, and names are unique in a network namespace. So nothing
// has to be locked for an attachment, nothing is left by a server that
// was killed but the pair itself, and an address is free at the very moment
// when its pair is gone. Whose a pair is says its alias.
//
// Sandboxes must not have CAP_NET_ADMIN or CAP_NET_RAW: with these a sandbox
// could take another one's address on the bridge and receive what is sent to it.
package network

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Class says what a sandbox can reach.
type Class int

// The classes.
const (
	// None is the loopback interface and nothing else.
	None Class = iota
	// Egress is an address on the bridge, from which connections are made to the
	// outside. Nobody can connect to it but the host.
	Egress
)

func (c Class) String() string {
	switch c {
	case None:
		return "none"
	case Egress:
		return "egress"
	}
	return fmt.Sprintf("class %d", int(c))
}

// Errors that callers tell apart. They come wrapped with the cause.
var (
	// ErrNoAddress: all addresses of the subnet, or all ports of the bridge, are in use.
	ErrNoAddress = errors.New("no address is free for a sandbox")
	// ErrConflict: the host, or another server, uses what was asked for in another way.
	ErrConflict = errors.New("the sandboxes' network is in conflict")
	// ErrClosed: the manager was closed, or the attachment was detached.
	ErrClosed = errors.New("the sandboxes' network is closed")
	// ErrBroken: a sandbox lost a part of its network.
	ErrBroken = errors.New("the sandbox's network is broken")
	// ErrUnsupported: this system has no network namespaces.
	ErrUnsupported = errors.New("networks for sandboxes need Linux")
)

// Defaults of [Options].
const (
	DefaultBridge  = "tine0"
	DefaultLockDir = "/run/tine/network"
)

// DefaultSubnet is where sandboxes get their addresses. It is outside of what
// Docker (172.17.0.0/12, 192.168.0.0/16), Podman (10.88.0.0/16), nerdctl
// (10.4.0.0/24), Kubernetes (10.96.0.0/12, 10.244.0.0/16, k3s 10.42.0.0/15),
// Google's automatic networks (10.128.0.0/9), Amazon's (172.31.0.0/16) and
// Azure's (10.0.0.0/15) take by default. It is far larger than the 1023 ports that
// a bridge can have (BR_MAX_PORTS in the kernel's net/bridge/br_private.h), so
// that an address rests for long before it is used again.
var DefaultSubnet = netip.MustParsePrefix("10.87.0.0/16")

// Limits of the subnet's length: fewer bits are no subnet for one host, more
// leave no room for the gateway and a handful of sandboxes.
const (
	minSubnetBits = 8
	maxSubnetBits = 29
)

// maxNameLength is how long, in bytes, an instance's and a sandbox's id may be:
// both have to fit in an interface's alias, which holds 255 (IFALIASZ).
const maxNameLength = 100

// maxBridgeLength is how long a bridge's name may be, in bytes (IFNAMSIZ - 1).
const maxBridgeLength = 15

// DefaultResolvConf are the files that nameservers are read from. The first
// that names one which sandboxes can reach counts: a resolver at a
// loopback address, such as that of systemd-resolved (127.0.0.53) or of
// NetworkManager's dnsmasq, is not theirs to reach, but what it asks itself is.
var DefaultResolvConf = []string{
	"/etc/resolv.conf",
	"/run/systemd/resolve/resolv.conf",
	"/run/NetworkManager/no-stub-resolv.conf",
}

// Options configures a [Manager].
type Options struct {
	Instance string       // id of this server process, at most 100 bytes of printable ASCII without spaces
	Bridge   string       // empty: DefaultBridge
	Subnet   netip.Prefix // IPv4, /8 to /29; zero: DefaultSubnet
	MTU      int          // in bytes; 0: that of the interface with the default route, or 1500
	Logger   *slog.Logger // nil: nothing is logged

	// What sandboxes may reach beside the internet and their nameservers.
	// Servers that share a bridge must agree.
	AllowHost      bool // the host's own addresses, and what Docker publishes on them
	AllowLinkLocal bool // 169.254.0.0/16 and other addresses of metadata services: they hand out the host's credentials
	AllowPrivate   bool // 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 and 100.64.0.0/10; containers of Docker too

	// IPv6 leaves IPv6 on in the sandboxes. They get no address and reach nothing
	// by it; it is for programs that insist on its presence.
	IPv6 bool

	// Trial is for who only tries: if the last one of a bridge does and has turned
	// forwarding on, Close turns it off again. Otherwise it stays on, as others may
	// have come to need it.
	Trial bool

	Nameservers []netip.Addr // IPv4; empty: those of the first file of ResolvConf that names some
	ResolvConf  []string     // empty: DefaultResolvConf
	LockDir     string       // where servers find out about each other; empty: DefaultLockDir
}

// withDefaults fills in what is not set, and checks the rest.
func (o Options) withDefaults() (Options, error) {
	if o.Bridge == "" {
		o.Bridge = DefaultBridge
	}
	if o.Subnet == (netip.Prefix{}) {
		o.Subnet = DefaultSubnet
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if len(o.ResolvConf) == 0 {
		o.ResolvConf = DefaultResolvConf
	}
	if o.LockDir == "" {
		o.LockDir = DefaultLockDir
	}
	if err := checkName("instance", o.Instance); err != nil {
		return o, err
	}
	if err := checkBridgeName(o.Bridge); err != nil {
		return o, err
	}
	switch {
	case !o.Subnet.IsValid() || !o.Subnet.Addr().Is4() || o.Subnet.Bits() < minSubnetBits || o.Subnet.Bits() > maxSubnetBits:
		return o, fmt.Errorf("%v is no subnet for sandboxes: set FN_SANDBOX_SUBNET to an IPv4 network from /%d to /%d", o.Subnet, minSubnetBits, maxSubnetBits)
	case o.Subnet != o.Subnet.Masked():
		return o, fmt.Errorf("%v is no subnet: set FN_SANDBOX_SUBNET to %v", o.Subnet, o.Subnet.Masked())
	case o.MTU != 0 && (o.MTU < minMTU || o.MTU > maxMTU):
		return o, fmt.Errorf("an MTU of %d bytes is not possible: use %d to %d, or 0 for that of the default route", o.MTU, minMTU, maxMTU)
	}
	for _, server := range o.Nameservers {
		if !isReachable(server) {
			return o, fmt.Errorf("sandboxes cannot reach nameserver %v: use IPv4 addresses that are not of the loopback interface", server)
		}
	}
	return o, nil
}

// Bounds of the MTU, in bytes: the smallest that every IPv4 host accepts (RFC
// 791), and the largest of virtual interfaces (ETH_MAX_MTU).
const (
	minMTU = 576
	maxMTU = 65535
)

// isPlain reports whether a character can be in an alias and separate nothing there.
func isPlain(r rune) bool { return r > ' ' && r < 0x7f }

// checkName makes sure that an id can be written into an alias.
func checkName(what, name string) error {
	if name == "" || len(name) > maxNameLength || strings.ContainsFunc(name, func(r rune) bool { return !isPlain(r) }) {
		return fmt.Errorf("%q is no %s id for a network: use 1 to %d printable ASCII characters without spaces", name, what, maxNameLength)
	}
	return nil
}

// checkBridgeName makes sure that a name can be that of a bridge, means the same
// in nftables and in /proc/sys/net, and is none that the kernel or this package
// uses for something else.
func checkBridgeName(name string) error {
	_, isPort := portAddr(name)
	isReserved := slices.Contains([]string{".", "..", "all", "default"}, name)
	isStrange := strings.ContainsFunc(name, func(r rune) bool { return !isPlain(r) || strings.ContainsRune(`/:"%*`, r) })
	if len(name) > maxBridgeLength || isPort || isReserved || isStrange {
		return fmt.Errorf("%q is no name for a bridge: set FN_SANDBOX_BRIDGE to one of at most %d letters and digits", name, maxBridgeLength)
	}
	return nil
}

// Target names the network namespace of a sandbox: by a process in it, or by an
// open file such as /proc/<pid>/ns/net, which the caller may close when Attach
// has returned. The file counts if both are set.
type Target struct {
	PID  int
	File *os.File
}

// open returns the target's namespace as a file, which the caller closes if it
// is owned.
func (t Target) open() (file *os.File, owned bool, err error) {
	if t.File != nil {
		return t.File, false, nil
	}
	if t.PID <= 0 {
		return nil, false, errors.New("the target names no network namespace: set its PID or its File")
	}
	file, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", t.PID))
	if err != nil {
		return nil, false, fmt.Errorf("open the network namespace of process %d: %w", t.PID, err)
	}
	return file, true, nil
}
