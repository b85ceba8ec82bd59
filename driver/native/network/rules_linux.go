package network

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// tablePrefix begins the name of the table; the bridge's follows.
const tablePrefix = "tine_"

// Names in the table.
const (
	setResolvers    = "resolvers"
	chainInput      = "input"
	chainForward    = "forward"
	chainNAT        = "postrouting"
	chainToHost     = "to-host"
	chainFromInside = "from-sandboxes"
)

// metadataNetworks are where clouds tell a machine's credentials: the link-local
// network (RFC 3927; Amazon, Google, Azure and most others: 169.254.169.254),
// and those that chose another address.
var metadataNetworks = prefixes(
	"169.254.0.0/16",
	"168.63.129.16/32",   // Azure's WireServer: learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
	"100.100.100.200/32", // Alibaba: alibabacloud.com/help/ecs/user-guide/view-instance-metadata
	"192.0.0.192/32",     // Oracle's Compute Classic: docs.oracle.com, "Retrieving Instance Metadata"
)

// privateNetworks are RFC 1918, and RFC 6598, which providers and overlay
// networks use in the same way.
var privateNetworks = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// portDNS is where nameservers listen.
const portDNS = 53

// policy is what the rules are made from.
type policy struct {
	bridge                                  string
	subnet                                  netip.Prefix
	allowHost, allowLinkLocal, allowPrivate bool
}

// String describes the policy. Servers compare it before they share a bridge.
func (p policy) String() string {
	return fmt.Sprintf("subnet=%v host=%t linklocal=%t private=%t", p.subnet, p.allowHost, p.allowLinkLocal, p.allowPrivate)
}

// openRules returns a connection to nftables. Each request opens a socket and
// closes it, so there is nothing to close.
func openRules() (*nftables.Conn, error) {
	return nftables.New(nftables.WithSockOptions(func(conn *netlink.Conn) error {
		return conn.SetDeadline(time.Now().Add(requestTimeout))
	}))
}

func (p policy) table() *nftables.Table {
	return &nftables.Table{Name: tablePrefix + p.bridge, Family: nftables.TableFamilyINet}
}

func (p policy) resolvers() *nftables.Set {
	return &nftables.Set{Table: p.table(), Name: setResolvers, KeyType: nftables.TypeIPAddr}
}

// exists reports whether the table is there.
func (p policy) exists() (bool, error) {
	conn, err := openRules()
	if err != nil {
		return false, fmt.Errorf("connect to nftables: %w", err)
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("list tables of nftables: %w", err)
	}
	for _, table := range tables {
		if table.Name == tablePrefix+p.bridge {
			return true, nil
		}
	}
	return false, nil
}

// install makes the table, replacing what has its name, in one transaction: at
// no time is something let through that should not be.
func (p policy) install() error {
	conn, err := openRules()
	if err != nil {
		return fmt.Errorf("connect to nftables: %w", err)
	}
	table := p.table()
	conn.AddTable(table) // so that there is one to delete
	conn.DelTable(table)
	conn.AddTable(table)
	resolvers := p.resolvers()
	if err := conn.AddSet(resolvers, nil); err != nil {
		return fmt.Errorf("make the set of nameservers in nftables: %w", err)
	}
	accepted := nftables.ChainPolicyAccept
	input := conn.AddChain(&nftables.Chain{
		Table: table, Name: chainInput, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter, Policy: &accepted,
	})
	forward := conn.AddChain(&nftables.Chain{
		Table: table, Name: chainForward, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &accepted,
	})
	nat := conn.AddChain(&nftables.Chain{
		Table: table, Name: chainNAT, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource, Policy: &accepted,
	})
	toHost := conn.AddChain(&nftables.Chain{Table: table, Name: chainToHost})
	fromInside := conn.AddChain(&nftables.Chain{Table: table, Name: chainFromInside})

	add := func(chain *nftables.Chain, parts ...[]expr.Any) {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule(parts...)})
	}
	named, udp, tcp := destinationInSet(resolvers), toPort(unix.IPPROTO_UDP, portDNS), toPort(unix.IPPROTO_TCP, portDNS)

	add(input, comesFrom(p.bridge), goTo(toHost))
	add(toHost, isNotIPv4(), drop())
	add(toHost, sourceNotIn(p.subnet), drop())
	add(toHost, isKnown(), accept())
	add(toHost, named, udp, accept()) // the resolver may be the host itself
	add(toHost, named, tcp, accept())
	if p.allowHost {
		add(toHost, accept())
	} else {
		add(toHost, drop())
	}

	add(forward, comesFrom(p.bridge), goTo(fromInside))
	add(forward, leavesBy(p.bridge), isKnown(), accept())
	add(forward, leavesBy(p.bridge), drop())
	add(fromInside, isNotIPv4(), drop())
	add(fromInside, sourceNotIn(p.subnet), drop())
	// Ports are isolated from each other, but not from the host, which would route
	// from one to the other.
	add(fromInside, leavesBy(p.bridge), drop())
	add(fromInside, isKnown(), accept())
	// Nameservers are often in networks that are closed otherwise, some even at the
	// address of the metadata service.
	add(fromInside, named, udp, accept())
	add(fromInside, named, tcp, accept())
	if !p.allowHost {
		// What was sent to the host and is forwarded nevertheless: ports of
		// containers that an engine publishes there.
		add(fromInside, isRedirected(), drop())
	}
	if !p.allowLinkLocal {
		for _, network := range metadataNetworks {
			add(fromInside, destinationIn(network), drop())
		}
	}
	if !p.allowPrivate {
		for _, network := range privateNetworks {
			add(fromInside, destinationIn(network), drop())
		}
	}
	add(fromInside, accept())

	add(nat, sourceIn(p.subnet), leavesByOtherThan(p.bridge), masquerade())
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("make table %s in nftables, which needs CAP_NET_ADMIN and a kernel with nf_tables: %w", table.Name, err)
	}
	return nil
}

// allowResolvers lets sandboxes reach nameservers. Those that other servers
// added stay.
func (p policy) allowResolvers(servers []netip.Addr) error {
	if len(servers) == 0 {
		return nil
	}
	conn, err := openRules()
	if err != nil {
		return fmt.Errorf("connect to nftables: %w", err)
	}
	var elements []nftables.SetElement
	for _, server := range servers {
		elements = append(elements, nftables.SetElement{Key: server.AsSlice()})
	}
	err = conn.SetAddElements(p.resolvers(), elements)
	if err == nil {
		err = conn.Flush()
	}
	if err != nil {
		return fmt.Errorf("let sandboxes reach the nameservers %v: %w", servers, err)
	}
	return nil
}

// uninstall removes the table.
func (p policy) uninstall() error {
	conn, err := openRules()
	if err != nil {
		return fmt.Errorf("connect to nftables: %w", err)
	}
	conn.DelTable(p.table())
	if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove table %s of nftables: %w", tablePrefix+p.bridge, err)
	}
	return nil
}
