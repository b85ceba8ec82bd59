package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/tinefn/tine/test/netns"
)

func TestAttachmentIsAsItSays(t *testing.T) {
	w := newWorld(t)
	opts := w.options()
	opts.MTU = 1400
	m := w.open(opts)
	s := w.attach(m, "box")
	if !opts.Subnet.IsValid() && !DefaultSubnet.Contains(s.Addr.Addr()) || s.Gateway.String() != "10.87.0.1" {
		t.Errorf("address %v, gateway %v", s.Addr, s.Gateway)
	}
	w.in(s.namespace, func() {
		for _, name := range []string{"lo", "eth0"} {
			if link := w.link(name); link.Attrs().Flags&1 == 0 {
				t.Errorf("%s is off", name)
			}
		}
		eth := w.link("eth0")
		if eth.Attrs().MTU != 1400 {
			t.Errorf("the MTU is %d", eth.Attrs().MTU)
		}
		addrs, err := netlink.AddrList(eth, netlink.FAMILY_ALL)
		if err != nil || len(addrs) != 1 || addrs[0].IPNet.String() != s.Addr.String() {
			t.Errorf("eth0 has %v, should have %v only (%v)", addrs, s.Addr, err)
		}
	})
	port := w.link(portName(s.Addr.Addr()))
	if got, want := port.Attrs().Alias, "tine sandbox instance=server-a id=box"; got != want {
		t.Errorf("the alias is %q, should be %q", got, want)
	}
	if protinfo, err := netlink.LinkGetProtinfo(port); err != nil || !protinfo.Isolated {
		t.Errorf("the port is not isolated: %+v, %v", protinfo, err)
	}
	w.must(s.Probe(t.Context()))
}

// Sandboxes remember the bridge's address on the wire.
func TestBridgeKeepsItsAddress(t *testing.T) {
	w := newWorld(t)
	m := w.open(w.options())
	before := w.link(DefaultBridge).Attrs().HardwareAddr.String()
	for i := range 3 {
		w.attach(m, fmt.Sprint(i))
		if got := w.link(DefaultBridge).Attrs().HardwareAddr.String(); got != before {
			t.Errorf("it was %s and is %s", before, got)
		}
	}
}

func TestMTUIsThatOfTheDefaultRoute(t *testing.T) {
	w := newWorld(t)
	w.must(netlink.LinkSetMTU(w.link("up0"), 1380))
	s := w.attach(w.open(w.options()), "box")
	w.in(s.namespace, func() {
		if got := w.link("eth0").Attrs().MTU; got != 1380 {
			t.Errorf("it is %d", got)
		}
	})
}

