package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// guardInterval is the time between looks at whether somebody removed the rules
// or the bridge: `systemctl reload nftables` empties all tables, and a
// Docker that is started later begins to drop. A look takes about a
// millisecond.
const guardInterval = 10 * time.Second

// String tells which network it is.
func (m *Manager) String() string { return fmt.Sprintf("bridge %s, %s", m.opts.Bridge, m.opts.Subnet) }

// closeTimeout is how long Close takes at most, if its context has no earlier
// deadline.
const closeTimeout = 30 * time.Second

// Manager gives sandboxes their networks. It is safe for concurrent use.
type Manager struct {
	opts      Options
	log       *slog.Logger
	policy    policy
	locks     locks
	users     *os.File // held as long as the bridge is used
	home      *os.File // the server's own network namespace
	host      *netlink.Handle
	mtu       int // in bytes
	addresses *addresses
	remover   *remover

	labelGrace time.Duration // the constant, but for tests

	ctx    context.Context // ends when Close begins
	cancel context.CancelFunc
	wg     sync.WaitGroup // calls of methods, and the guard

	mu        sync.Mutex // guards the rest
	closed    bool
	attached  map[*Attachment]struct{}
	bridge    int         // index of the bridge
	forwards  bool        // it has turned forwarding on
	resolvers *resolvConf // nil before the first set-up
	obstacles string      // that were logged last
}

// Open makes the bridge and the rules, or joins the servers that use them. It
// turns on the forwarding of IPv4 packets if the host has it off. Errors:
// ErrConflict if the subnet or the bridge is in use in another way. Close ends it.
//
// It needs CAP_NET_ADMIN and, to enter namespaces, CAP_SYS_ADMIN.
func Open(opts Options) (_ *Manager, err error) {
	opts, err = opts.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &Manager{
		opts: opts, log: opts.Logger, addresses: newAddresses(opts.Subnet, opts.Instance), attached: map[*Attachment]struct{}{},
		labelGrace: labelGrace,
		policy:     policy{opts.Bridge, opts.Subnet, opts.AllowHost, opts.AllowLinkLocal, opts.AllowPrivate},
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			m.release()
		}
	}()
	if m.home, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return nil, fmt.Errorf("open the server's network namespace: %w", err)
	}
	if m.host, err = openHandle(); err != nil {
		return nil, err
	}
	if m.locks, err = newLocks(opts.LockDir, opts.Bridge); err != nil {
		return nil, err
	}
	setup, err := m.locks.enter(m.ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = setup.Close() }()
	var alone bool
	if m.users, alone, err = m.locks.join(); err != nil {
		return nil, err
	}
	if err := m.begin(alone); err != nil {
		return nil, errors.Join(err, m.abandon())
	}
	m.remover = newRemover(m.log)
	m.wg.Go(m.guard)
	return m, nil
}

// begin makes what all sandboxes share. The caller holds the lock for set-ups.
func (m *Manager) begin(alone bool) error {
	routes, err := m.routes()
	if err != nil {
		return err
	}
	if err := m.checkRoutes(routes); err != nil {
		return err
	}
	if m.mtu = m.opts.MTU; m.mtu == 0 {
		m.mtu = m.outsideMTU(routes)
	}
	return m.setUp(alone)
}

// setUp makes what is missing of the bridge and the rules. With fresh it makes
// the rules anew. The caller holds the lock for set-ups.
func (m *Manager) setUp(fresh bool) error {
	exists, err := m.policy.exists()
	if err != nil {
		return err
	}
	if !exists || fresh {
		// First, so that nothing is on the bridge that they do not apply to.
		if err := m.policy.install(); err != nil {
			return err
		}
	}
	index, err := m.ensureBridge(fresh)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.bridge = index
	m.mu.Unlock()
	if err := m.findResolvers(); err != nil {
		return err
	}
	if err := m.forward(); err != nil {
		return err
	}
	added, obstacles, err := m.policy.passDocker()
	if err != nil {
		return err
	}
	if added {
		m.log.Info("sandboxes pass Docker's firewall by rules in its chain DOCKER-USER", slog.String("bridge", m.opts.Bridge))
	}
	m.warnOf(strings.Join(obstacles, ", "))
	return nil
}

// warnOf logs what may keep sandboxes from the outside, when that changes.
func (m *Manager) warnOf(obstacles string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if obstacles == m.obstacles {
		return
	}
	m.obstacles = obstacles
	if obstacles != "" {
		m.log.Warn("sandboxes may not reach the outside, as something else drops what is forwarded: accept what comes from and goes to the bridge there",
			slog.String("bridge", m.opts.Bridge), slog.String("dropped_by", obstacles))
	}
}

