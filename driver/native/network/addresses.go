package network

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"sync"
)

// addresses gives out those of a subnet. The kernel has the last word on
// whether one is free: this is only a record of which ones are worth trying.
// It is safe for concurrent use.
type addresses struct {
	subnet netip.Prefix
	size   uint32 // of the subnet

	mu      sync.Mutex          // guards the rest
	next    uint32              // offset in the subnet that is tried next
	own     map[uint32]struct{} // offsets that this server uses
	foreign map[uint32]struct{} // those that others used when somebody looked last
}

// firstOffset is the first address for sandboxes: before it are the subnet's
// own and the gateway's. The subnet's last one is for broadcasts.
const firstOffset = 2

// newAddresses begins at a place that depends on the instance, so that servers
// on one bridge seldom try the same ones.
func newAddresses(subnet netip.Prefix, instance string) *addresses {
	a := &addresses{
		subnet: subnet, size: 1 << (32 - subnet.Bits()),
		own: map[uint32]struct{}{}, foreign: map[uint32]struct{}{},
	}
	hash := fnv.New32a()
	hash.Write([]byte(instance))
	a.next = firstOffset + hash.Sum32()%a.count()
	return a
}

// count is how many sandboxes the subnet has addresses for.
func (a *addresses) count() uint32 { return a.size - firstOffset - 1 }

// at is the address with an offset in the subnet.
func (a *addresses) at(offset uint32) netip.Addr {
	base := a.subnet.Addr().As4()
	var bytes [4]byte
	binary.BigEndian.PutUint32(bytes[:], binary.BigEndian.Uint32(base[:])+offset)
	return netip.AddrFrom4(bytes)
}

// offset is the opposite of at.
func (a *addresses) offset(addr netip.Addr) uint32 {
	base, bytes := a.subnet.Addr().As4(), addr.As4()
	return binary.BigEndian.Uint32(bytes[:]) - binary.BigEndian.Uint32(base[:])
}

// gateway is the address of the bridge.
func (a *addresses) gateway() netip.Addr { return a.at(firstOffset - 1) }

// take returns an address that is probably free: the one that rested longest of
// this server's. It returns ErrNoAddress if there is none.
func (a *addresses) take() (netip.Addr, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for range a.count() {
		offset := a.next
		a.next++
		if a.next >= firstOffset+a.count() {
			a.next = firstOffset
		}
		if _, used := a.own[offset]; used {
			continue
		}
		if _, used := a.foreign[offset]; used {
			continue
		}
		a.own[offset] = struct{}{}
		return a.at(offset), nil
	}
	return netip.Addr{}, fmt.Errorf("%w: this server uses %d of the %d addresses in %v and others %d, set FN_SANDBOX_SUBNET to a larger network or run fewer functions at a time",
		ErrNoAddress, len(a.own), a.count(), a.subnet, len(a.foreign))
}

// give returns an address that is not used any more.
func (a *addresses) give(addr netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.own, a.offset(addr))
}

// setForeign replaces the record of what others use by what is in use at all.
func (a *addresses) setForeign(used []netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.foreign)
	for _, addr := range used {
		if !a.subnet.Contains(addr) {
			continue
		}
		if _, own := a.own[a.offset(addr)]; !own {
			a.foreign[a.offset(addr)] = struct{}{}
		}
	}
}