func TestNamespaceOfAProcess(t *testing.T) {
	w := newWorld(t)
	w.listen(w.outside, "0.0.0.0:80")
	m := w.open(w.options())
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	w.must(cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	a, err := m.Attach(t.Context(), Egress, Target{PID: cmd.Process.Pid}, "box")
	w.must(err)
	file, _, err := Target{PID: cmd.Process.Pid}.open()
	w.must(err)
	defer file.Close()
	w.checkReach(sandbox{a, file}, outsideAddr+":80", true)
}

func TestClassWithoutAnAddress(t *testing.T) {
	w := newWorld(t)
	m := w.open(w.options())
	before := len(w.state())
	namespace := netns.New(t)
	a, err := m.Attach(t.Context(), None, Target{File: namespace}, "box")
	w.must(err)
	w.listen(namespace, "127.0.0.1:80")
	w.checkReach(sandbox{a, namespace}, "127.0.0.1:80", true)
	w.checkReach(sandbox{a, namespace}, outsideAddr+":80", false)
	w.in(namespace, func() {
		if links, err := netlink.LinkList(); err != nil || len(links) != 1 {
			t.Errorf("it has %d interfaces (%v)", len(links), err)
		}
	})
	w.must(a.Probe(t.Context()))
	a.Detach()
	if a.ResolvConf() != "" || a.Addr.IsValid() {
		t.Error("it has nameservers or an address")
	}
	if after := len(w.state()); after > before+1 { // the listener
		t.Errorf("the host has more than before: %v", w.state())
	}
}

func TestDetachFreesTheAddress(t *testing.T) {
	w := newWorld(t)
	opts := w.options()
	opts.Subnet = netip.MustParsePrefix("10.87.0.0/29")
	m := w.open(opts)
	var boxes []sandbox
	for i := range 5 {
		boxes = append(boxes, w.attach(m, fmt.Sprint("box", i)))
	}
	_, err := m.Attach(t.Context(), Egress, Target{File: netns.New(t)}, "more")
	if !errors.Is(err, ErrNoAddress) || !strings.Contains(err.Error(), "FN_SANDBOX_SUBNET") {
		t.Errorf("a sixth of five: %v", err)
	}
	m.mu.Lock() // which the end of a removal needs, and Detach does not wait for
	boxes[2].Detach()
	boxes[2].Detach()
	m.mu.Unlock()
	if err := boxes[2].Probe(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("probed after Detach: %v", err)
	}
	w.must(m.remover.wait(t.Context()))
	if got := w.attach(m, "next"); got.Addr != boxes[2].Addr {
		t.Errorf("got %v, free was %v", got.Addr, boxes[2].Addr)
	}
}

func TestProbeFindsWhatIsMissing(t *testing.T) {
	for name, spoil := range map[string]func(w *world, s sandbox){
		"address": func(w *world, s sandbox) {
			w.in(s.namespace, func() { w.must(netlink.AddrDel(w.link("eth0"), &netlink.Addr{IPNet: ipNet(s.Addr)})) })
		},
		"route": func(w *world, s sandbox) {
			w.in(s.namespace, func() { w.must(netlink.RouteDel(&netlink.Route{Gw: s.Gateway.AsSlice()})) })
		},
		"interface off": func(w *world, s sandbox) {
			w.in(s.namespace, func() { w.must(netlink.LinkSetDown(w.link("eth0"))) })
		},
		"pair": func(w *world, s sandbox) { w.must(netlink.LinkDel(w.link(portName(s.Addr.Addr())))) },
		"bridge": func(w *world, s sandbox) {
			w.must(netlink.LinkSetNoMaster(w.link(portName(s.Addr.Addr()))))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.attach(w.open(w.options()), "box")
			w.must(s.Probe(t.Context()))
			spoil(w, s)
			if err := s.Probe(t.Context()); !errors.Is(err, ErrBroken) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAttachRefusesWhatItCannotUse(t *testing.T) {
	w := newWorld(t)
	m := w.open(w.options())
	taken := w.attach(m, "box")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx    context.Context
		target Target
		id     string
		want   string
	}{
		"own namespace": {t.Context(), Target{File: w.home}, "x", "the server's own"},
		"used already":  {t.Context(), Target{File: taken.namespace}, "x", "has an interface eth0 already"},
		"no target":     {t.Context(), Target{}, "x", "names no network namespace"},
		"no process":    {t.Context(), Target{PID: 1 << 30}, "x", "process 1073741824"},
		"no id":         {t.Context(), Target{File: taken.namespace}, "", "no sandbox id"},
		"late":          {ended, Target{File: netns.New(t)}, "x", "canceled"},
	} {
		if _, err := m.Attach(test.ctx, Egress, test.target, test.id); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, should contain %q", name, err, test.want)
		}
	}
	w.must(m.remover.wait(t.Context()))
	if links, err := listLinks(m.host); err != nil || len(links) != 4 { // lo, up0, the bridge, the first
		t.Errorf("%d interfaces are there, should be 4 (%v)", len(links), err)
	}
	w.must(taken.Probe(t.Context()))
}

func TestManyAtATime(t *testing.T) {
	w := newWorld(t)
	w.listen(w.outside, "0.0.0.0:80")
	m := w.open(w.options())
	const count = 50
	boxes := make([]sandbox, count)
	for i := range boxes {
		boxes[i].namespace = netns.New(t)
	}
	var wg sync.WaitGroup
	for i := range boxes {
		wg.Go(func() {
			var err error
			if boxes[i].Attachment, err = m.Attach(t.Context(), Egress, Target{File: boxes[i].namespace}, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	seen := map[netip.Prefix]bool{}
	for _, s := range boxes {
		if seen[s.Addr] {
			t.Errorf("%v is used twice", s.Addr)
		}
		seen[s.Addr] = true
		wg.Go(func() {
			if err := s.Probe(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.checkReach(boxes[0], outsideAddr+":80", true)
	for _, s := range boxes {
		wg.Go(s.Detach)
	}
	wg.Wait()
	w.must(m.remover.wait(t.Context()))
	if links, err := listLinks(m.host); err != nil || len(links) != 3 { // lo, up0, the bridge
		t.Errorf("%d interfaces are left (%v)", len(links), err)
	}
}
