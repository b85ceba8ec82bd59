package network

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The conditions and verdicts that rules are made of. Each loads what it
// compares into register 1.
const register = 1

// Offsets in the headers of IPv4 (RFC 791), and of UDP and TCP (RFC 768, 9293).
const (
	offsetSource          = 12
	offsetDestination     = 16
	offsetDestinationPort = 2
)

// ipsDstNAT says that a connection's destination was rewritten: IPS_DST_NAT in
// the kernel's linux/netfilter/nf_conntrack_common.h.
const ipsDstNAT = 1 << 5

// rule joins conditions, all of which have to hold, and a verdict.
func rule(parts ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

func compare(op expr.CmpOp, data []byte) expr.Any {
	return &expr.Cmp{Op: op, Register: register, Data: data}
}

// interfaceName is a name as the kernel compares it, with all its 16 bytes.
func interfaceName(name string) []byte {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return data
}

func comesFrom(link string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register}, compare(expr.CmpOpEq, interfaceName(link))}
}

func leavesBy(link string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: register}, compare(expr.CmpOpEq, interfaceName(link))}
}

func leavesByOtherThan(link string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: register}, compare(expr.CmpOpNeq, interfaceName(link))}
}

// isIPv4 is a part of all conditions on addresses, as nft shows them in its own
// language only then.
func isIPv4() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register}, compare(expr.CmpOpEq, []byte{unix.NFPROTO_IPV4})}
}

func isNotIPv4() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register}, compare(expr.CmpOpNeq, []byte{unix.NFPROTO_IPV4})}
}

func sourceIn(network netip.Prefix) []expr.Any {
	return addressMatch(offsetSource, expr.CmpOpEq, network)
}

func sourceNotIn(network netip.Prefix) []expr.Any {
	return addressMatch(offsetSource, expr.CmpOpNeq, network)
}

func destinationIn(network netip.Prefix) []expr.Any {
	return addressMatch(offsetDestination, expr.CmpOpEq, network)
}

func loadAddress(offset uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4}
}

func addressMatch(offset uint32, op expr.CmpOp, network netip.Prefix) []expr.Any {
	mask := ^uint32(0) << (32 - network.Bits())
	return append(isIPv4(),
		loadAddress(offset),
		&expr.Bitwise{
			SourceRegister: register, DestRegister: register, Len: 4,
			Mask: binaryutil.BigEndian.PutUint32(mask), Xor: make([]byte, 4),
		},
		compare(op, network.Masked().Addr().AsSlice()),
	)
}

func destinationInSet(set *nftables.Set) []expr.Any {
	return append(isIPv4(), loadAddress(offsetDestination), &expr.Lookup{SourceRegister: register, SetName: set.Name, SetID: set.ID})
}

// toPort holds for a protocol (unix.IPPROTO_UDP or _TCP) and a destination port.
func toPort(protocol byte, port uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register}, compare(expr.CmpOpEq, []byte{protocol}),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: offsetDestinationPort, Len: 2},
		compare(expr.CmpOpEq, binaryutil.BigEndian.PutUint16(port)),
	}
}

// isKnown holds for packets of connections that were let through, and errors
// about them.
func isKnown() []expr.Any {
	return connection(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// isRedirected holds for connections whose destination was rewritten.
func isRedirected() []expr.Any { return connection(expr.CtKeySTATUS, ipsDstNAT) }

// connection holds if one of some bits is set.
func connection(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: register},
		&expr.Bitwise{
			SourceRegister: register, DestRegister: register, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4),
		},
		compare(expr.CmpOpNeq, make([]byte, 4)),
	}
}

func accept() []expr.Any     { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }
func drop() []expr.Any       { return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}} }
func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

func goTo(chain *nftables.Chain) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain.Name}}
}
