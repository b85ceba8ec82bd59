package network

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestAddressesAreGivenOutOnce(t *testing.T) {
	a := newAddresses(netip.MustParsePrefix("10.1.2.8/29"), "server")
	if got := a.gateway().String(); got != "10.1.2.9" {
		t.Errorf("the gateway is %s", got)
	}
	seen := map[netip.Addr]bool{}
	for range 5 {
		addr, err := a.take()
		if err != nil {
			t.Fatal(err)
		}
		if seen[addr] || !addr.IsValid() || addr.Less(netip.MustParseAddr("10.1.2.10")) || netip.MustParseAddr("10.1.2.14").Less(addr) {
			t.Errorf("%v is given out", addr)
		}
		seen[addr] = true
	}
	if _, err := a.take(); !errors.Is(err, ErrNoAddress) || !strings.Contains(err.Error(), "FN_SANDBOX_SUBNET") {
		t.Errorf("a sixth is refused with %v", err)
	}
	back := netip.MustParseAddr("10.1.2.12")
	a.give(back)
	if addr, err := a.take(); err != nil || addr != back {
		t.Errorf("got %v, %v instead of the one that was given back", addr, err)
	}
}

func TestForeignAddressesAreLeftAlone(t *testing.T) {
	a := newAddresses(netip.MustParsePrefix("10.1.2.8/29"), "server")
	own, err := a.take()
	if err != nil {
		t.Fatal(err)
	}
	var others []netip.Addr
	for offset := uint32(firstOffset); offset < firstOffset+a.count(); offset++ {
		others = append(others, a.at(offset))
	}
	a.setForeign(append(others, netip.MustParseAddr("192.0.2.1")))
	if addr, err := a.take(); err == nil {
		t.Errorf("%v is given out", addr)
	}
	a.give(own)
	if addr, err := a.take(); err != nil || addr != own {
		t.Errorf("got %v, %v instead of what was our own", addr, err)
	}
}

func TestServersBeginAtDifferentAddresses(t *testing.T) {
	seen := map[netip.Addr]bool{}
	for _, instance := range []string{"a", "b", "c", "d"} {
		addr, err := newAddresses(DefaultSubnet, instance).take()
		if err != nil || seen[addr] {
			t.Errorf("%s begins at %v, %v", instance, addr, err)
		}
		seen[addr] = true
	}
}
