package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// attachTimeout is how long an attachment may take; no request begins later. It
// usually takes milliseconds.
const attachTimeout = 10 * time.Second

// insideName is the name of a sandbox's end of the pair, and loopbackIndex the
// index of the loopback interface in every namespace (LOOPBACK_IFINDEX).
const (
	insideName    = "eth0"
	loopbackIndex = 1
)

// Attach gives the sandbox with an id its network, in a namespace that has none
// yet. If it returns an error, what was made is removed in the background.
// Errors: ErrNoAddress, ErrClosed, context errors.
func (m *Manager) Attach(ctx context.Context, class Class, target Target, id string) (*Attachment, error) {
	if err := checkName("sandbox", id); err != nil {
		return nil, err
	}
	done, err := m.use()
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	defer context.AfterFunc(m.ctx, cancel)()

	a := &Attachment{Class: class, manager: m, id: id}
	namespace, owned, err := target.open()
	if err != nil {
		return nil, err
	}
	if owned {
		defer func() { _ = namespace.Close() }()
	}
	if err := m.checkNamespace(namespace); err != nil {
		return nil, err
	}
	switch class {
	case None:
		err = inNamespace(m.home, namespace, turnLoopbackOn)
	case Egress:
		err = m.connect(ctx, a, namespace)
	default:
		err = fmt.Errorf("%v is no class of networks", class)
	}
	if err != nil {
		a.Detach()
		if m.ctx.Err() != nil {
			err = ErrClosed
		}
		return nil, fmt.Errorf("attach sandbox %s to the network: %w", id, err)
	}
	return a, nil
}

// checkNamespace refuses the host's own namespace.
func (m *Manager) checkNamespace(namespace *os.File) error {
	target, err := namespace.Stat()
	if err != nil {
		return fmt.Errorf("look at network namespace %s: %w", namespace.Name(), err)
	}
	home, err := m.home.Stat()
	if err != nil {
		return fmt.Errorf("look at the server's network namespace: %w", err)
	}
	if os.SameFile(target, home) {
		return fmt.Errorf("%s is the server's own network namespace, not a sandbox's", namespace.Name())
	}
	return nil
}

func turnLoopbackOn() error {
	handle, err := openHandle()
	if err != nil {
		return err
	}
	defer handle.Close()
	return setUpByIndex(handle, loopbackIndex)
}

// setUpByIndex turns an interface on.
func setUpByIndex(handle *netlink.Handle, index int) error {
	if err := handle.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}); err != nil {
		return fmt.Errorf("turn interface %d on: %w", index, err)
	}
	return nil
}

// connect makes the pair and configures both ends.
func (m *Manager) connect(ctx context.Context, a *Attachment, namespace *os.File) error {
	pair, err := m.makePair(ctx, a, namespace)
	if err != nil {
		return err
	}
	// The sandbox's end is turned on last: it sends nothing before its port is
	// isolated.
	if err := m.makePort(ctx, pair, a.id); err != nil {
		return err
	}
	if err := m.configureInside(ctx, a, namespace); err != nil {
		return err
	}
	return m.awaitCarrier(ctx, a)
}

// makePair makes the pair, with one end in the namespace, under an address that
// is free. The attachment owns it then.
func (m *Manager) makePair(ctx context.Context, a *Attachment, namespace *os.File) (netlink.Link, error) {
	looked := false
	look := func() error {
		looked = true
		return m.lookForForeign()
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		addr, err := m.addresses.take()
		if err != nil {
			if looked {
				return nil, err
			}
			if err := look(); err != nil {
				return nil, err
			}
			continue
		}
		pair := netlink.NewVeth(netlink.NewLinkAttrs())
		pair.Name, pair.MTU, pair.PeerName = portName(addr), m.mtu, insideName
		pair.NumTxQueues, pair.NumRxQueues = 1, 1 // by default as many as processors, each with its memory
		pair.PeerHardwareAddr = hardwareAddr(addr)
		pair.PeerNamespace = netlink.NsFd(namespace.Fd())
		err = m.host.LinkAdd(pair)
		if err == nil && pair.Index == 0 {
			err = errors.New("the kernel does not tell its index")
		}
		if err == nil {
			m.own(a, addr, pair.Index)
			return pair, nil
		}
		m.addresses.give(addr)
		if !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("make the pair of interfaces %s and %s: %w", pair.Name, insideName, err)
		}
		// Another server has the address, or the namespace has an eth0.
		if _, err := m.host.LinkByName(pair.Name); isGone(err) && looked {
			return nil, fmt.Errorf("its network namespace has an interface %s already", insideName)
		}
		if err := look(); err != nil {
			return nil, err
		}
	}
}

// lookForForeign finds out which addresses are in use by other servers.
func (m *Manager) lookForForeign() error {
	links, err := listLinks(m.host)
	if err != nil {
		return err
	}
	var used []netip.Addr
	for _, link := range links {
		if addr, ok := portAddr(link.Attrs().Name); ok {
			used = append(used, addr)
		}
	}
	m.addresses.setForeign(used)
	return nil
}

