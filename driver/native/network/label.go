package network

import (
	"encoding/hex"
	"net/netip"
	"strings"
)

// portPrefix begins the names of ports. Eight hexadecimal digits follow: the
// address of the sandbox behind it. That makes the name as unique as the
// address has to be, and the kernel the judge of it.
const portPrefix = "tn"

// portName is the name of the port that leads to an address.
func portName(addr netip.Addr) string {
	bytes := addr.As4()
	return portPrefix + hex.EncodeToString(bytes[:])
}

// portAddr is the address that a port leads to, if it is one.
func portAddr(name string) (netip.Addr, bool) {
	digits, ok := strings.CutPrefix(name, portPrefix)
	if !ok || len(digits) != 8 || strings.ToLower(digits) != digits {
		return netip.Addr{}, false
	}
	var bytes [4]byte
	if _, err := hex.Decode(bytes[:], []byte(digits)); err != nil {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4(bytes), true
}

// label says whose a port is. It is kept in the alias of the interface, where
// `ip link` shows it.
type label struct {
	instance, id string
}

// labelPrefix begins the aliases of ports.
const labelPrefix = "tine sandbox "

func (l label) String() string {
	return labelPrefix + "instance=" + l.instance + " id=" + l.id
}

// parseLabel reads an alias, which may be somebody else's.
func parseLabel(alias string) (label, bool) {
	rest, ok := strings.CutPrefix(alias, labelPrefix+"instance=")
	if !ok {
		return label{}, false
	}
	instance, id, ok := strings.Cut(rest, " id=")
	if !ok || checkName("instance", instance) != nil || checkName("sandbox", id) != nil {
		return label{}, false
	}
	return label{instance, id}, true
}

// hardwareAddr is the address on the wire of whoever has an IP address on the
// bridge. It follows from that, so that what neighbours remember of an address
// is still true when another sandbox has it. The second bit of the first byte
// says that it is locally administered (IEEE 802).
func hardwareAddr(addr netip.Addr) []byte {
	bytes := addr.As4()
	return append([]byte{0x02, 't'}, bytes[:]...)
}
