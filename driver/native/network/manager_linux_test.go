package network

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tinefn/tine/test/netns"
)

// state is what the host's namespace and the process have beside the world.
func (w *world) state() []string {
	w.t.Helper()
	var found []string
	links, err := netlink.LinkList()
	w.must(err)
	for _, link := range links {
		found = append(found, "link "+link.Attrs().Name)
	}
	conn, err := openRules()
	w.must(err)
	tables, err := conn.ListTables()
	w.must(err)
	for _, table := range tables {
		found = append(found, "table "+table.Name)
	}
	files, err := os.ReadDir(w.locks)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	for _, file := range files {
		found = append(found, "file "+file.Name())
	}
	descriptors, err := os.ReadDir("/proc/self/fd")
	w.must(err)
	for _, fd := range descriptors {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(target, "socket:") {
			found = append(found, "a socket")
		}
	}
	slices.Sort(found)
	return found
}

func TestCloseLeavesNothing(t *testing.T) {
	w := newWorld(t)
	before := w.state()
	m := w.open(w.options())
	w.attach(m, "one").Detach()
	w.attach(m, "two") // Close detaches it
	if during := w.state(); len(during) < len(before)+4 {
		t.Fatal("there is nothing to leave:", during)
	}
	w.must(m.Close(t.Context()))
	if after := w.state(); !slices.Equal(after, before) {
		t.Errorf("before: %v\nafter: %v", before, after)
	}
	if _, err := m.Attach(t.Context(), None, Target{File: netns.New(t)}, "late"); !errors.Is(err, ErrClosed) {
		t.Errorf("attached after Close: %v", err)
	}
	if err := m.Ensure(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("made again after Close: %v", err)
	}
	if err := m.Close(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("the second Close: %v", err)
	}
}

func TestFailedOpenLeavesNothing(t *testing.T) {
	w := newWorld(t)
	w.must(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "theirs"}}))
	t.Cleanup(func() { w.must(netlink.LinkDel(w.link("theirs"))) })
	w.must(netlink.LinkSetAlias(w.link("theirs"), "somebody's"))
	before := w.state()
	opts := w.options()
	opts.Bridge = "theirs"
	if _, err := Open(opts); !errors.Is(err, ErrConflict) {
		t.Errorf("a bridge that is not ours: %v", err)
	}
	opts.Bridge = "up0"
	if _, err := Open(opts); !errors.Is(err, ErrConflict) {
		t.Errorf("an interface that is no bridge: %v", err)
	}
	opts.Bridge, opts.Subnet = "", netip.MustParsePrefix("198.51.0.0/16")
	_, err := Open(opts)
	if !errors.Is(err, ErrConflict) {
		t.Errorf("a subnet that is in use: %v", err)
	}
	for _, part := range []string{"FN_SANDBOX_SUBNET", "198.51.100.0/24", "up0"} {
		if err != nil && !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %s", err, part)
		}
	}
	if after := w.state(); !slices.Equal(after, before) {
		t.Errorf("before: %v\nafter: %v", before, after)
	}
}

// As a VPN does that is to be the way for everything.
func TestTwoHalvesAreNoRoute(t *testing.T) {
	w := newWorld(t)
	for _, half := range []string{"0.0.0.0/1", "128.0.0.0/1"} {
		w.must(netlink.RouteAdd(&netlink.Route{LinkIndex: w.link("up0").Attrs().Index, Gw: net.ParseIP(outsideAddr), Dst: parseAddr(t, half).IPNet}))
	}
	w.listen(w.outside, "0.0.0.0:80")
	w.checkReach(w.attach(w.open(w.options()), "box"), outsideAddr+":80", true)
}