// own makes the attachment the owner of a pair.
func (m *Manager) own(a *Attachment, addr netip.Addr, index int) {
	a.Addr = netip.PrefixFrom(addr, m.opts.Subnet.Bits())
	a.Gateway = m.addresses.gateway()
	a.port = index
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attached[a] = struct{}{}
}

// makePort joins the host's end to the bridge.
func (m *Manager) makePort(ctx context.Context, pair netlink.Link, id string) error {
	name := pair.Attrs().Name
	if err := m.host.LinkSetAlias(pair, label{m.opts.Instance, id}.String()); err != nil {
		return fmt.Errorf("label interface %s: %w", name, err)
	}
	if err := m.joinBridge(ctx, pair); err != nil {
		return err
	}
	if err := m.host.LinkSetIsolated(pair, true); err != nil {
		return fmt.Errorf("isolate interface %s from other sandboxes: %w", name, err)
	}
	if err := setUpByIndex(m.host, pair.Attrs().Index); err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return ctx.Err()
}

// joinBridge makes the bridge again if somebody removed it.
func (m *Manager) joinBridge(ctx context.Context, pair netlink.Link) error {
	name := pair.Attrs().Name
	err := m.host.LinkSetMasterByIndex(pair, m.bridgeIndex())
	if isGone(err) || errors.Is(err, unix.EINVAL) {
		if err := m.ensure(ctx); err != nil {
			return fmt.Errorf("bridge %s is gone: %w", m.opts.Bridge, err)
		}
		err = m.host.LinkSetMasterByIndex(pair, m.bridgeIndex())
	}
	switch {
	case errors.Is(err, unix.EXFULL):
		return fmt.Errorf("%w: bridge %s has as many ports as the kernel allows, 1023, run fewer functions at a time or set FN_SANDBOX_BRIDGE of one server to another name",
			ErrNoAddress, m.opts.Bridge)
	case err != nil:
		return fmt.Errorf("join interface %s to bridge %s: %w", name, m.opts.Bridge, err)
	}
	return nil
}

func (m *Manager) bridgeIndex() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bridge
}

// configureInside gives the sandbox's end its address and its route. The
// attachment owns the connection to the namespace then.
func (m *Manager) configureInside(ctx context.Context, a *Attachment, namespace *os.File) error {
	err := inNamespace(m.home, namespace, func() (err error) {
		if !m.opts.IPv6 {
			if err := disableIPv6(insideName); err != nil {
				return fmt.Errorf("turn IPv6 off: %w", err)
			}
		}
		a.inside, err = openHandle()
		return err
	})
	if err != nil {
		return err
	}
	if err := setUpByIndex(a.inside, loopbackIndex); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	link, err := a.inside.LinkByName(insideName)
	if err != nil {
		return fmt.Errorf("look up %s: %w", insideName, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := a.inside.AddrAdd(link, &netlink.Addr{IPNet: ipNet(a.Addr)}); err != nil {
		return fmt.Errorf("give %s the address %v: %w", insideName, a.Addr, err)
	}
	if err := setUpByIndex(a.inside, link.Attrs().Index); err != nil {
		return fmt.Errorf("%s: %w", insideName, err)
	}
	if err := a.inside.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: a.Gateway.AsSlice()}); err != nil {
		return fmt.Errorf("make the default route by %v: %w", a.Gateway, err)
	}
	a.eth = link.Attrs().Index
	return ctx.Err()
}

// awaitCarrier waits until packets pass. The kernel finds out in the background
// that an interface has got its carrier, and drops what is sent by
// the sandbox, the port or the bridge before: a function would wait a second, until it
// sends its first packet again.
func (m *Manager) awaitCarrier(ctx context.Context, a *Attachment) error {
	if err := awaitUp(ctx, a.inside, a.eth); err != nil {
		return fmt.Errorf("%s: %w", insideName, err)
	}
	if err := awaitUp(ctx, m.host, a.port); err != nil {
		return fmt.Errorf("interface %s: %w", portName(a.Addr.Addr()), err)
	}
	if err := awaitUp(ctx, m.host, m.bridgeIndex()); err != nil {
		return fmt.Errorf("bridge %s: %w", m.opts.Bridge, err)
	}
	return nil
}

// upPause is the time between looks at whether an interface works. Since Linux
// 6.8 the first look makes it work.
const upPause = time.Millisecond

func awaitUp(ctx context.Context, handle *netlink.Handle, index int) error {
	for {
		link, err := handle.LinkByIndex(index)
		if err != nil {
			return fmt.Errorf("look whether it works: %w", err)
		}
		if state := link.Attrs().OperState; state == netlink.OperUp || state == netlink.OperUnknown {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it gets no carrier: %w", ctx.Err())
		case <-time.After(upPause):
		}
	}
}
