package network

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// maxNameservers is how many of them programs ask: MAXNS in glibc's resolv.h.
const maxNameservers = 3

// resolvConf is what a sandbox needs to resolve names.
type resolvConf struct {
	servers []netip.Addr
	rest    []string // the lines search, domain and options
}

// parseResolvConf reads a file in the form of resolv.conf(5). What it does not
// know it leaves out.
func parseResolvConf(text string) resolvConf {
	var conf resolvConf
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if addr, err := netip.ParseAddr(fields[1]); err == nil {
				conf.servers = append(conf.servers, addr.Unmap())
			}
		case "search", "domain", "options":
			conf.rest = append(conf.rest, strings.Join(fields, " "))
		}
	}
	return conf
}

// String is the content of the file.
func (c resolvConf) String() string {
	var text strings.Builder
	for _, server := range c.servers {
		text.WriteString("nameserver " + server.String() + "\n")
	}
	for _, line := range c.rest {
		text.WriteString(line + "\n")
	}
	return text.String()
}

// isReachable reports whether a sandbox can be let through to a nameserver: by
// IPv4, and not to an address that means the sandbox itself.
func isReachable(server netip.Addr) bool {
	return server.Is4() && !server.IsLoopback() && !server.IsUnspecified() && !server.IsMulticast()
}

// findResolvers reads the first file that names nameservers which sandboxes can
// reach. If there is none, it returns what else the first one says: no
// nameserver is better than one that nobody chose, such as a public one, which
// would learn the names that functions look up.
func findResolvers(paths []string) (resolvConf, error) {
	var found *resolvConf
	var errs []error
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
			}
			continue
		}
		conf := parseResolvConf(string(text))
		conf.servers = slices.DeleteFunc(conf.servers, func(server netip.Addr) bool { return !isReachable(server) })
		conf.servers = conf.servers[:min(len(conf.servers), maxNameservers)]
		if len(conf.servers) > 0 {
			return conf, nil
		}
		if found == nil {
			found = &conf
		}
	}
	if found == nil {
		found = &resolvConf{}
	}
	return *found, errors.Join(errs...)
}