// findResolvers chooses the nameservers and lets sandboxes reach them.
func (m *Manager) findResolvers() error {
	conf, err := findResolvers(m.opts.ResolvConf)
	if err != nil {
		m.log.Warn("nameservers cannot be read", slog.Any("error", err))
	}
	if len(m.opts.Nameservers) > 0 {
		conf.servers = slices.Clone(m.opts.Nameservers)
	}
	m.mu.Lock()
	before := m.resolvers
	m.resolvers = &conf
	m.mu.Unlock()
	if len(conf.servers) == 0 && (before == nil || len(before.servers) > 0) {
		m.log.Warn("sandboxes cannot resolve names, as the host names no nameserver that they can reach: set FN_SANDBOX_DNS to one",
			slog.Any("files", m.opts.ResolvConf))
	}
	return m.policy.allowResolvers(conf.servers)
}

// forwarding is the kernel's setting for IPv4.
const forwarding = "net/ipv4/ip_forward"

// forward turns forwarding on.
func (m *Manager) forward() error {
	text, err := os.ReadFile("/proc/sys/" + forwarding)
	if err != nil {
		return fmt.Errorf("look whether the host forwards packets: %w", err)
	}
	if strings.TrimSpace(string(text)) != "0" {
		return nil
	}
	if err := setSysctl(forwarding, "1"); err != nil {
		return fmt.Errorf("make the host forward packets of sandboxes, set net.ipv4.ip_forward to 1 yourself if this server must not: %w", err)
	}
	m.mu.Lock()
	m.forwards = true
	m.mu.Unlock()
	m.log.Warn("the host forwards IPv4 packets from now on, between all of its interfaces: net.ipv4.ip_forward was off and sandboxes need it")
	return nil
}

// use makes Close wait until the function that it returns was called. It fails
// with ErrClosed.
func (m *Manager) use() (done func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	m.wg.Add(1)
	return m.wg.Done, nil
}

// Ensure makes what somebody removed of the bridge and the rules, and reads the
// nameservers again. The manager does so by itself every ten seconds.
func (m *Manager) Ensure(ctx context.Context) error {
	done, err := m.use()
	if err != nil {
		return err
	}
	defer done()
	return m.ensure(ctx)
}

func (m *Manager) ensure(ctx context.Context) error {
	setup, err := m.locks.enter(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = setup.Close() }()
	return m.setUp(false)
}

// guard repeats Ensure.
func (m *Manager) guard() {
	ticker := time.NewTicker(guardInterval)
	defer ticker.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-ticker.C:
			if err := m.ensure(m.ctx); err != nil && m.ctx.Err() == nil {
				m.log.Error("the sandboxes' network cannot be restored", slog.String("bridge", m.opts.Bridge), slog.Any("error", err))
			}
		}
	}
}

// Close detaches all sandboxes and, if no other server and no port is left,
// removes the bridge, the rules and the lock files. It returns by the context's
// deadline or after thirty seconds, whichever is first.
func (m *Manager) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	m.wg.Wait() // attachments end between two requests, so within requestTimeout
	m.mu.Lock()
	var left []*Attachment
	for a := range m.attached {
		left = append(left, a)
	}
	m.mu.Unlock()
	for _, a := range left {
		a.Detach()
	}
	errs := []error{m.remover.close(ctx)}
	setup, err := m.locks.enter(ctx)
	if err != nil {
		errs = append(errs, err)
	} else {
		errs = append(errs, m.abandon(), setup.Close())
	}
	m.release()
	return errors.Join(errs...)
}

// abandon removes what servers share, if this is the last one. The caller
// holds the lock for set-ups.
func (m *Manager) abandon() error {
	last := m.locks.leave(m.users)
	m.users = nil
	if !last {
		return nil
	}
	removed, err := m.removeBridge()
	if err == nil && removed {
		err = errors.Join(m.policy.uninstall(), m.policy.unpassDocker())
	}
	m.mu.Lock()
	forwards := m.forwards
	m.mu.Unlock()
	if m.opts.Trial && forwards {
		err = errors.Join(err, setSysctl(forwarding, "0"))
	}
	return errors.Join(err, m.locks.remove())
}

// release closes descriptors.
func (m *Manager) release() {
	m.cancel()
	for _, file := range []*os.File{m.users, m.home} {
		if file != nil {
			_ = file.Close()
		}
	}
	if m.host != nil {
		m.host.Close()
	}
}
