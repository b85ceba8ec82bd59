package placement

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// errNothingFound says that a name exists without what is looked for. It counts
// as a failure: a service whose machines all fail at one time has no records, and
// those that were known are worth a try.
var errNothingFound = errors.New("there are no records")

// resolve looks a place up. It returns what it found also with an error, if that
// is about a part only: before is what was found the last time.
func (d *Discovery) resolve(ctx context.Context, p Place, before []endpoint) ([]endpoint, error) {
	if !p.isService() {
		return d.resolveHost(ctx, p.Host, p.Port)
	}
	_, records, err := d.opts.Resolver.LookupSRV(ctx, "", "", p.Host)
	if err != nil {
		return nil, fmt.Errorf("look up SRV records: %w", err)
	}
	var found []endpoint
	var errs []error
	for _, record := range preferred(records) {
		some, err := d.resolveHost(ctx, record.Target, record.Port)
		if err != nil {
			errs = append(errs, err)
			some = knownAs(before, record.Target, record.Port)
		}
		found = append(found, some...)
	}
	if len(found) == 0 && len(errs) == 0 {
		return nil, errNothingFound
	}
	return found, errors.Join(errs...)
}

// preferred returns the records of the lowest priority that are a host. Weights
// have no say, as load is measured. Source: RFC 2782, where the target "." means
// that there is no such service.
func preferred(records []*net.SRV) []*net.SRV {
	var best []*net.SRV
	for _, r := range records {
		switch {
		case r.Target == "." || r.Target == "" || r.Port == 0:
		case len(best) == 0 || r.Priority < best[0].Priority:
			best = []*net.SRV{r}
		case r.Priority == best[0].Priority:
			best = append(best, r)
		}
	}
	return best
}

// knownAs returns the endpoints that were found behind a host.
func knownAs(endpoints []endpoint, host string, port uint16) []endpoint {
	name, suffix := serverName(host), ":"+strconv.Itoa(int(port))
	var known []endpoint
	for _, e := range endpoints {
		if e.serverName == name && strings.HasSuffix(e.address, suffix) {
			known = append(known, e)
		}
	}
	return known
}

// serverName is a host as certificates have it.
func serverName(host string) string { return strings.TrimSuffix(host, ".") }

// resolveHost returns the endpoints behind a host. IPv6 is used only if there is
// no IPv4: a machine that has both is one runner.
func (d *Discovery) resolveHost(ctx context.Context, host string, port uint16) ([]endpoint, error) {
	addresses, err := d.opts.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("look up addresses of %s: %w", host, err)
	}
	for i := range addresses {
		addresses[i] = addresses[i].Unmap()
	}
	if slices.ContainsFunc(addresses, netip.Addr.Is4) {
		addresses = slices.DeleteFunc(addresses, netip.Addr.Is6)
	}
	if len(addresses) == 0 {
		return nil, errNothingFound
	}
	endpoints := make([]endpoint, len(addresses))
	for i, address := range addresses {
		endpoints[i] = endpoint{netip.AddrPortFrom(address, port).String(), serverName(host)}
	}
	return endpoints, nil
}
