package network

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
)

// labelGrace is how long a port may be without its label. A server writes it
// right after it made the pair, and gives the pair up if that takes longer.
const labelGrace = requestTimeout

// Sweep removes the pairs of servers that are dead, and returns how many. Alive
// is asked for the other servers whose pairs are found, once for each. It
// returns when they are gone, or with the context's error.
func (m *Manager) Sweep(ctx context.Context, alive func(instance string) bool) (int, error) {
	done, err := m.use()
	if err != nil {
		return 0, err
	}
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.ctx, cancel)()
	links, err := listLinks(m.host)
	if err != nil {
		return 0, err
	}
	known := map[string]bool{m.opts.Instance: true}
	removed := 0
	unlabelled := map[int]bool{}
	for _, link := range links {
		if !isPort(link) {
			continue
		}
		if link.Attrs().Alias == "" {
			unlabelled[link.Attrs().Index] = true
			continue
		}
		owner, ok := parseLabel(link.Attrs().Alias)
		if !ok {
			continue
		}
		lives, asked := known[owner.instance]
		if !asked {
			lives = alive(owner.instance)
			known[owner.instance] = lives
		}
		if !lives {
			m.sweepAway(link, owner)
			removed++
		}
	}
	if len(unlabelled) > 0 {
		more, err := m.sweepUnlabelled(ctx, unlabelled)
		removed += more
		if err != nil {
			return removed, err
		}
	}
	return removed, m.remover.wait(ctx)
}

// sweepUnlabelled removes the ports of servers that were killed before they
// wrote the label: those that have none after a while.
func (m *Manager) sweepUnlabelled(ctx context.Context, candidates map[int]bool) (int, error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(m.labelGrace):
	}
	links, err := listLinks(m.host)
	if err != nil {
		return 0, err
	}
	removed := 0
	for _, link := range links {
		if isPort(link) && candidates[link.Attrs().Index] && link.Attrs().Alias == "" && m.opts.Subnet.Contains(addrOf(link)) {
			m.sweepAway(link, label{})
			removed++
		}
	}
	return removed, nil
}

func (m *Manager) sweepAway(link netlink.Link, owner label) {
	m.log.Info("removing the network of a sandbox whose server is dead", slog.String("interface", link.Attrs().Name),
		slog.String("instance", owner.instance), slog.String("sandbox", owner.id))
	m.remover.remove(removal{link.Attrs().Index, link.Attrs().Name, func() {}})
}

// isPort reports whether an interface can be the host's end of a pair.
func isPort(link netlink.Link) bool {
	_, ok := portAddr(link.Attrs().Name)
	return ok && link.Type() == "veth"
}

// addrOf is the address that a port leads to.
func addrOf(link netlink.Link) netip.Addr {
	addr, _ := portAddr(link.Attrs().Name)
	return addr
}
