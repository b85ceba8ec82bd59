package network

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func parseAddrs(texts ...string) []netip.Addr {
	var addrs []netip.Addr
	for _, text := range texts {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	return addrs
}

func TestNameserversThatSandboxesReach(t *testing.T) {
	tests := map[string]struct {
		files []string
		want  string
	}{
		"plain":          {[]string{"# by hand\nnameserver 192.0.2.1\nnameserver 192.0.2.2 \noptions ndots:2\n"}, "nameserver 192.0.2.1\nnameserver 192.0.2.2\noptions ndots:2\n"},
		"loopback":       {[]string{"nameserver 127.0.0.53\nsearch a\n", "nameserver 192.0.2.1\nsearch b\n"}, "nameserver 192.0.2.1\nsearch b\n"},
		"some loopback":  {[]string{"nameserver 127.0.0.1\nnameserver 192.0.2.9\n", "nameserver 192.0.2.1\n"}, "nameserver 192.0.2.9\n"},
		"IPv6":           {[]string{"nameserver 2001:db8::1\nnameserver fe80::1%eth0\nnameserver ::ffff:192.0.2.3\n"}, "nameserver 192.0.2.3\n"},
		"many":           {[]string{"nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n"}, "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"},
		"none":           {[]string{"nameserver ::1\nsearch a\n"}, "search a\n"},
		"no files":       {nil, ""},
		"nonsense":       {[]string{"nameserver\nnameserver x\n\x00\nnameserver 0.0.0.0\n"}, ""},
		"none everyhere": {[]string{"nameserver 127.0.0.1\nsearch a\n", "nameserver 127.0.0.2\nsearch b\n"}, "search a\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			paths := []string{filepath.Join(t.TempDir(), "missing")}
			for _, text := range test.files {
				path := filepath.Join(t.TempDir(), "resolv.conf")
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				paths = append(paths, path)
			}
			conf, err := findResolvers(paths)
			if err != nil || conf.String() != test.want {
				t.Errorf("got %q, %v", conf, err)
			}
		})
	}
}

func FuzzParseResolvConf(f *testing.F) {
	f.Add("nameserver 192.0.2.1\nsearch example.com\n")
	f.Fuzz(func(t *testing.T, text string) {
		once := parseResolvConf(text).String()
		if twice := parseResolvConf(once).String(); twice != once {
			t.Errorf("%q is read as %q", once, twice)
		}
	})
}
