package system

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/internal/osthread"
	"github.com/tinefn/tine/test/netns"
)

// host is a machine as nodes see it.
type host struct {
	address   string   // IPv4
	namespace *os.File // the network namespace; nil: the one of the tests
	cable     string   // its end at the switch
	hub       *hub     // nil: it has no cable
}

// loopback is the machine that the tests run on.
var loopback = host{address: "127.0.0.1"}

// enter puts the calling thread into the host's network, for good.
func (h host) enter() error {
	if h.namespace == nil {
		return nil
	}
	if err := unix.Setns(int(h.namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network namespace of %s: %w", h.address, err)
	}
	return nil
}

// in runs something in the host's network. What it opens belongs there.
func (h host) in(f func() error) (err error) {
	if h.namespace == nil {
		return f()
	}
	osthread.Do(func() {
		if err = h.enter(); err == nil {
			err = f()
		}
	})
	return err
}

// hub is a switch with hosts at its cables: a network namespace with a bridge, which has an
// address of its own, so that the tests can be a client there.
type hub struct {
	t    *testing.T
	self host
	made int
}

// Addresses of the hub and its hosts, of a network that is for documentation.
const (
	hubAddress  = "198.51.100.1"
	hostAddress = "198.51.100.%d"
	hubBridge   = "hub"
	hostDevice  = "eth0"
)

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{t: t, self: host{address: hubAddress, namespace: netns.New(t)}, made: 1}
	h.must(h.self.in(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = hubBridge
		bridge := &netlink.Bridge{LinkAttrs: attrs}
		return errors.Join(netlink.LinkAdd(bridge), addAddress(bridge, hubAddress), up(hubBridge), up("lo"))
	}))
	return h
}

// host makes a host with a cable to the hub.
func (h *hub) host() host {
	h.t.Helper()
	h.made++
	made := host{address: fmt.Sprintf(hostAddress, h.made), namespace: netns.New(h.t), cable: fmt.Sprintf("port%d", h.made), hub: h}
	h.must(h.self.in(func() error {
		link := netlink.NewVeth(netlink.NewLinkAttrs())
		link.Name, link.PeerName, link.PeerNamespace = made.cable, hostDevice, netlink.NsFd(made.namespace.Fd())
		if err := netlink.LinkAdd(link); err != nil {
			return err
		}
		bridge, err := netlink.LinkByName(hubBridge)
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetMaster(link, bridge), up(made.cable))
	}))
	h.must(made.in(func() error {
		device, err := netlink.LinkByName(hostDevice)
		if err != nil {
			return err
		}
		return errors.Join(addAddress(device, made.address), up(hostDevice), up("lo"))
	}))
	return made
}

func (h *hub) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal("network of the test:", err)
	}
}

func addAddress(link netlink.Link, address string) error {
	parsed, err := netlink.ParseAddr(address + "/24")
	if err != nil {
		return err
	}
	return netlink.AddrAdd(link, parsed)
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// cut takes the host's cable out: nothing arrives any more, in no direction, and nobody
// is told so.
func (h host) cut() {
	h.hub.t.Helper()
	h.hub.must(h.hub.self.in(func() error {
		link, err := netlink.LinkByName(h.cable)
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(link)
	}))
}

// mend puts it in again.
func (h host) mend() {
	h.hub.t.Helper()
	h.hub.must(h.hub.self.in(func() error { return up(h.cable) }))
}
