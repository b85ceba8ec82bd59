package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestSandboxReachesOutsideByTheHostsAddress(t *testing.T) {
	w := newWorld(t)
	w.listen(w.outside, outsideAddr+":80")
	s := w.attach(w.open(w.options()), "box")
	seen, err := w.dial(s.namespace, outsideAddr+":80", refusal)
	if err != nil || seen != hostAddr {
		t.Errorf("the outside sees %q, should see %s (%v)", seen, hostAddr, err)
	}
}

func TestSandboxesCannotReachEachOther(t *testing.T) {
	w := newWorld(t)
	opts := w.options()
	opts.AllowHost, opts.AllowPrivate, opts.AllowLinkLocal = true, true, true
	m := w.open(opts)
	a, b := w.attach(m, "a"), w.attach(m, "b")
	target := at(b.Addr.Addr(), 80)
	// Where it is on, the table's rules are for what the bridge forwards too. Off
	// shows what the isolation does alone.
	if err := setSysctl("net/bridge/bridge-nf-call-iptables", "0"); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	w.listen(b.namespace, target)
	w.checkReach(b, target, true)

	t.Run("by the bridge", func(t *testing.T) { w.checkReach(a, target, false) })
	t.Run("by the host", func(t *testing.T) {
		w.routeByHost(a, b, netlink.RouteAdd)
		w.routeByHost(b, a, netlink.RouteAdd)
		w.checkReach(a, target, false)
		w.routeByHost(a, b, netlink.RouteDel)
		w.routeByHost(b, a, netlink.RouteDel)
	})
	// The same without what keeps them apart, to see that nothing else did.
	w.must(m.host.LinkSetIsolated(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: a.port}}, false))
	w.checkReach(a, target, true)
}

// routeByHost changes the route by which one sandbox sends to another.
func (w *world) routeByHost(from, to sandbox, change func(*netlink.Route) error) {
	w.t.Helper()
	w.in(from.namespace, func() {
		w.must(change(&netlink.Route{
			LinkIndex: w.link("eth0").Attrs().Index, Gw: from.Gateway.AsSlice(),
			Dst: ipNet(netip.PrefixFrom(to.Addr.Addr(), 32)),
		}))
	})
}

func TestOnlyTheHostConnectsToSandboxes(t *testing.T) {
	w := newWorld(t)
	s := w.attach(w.open(w.options()), "box")
	target := at(s.Addr.Addr(), 80)
	w.listen(s.namespace, target)
	if _, err := w.dial(w.home, target, patience); err != nil {
		t.Error("the host:", err)
	}
	w.in(w.outside, func() {
		w.must(netlink.RouteAdd(&netlink.Route{LinkIndex: w.link("eth0").Attrs().Index, Gw: net.ParseIP(hostAddr), Dst: ipNet(s.Addr.Masked())}))
	})
	if _, err := w.dial(w.outside, target, refusal); err == nil {
		t.Error("the outside connected")
	}
}

// What is closed can be reached if it is opened, and nothing else is then.
func TestWhatIsOpenedIsReached(t *testing.T) {
	tests := map[string]struct {
		open                     func(*Options)
		host, metadata, privates bool
	}{
		"nothing":   {func(*Options) {}, false, false, false},
		"host":      {func(o *Options) { o.AllowHost = true }, true, false, false},
		"linklocal": {func(o *Options) { o.AllowLinkLocal = true }, false, true, false},
		"private":   {func(o *Options) { o.AllowPrivate = true }, false, false, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			opts := w.options()
			test.open(&opts)
			s := w.attach(w.open(opts), "box")
			w.listen(w.home, "0.0.0.0:8080")
			w.listen(w.outside, "0.0.0.0:80")
			w.checkReach(s, outsideAddr+":80", true)
			w.checkReach(s, hostAddr+":8080", test.host)
			w.checkReach(s, at(s.Gateway, 8080), test.host)
			w.checkReach(s, metadataAddr+":80", test.metadata)
			w.checkReach(s, privateAddr+":80", test.privates)
		})
	}
}

func TestNameserversAreReachedByTheirPortOnly(t *testing.T) {
	for _, server := range []string{privateAddr, metadataAddr, hostAddr} {
		t.Run(server, func(t *testing.T) {
			w := newWorld(t)
			opts := w.options()
			opts.Nameservers = parseAddrs(server)
			s := w.attach(w.open(opts), "box")
			for _, port := range []string{":53", ":80"} {
				w.listen(w.home, "0.0.0.0"+port)
				w.listen(w.outside, "0.0.0.0"+port)
			}
			for _, addr := range []string{privateAddr, metadataAddr, hostAddr} {
				w.checkReach(s, addr+":53", addr == server)
				w.checkReach(s, addr+":80", false)
			}
			if got, want := s.ResolvConf(), "nameserver "+server+"\nsearch example.com\n"; got != want {
				t.Errorf("resolv.conf is %q, should be %q", got, want)
			}
		})
	}
}

