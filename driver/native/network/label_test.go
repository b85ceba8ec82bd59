package network

import (
	"net/netip"
	"strings"
	"testing"
)

func TestPortsAreNamedAfterAddresses(t *testing.T) {
	addr := netip.MustParseAddr("10.87.1.254")
	name := portName(addr)
	if name != "tn0a5701fe" {
		t.Errorf("got %q", name)
	}
	if got, ok := portAddr(name); !ok || got != addr {
		t.Errorf("%s means %v, %t", name, got, ok)
	}
	for _, other := range []string{"", "tn", "tn0a5701f", "tn0a5701fe0", "tn0A5701FE", "tnxxxxxxxx", "eth0a5701fe", "tine0"} {
		if addr, ok := portAddr(other); ok {
			t.Errorf("%q means %v", other, addr)
		}
	}
}

func TestLabelsAreReadAsTheyAreWritten(t *testing.T) {
	long := label{strings.Repeat("i", maxNameLength), strings.Repeat("s", maxNameLength)}
	for _, want := range []label{{"01J", "box"}, {"a=b", "id=x"}, long} {
		if got, ok := parseLabel(want.String()); !ok || got != want {
			t.Errorf("%v is read as %v, %t", want, got, ok)
		}
	}
	if n := len(long.String()); n > 255 {
		t.Errorf("the longest has %d bytes, an alias holds 255", n)
	}
	for _, other := range []string{"", "uplink", "tine sandbox ", "tine sandbox instance=a", "tine sandbox instance= id=b", "tine bridge subnet=10.0.0.0/8"} {
		if got, ok := parseLabel(other); ok {
			t.Errorf("%q is read as %v", other, got)
		}
	}
}

func FuzzParseLabel(f *testing.F) {
	f.Add(label{"instance", "id"}.String())
	f.Fuzz(func(t *testing.T, alias string) {
		if l, ok := parseLabel(alias); ok && l.String() != alias {
			t.Errorf("%q is read as %v", alias, l)
		}
	})
}