func TestServersShareABridge(t *testing.T) {
	w := newWorld(t)
	w.listen(w.outside, "0.0.0.0:80")
	before := w.state()
	opts := w.options()
	opts.Subnet = netip.MustParsePrefix("10.87.0.0/28")
	first := w.open(opts)
	opts.Instance = "server-b"
	second := w.open(opts)
	seen := map[netip.Prefix]bool{}
	var last sandbox
	for i := range 12 {
		m := first
		if i%3 == 0 {
			m = second
		}
		last = w.attach(m, string(rune('a'+i)))
		if seen[last.Addr] {
			t.Errorf("%v is used twice", last.Addr)
		}
		seen[last.Addr] = true
	}

	w.attach(first, "thirteenth")
	_, err := second.Attach(t.Context(), Egress, Target{File: netns.New(t)}, "more")
	if !errors.Is(err, ErrNoAddress) || !strings.Contains(err.Error(), "others 9") {
		t.Errorf("a fourteenth of thirteen: %v", err)
	}

	opts.Instance, opts.AllowHost = "server-c", true
	if _, err := Open(opts); !errors.Is(err, ErrConflict) {
		t.Errorf("joined with other settings: %v", err)
	}

	w.must(second.Close(t.Context()))
	last = w.attach(first, "last")
	w.checkReach(last, outsideAddr+":80", true)
	w.must(first.Close(t.Context()))
	if after := w.state(); !slices.Equal(after, before) {
		t.Errorf("before: %v\nafter: %v", before, after)
	}
}

// crash ends a manager as the end of its process does.
func crash(m *Manager) {
	m.cancel()
	m.wg.Wait()
	m.release()
	for a := range m.attached {
		a.inside.Close()
	}
}

func TestSweepRemovesWhatDeadServersLeft(t *testing.T) {
	w := newWorld(t)
	before := w.state()
	managers := map[string]*Manager{}
	boxes := map[string]sandbox{}
	for _, name := range []string{"dead", "alive", "own"} {
		opts := w.options()
		opts.Instance = name
		m, err := Open(opts)
		w.must(err)
		managers[name], boxes[name] = m, w.attach(m, "box")
	}
	crash(managers["dead"])
	// One that was killed before it wrote a label.
	half := netlink.NewVeth(netlink.NewLinkAttrs())
	half.Name, half.PeerName = portName(managers["own"].addresses.at(4711)), "peer"
	w.must(netlink.LinkAdd(half))

	managers["own"].labelGrace = 50 * time.Millisecond
	var asked []string
	removed, err := managers["own"].Sweep(t.Context(), func(instance string) bool {
		asked = append(asked, instance)
		return instance == "alive"
	})
	if err != nil || removed != 2 {
		t.Errorf("%d removed, should be 2 (%v)", removed, err)
	}
	slices.Sort(asked)
	if !slices.Equal(asked, []string{"alive", "dead"}) {
		t.Errorf("asked for %v", asked)
	}
	for name, box := range boxes {
		_, err := netlink.LinkByName(portName(box.Addr.Addr()))
		if gone := isGone(err); gone != (name == "dead") {
			t.Errorf("the port of %s is gone: %t (%v)", name, gone, err)
		}
	}
	w.must(boxes["alive"].Probe(t.Context()))
	w.must(managers["alive"].Close(t.Context()))
	w.must(managers["own"].Close(t.Context()))
	if after := w.state(); !slices.Equal(after, before) {
		t.Errorf("before: %v\nafter: %v", before, after)
	}
}

