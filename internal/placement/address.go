package placement

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Place says where runners are: at an address, behind a host name, or where SRV
// records of a name say.
type Place struct {
	Host    string     // host name; empty: see Address
	Address netip.Addr // if there is no name
	Port    uint16     // 0: that of the SRV records
}

// isService reports whether the place is looked up as SRV records.
func (p Place) isService() bool { return p.Host != "" && p.Port == 0 }

// String returns the place as it was written.
func (p Place) String() string {
	switch {
	case p.isService():
		return p.Host
	case p.Host != "":
		return net.JoinHostPort(p.Host, strconv.Itoa(int(p.Port)))
	}
	return netip.AddrPortFrom(p.Address, p.Port).String()
}

// maxHost is how long the text of a domain name can be. Source: RFC 1035, 3.1,
// which counts 255 bytes with the length of the first label and the root's.
const maxHost = 253

// ParsePlace reads <address>:<port>, <host>:<port>, or the name of SRV records,
// which begins with an underscore, such as _fn._tcp.example.com.
func ParsePlace(text string) (Place, error) {
	if strings.HasPrefix(text, "_") {
		if strings.Count(text, ".") < 2 || !strings.Contains(text, "._") || !isHost(text) {
			return Place{}, fmt.Errorf("%q is no name of SRV records like _fn._tcp.example.com", text)
		}
		return Place{Host: text}, nil
	}
	host, portText, err := net.SplitHostPort(text)
	if err != nil {
		return Place{}, fmt.Errorf("%q is not <host>:<port>", text)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return Place{}, fmt.Errorf("%q has no port from 1 to 65535", text)
	}
	if address, err := netip.ParseAddr(host); err == nil {
		return Place{Address: address.Unmap(), Port: uint16(port)}, nil
	}
	if !isHost(host) {
		return Place{}, fmt.Errorf("%q is neither an address nor the name of a host", host)
	}
	return Place{Host: host, Port: uint16(port)}, nil
}

// isHost reports whether a text can be a host's name. Underscores are not
// allowed in such names, and are in use.
func isHost(text string) bool {
	labels := strings.Split(strings.TrimSuffix(text, "."), ".")
	if len(text) > maxHost || strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return false // numbers at the end are an address that is none
	}
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			letter := 'a' <= c|0x20 && c|0x20 <= 'z'
			if !letter && !('0' <= c && c <= '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// ParsePlaces reads places, each once. The error is about the first that is wrong.
func ParsePlaces(texts []string) ([]Place, error) {
	places := make([]Place, 0, len(texts))
	for _, text := range texts {
		p, err := ParsePlace(text)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(places, p) {
			places = append(places, p)
		}
	}
	return places, nil
}