// addChain makes a base chain, or another one if it has no hook.
func addChain(conn *nftables.Conn, table *nftables.Table, name string, hook *nftables.ChainHook, kind nftables.ChainType, policy nftables.ChainPolicy) *nftables.Chain {
	chain := &nftables.Chain{Table: table, Name: name}
	if hook != nil {
		chain.Hooknum, chain.Type, chain.Policy = hook, kind, &policy
		chain.Priority = nftables.ChainPriorityFilter
		if kind == nftables.ChainTypeNAT {
			chain.Priority = nftables.ChainPriorityNATDest
		}
	}
	return conn.AddChain(chain)
}

// A container engine publishes ports on the host's addresses by rewriting the
// destination, so that the packets are forwarded, and not the host's.
func TestPublishedPortsBelongToTheHost(t *testing.T) {
	for name, allow := range map[string]bool{"closed": false, "opened": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			opts := w.options()
			opts.AllowHost = allow
			opts.AllowPrivate = true
			s := w.attach(w.open(opts), "box")
			w.listen(w.outside, privateAddr+":80")
			conn, err := openRules()
			w.must(err)
			table := conn.AddTable(&nftables.Table{Name: "engine", Family: nftables.TableFamilyIPv4})
			chain := addChain(conn, table, "prerouting", nftables.ChainHookPrerouting, nftables.ChainTypeNAT, nftables.ChainPolicyAccept)
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule(toPort(unix.IPPROTO_TCP, 8080), []expr.Any{
				&expr.Immediate{Register: 1, Data: net.ParseIP(privateAddr).To4()},
				&expr.Immediate{Register: 2, Data: []byte{0, 80}},
				&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
			})})
			w.must(conn.Flush())
			w.checkReach(s, hostAddr+":8080", allow)
			w.checkReach(s, privateAddr+":80", true)
			conn.DelTable(table)
			w.must(conn.Flush())
		})
	}
}

func TestForeignSourceAddressesDoNotLeave(t *testing.T) {
	w := newWorld(t)
	opts := w.options()
	opts.AllowHost = true
	s := w.attach(w.open(opts), "box")
	w.listen(w.home, hostAddr+":80")
	w.listen(w.outside, outsideAddr+":80")
	w.checkReach(s, hostAddr+":80", true)
	w.checkReach(s, outsideAddr+":80", true)
	// The way back exists, so that only the rules keep connections from working.
	w.in(w.outside, func() {
		w.must(netlink.RouteAdd(&netlink.Route{LinkIndex: w.link("eth0").Attrs().Index, Gw: net.ParseIP(hostAddr), Dst: parseAddr(t, "203.0.113.0/24").IPNet}))
	})
	w.must(netlink.RouteAdd(&netlink.Route{LinkIndex: w.link(DefaultBridge).Attrs().Index, Dst: parseAddr(t, "203.0.113.0/24").IPNet, Scope: netlink.SCOPE_LINK}))
	w.in(s.namespace, func() {
		eth := w.link("eth0")
		w.must(netlink.AddrDel(eth, &netlink.Addr{IPNet: ipNet(s.Addr)}))
		w.must(netlink.AddrAdd(eth, parseAddr(t, "203.0.113.7/32")))
		w.must(netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Dst: ipNet(s.Addr.Masked()), Scope: netlink.SCOPE_LINK}))
		w.must(netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: s.Gateway.AsSlice()}))
	})
	w.checkReach(s, hostAddr+":80", false)
	w.checkReach(s, outsideAddr+":80", false)
}

// dockerTables makes the part of Docker's rules that matters.
func (w *world) dockerTables() {
	conn, err := openRules()
	w.must(err)
	table := conn.AddTable(&nftables.Table{Name: dockerTable, Family: nftables.TableFamilyIPv4})
	user := addChain(conn, table, dockerChain, nil, "", 0)
	forward := addChain(conn, table, "FORWARD", nftables.ChainHookForward, nftables.ChainTypeFilter, nftables.ChainPolicyDrop)
	conn.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictJump, Chain: dockerChain}}})
	conn.AddRule(&nftables.Rule{Table: table, Chain: user, Exprs: []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictReturn}}})
	w.must(conn.Flush())
	w.t.Cleanup(func() {
		conn.DelTable(table)
		w.must(conn.Flush())
	})
}

// dockerRules counts the rules in Docker's chain.
func (w *world) dockerRules() int {
	conn, err := openRules()
	w.must(err)
	table := &nftables.Table{Name: dockerTable, Family: nftables.TableFamilyIPv4}
	rules, err := conn.GetRules(table, &nftables.Chain{Table: table, Name: dockerChain})
	w.must(err)
	return len(rules)
}

func TestSandboxesPassDockersFirewall(t *testing.T) {
	w := newWorld(t)
	w.listen(w.outside, "0.0.0.0:80")
	m := w.open(w.options())
	s := w.attach(m, "box")
	w.dockerTables() // later than the server
	w.checkReach(s, outsideAddr+":80", false)
	for range 2 {
		w.must(m.Ensure(t.Context()))
		if got := w.dockerRules(); got != 3 {
			t.Fatalf("Docker's chain has %d rules, should have ours and its own", got)
		}
	}
	w.checkReach(s, outsideAddr+":80", true)
	w.checkReach(s, privateAddr+":80", false)
	w.must(m.Close(t.Context()))
	if got := w.dockerRules(); got != 1 {
		t.Errorf("Docker's chain has %d rules after Close, should have its own", got)
	}
}