func TestBridgeOfADeadServerIsTakenOver(t *testing.T) {
	w := newWorld(t)
	before := w.state()
	opts := w.options()
	m, err := Open(opts)
	w.must(err)
	w.attach(m, "box")
	crash(m)
	opts.Instance, opts.AllowHost, opts.Subnet = "next", true, netip.MustParsePrefix("10.99.0.0/24")
	next := w.open(opts)
	if _, err := next.Sweep(t.Context(), func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	w.listen(w.home, "0.0.0.0:80")
	w.checkReach(w.attach(next, "box"), hostAddr+":80", true)
	w.must(next.Close(t.Context()))
	isSocket := func(s string) bool { return s == "a socket" } // of the test's listener
	before, after := slices.DeleteFunc(before, isSocket), slices.DeleteFunc(w.state(), isSocket)
	if !slices.Equal(after, before) {
		t.Errorf("before: %v\nafter: %v", before, after)
	}
}

func TestWhatOthersRemoveIsMadeAgain(t *testing.T) {
	w := newWorld(t)
	w.listen(w.outside, "0.0.0.0:80")
	m := w.open(w.options())
	s := w.attach(m, "box")

	w.must(m.policy.uninstall())
	w.must(m.Ensure(t.Context()))
	w.checkReach(s, outsideAddr+":80", true)
	w.checkReach(s, metadataAddr+":80", false)

	w.must(netlink.LinkDel(w.link(DefaultBridge)))
	next := w.attach(m, "next")
	w.checkReach(next, outsideAddr+":80", true)
	if err := s.Probe(t.Context()); !errors.Is(err, ErrBroken) {
		t.Errorf("a sandbox that is not on the bridge: %v", err)
	}
}

func TestForwardingIsTurnedOnAndSaid(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct{ before, want string }{{"0", "net.ipv4.ip_forward was off"}, {"1", ""}} {
		w.must(setSysctl("net/ipv4/ip_forward", test.before))
		var log bytes.Buffer
		opts := w.options()
		opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
		m := w.open(opts)
		text, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
		w.must(err)
		if strings.TrimSpace(string(text)) != "1" {
			t.Errorf("it is %s", text)
		}
		w.must(m.Close(t.Context()))
		if got := log.String(); !strings.Contains(got, test.want) || test.want == "" && got != "" {
			t.Errorf("with %s the log says %q", test.before, got)
		}
	}
}

func TestTrialLeavesForwardingAsItWas(t *testing.T) {
	w := newWorld(t)
	for before, alone := range map[string]bool{"0": true, "1": true, "0 ": false} {
		w.must(setSysctl("net/ipv4/ip_forward", strings.TrimSpace(before)))
		opts := w.options()
		opts.Trial = true
		m := w.open(opts)
		var other *Manager
		if !alone { // who came since relies on it
			opts := w.options()
			opts.Instance = "other"
			other = w.open(opts)
		}
		w.must(m.Close(t.Context()))
		text, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
		w.must(err)
		want := strings.TrimSpace(before)
		if !alone {
			want = "1"
			w.must(other.Close(t.Context()))
		}
		if got := strings.TrimSpace(string(text)); got != want {
			t.Errorf("alone %v, %s before: it is %s, want %s", alone, before, got, want)
		}
	}
}

func TestSettingsThatCannotBe(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no instance":         func(o *Options) { o.Instance = "" },
		"spaces":              func(o *Options) { o.Instance = "a b" },
		"long instance":       func(o *Options) { o.Instance = strings.Repeat("a", maxNameLength+1) },
		"long bridge":         func(o *Options) { o.Bridge = "abcdefghijklmnop" },
		"all bridges":         func(o *Options) { o.Bridge = "all" },
		"a port's name":       func(o *Options) { o.Bridge = "tn0a570002" },
		"path":                func(o *Options) { o.Bridge = "../x" },
		"IPv6":                func(o *Options) { o.Subnet = netip.MustParsePrefix("fd00::/16") },
		"too small":           func(o *Options) { o.Subnet = netip.MustParsePrefix("10.0.0.0/30") },
		"too large":           func(o *Options) { o.Subnet = netip.MustParsePrefix("0.0.0.0/0") },
		"no network":          func(o *Options) { o.Subnet = netip.MustParsePrefix("10.0.0.1/24") },
		"MTU":                 func(o *Options) { o.MTU = 20 },
		"loopback nameserver": func(o *Options) { o.Nameservers = parseAddrs("127.0.0.1") },
	} {
		opts := Options{Instance: "server"}
		if _, err := opts.withDefaults(); err != nil {
			t.Fatal(err)
		}
		change(&opts)
		if _, err := opts.withDefaults(); err == nil {
			t.Errorf("%s: %+v is accepted", name, opts)
		}
	}
}
