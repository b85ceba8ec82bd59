package network

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tinefn/tine/test/netns"
)

// Addresses of the world of a test: the host is the namespace that the tests run
// in, and its only neighbour is the outside.
const (
	hostAddr     = "198.51.100.1"
	outsideAddr  = "198.51.100.2"
	metadataAddr = "169.254.169.254" // these are the outside's too
	privateAddr  = "10.200.0.1"
)

// world is the outside, and a host that is connected to it.
type world struct {
	t       testing.TB
	outside *os.File
	home    *os.File
	locks   string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	needNamespace(t)
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, outside: netns.New(t), home: home, locks: filepath.Join(t.TempDir(), "locks")}
	t.Cleanup(func() { home.Close() })
	link := netlink.NewVeth(netlink.NewLinkAttrs())
	link.Name, link.PeerName, link.PeerNamespace = "up0", "eth0", netlink.NsFd(w.outside.Fd())
	w.must(netlink.LinkAdd(link))
	t.Cleanup(func() { w.must(netlink.LinkDel(link)) })
	w.must(turnLoopbackOn())
	w.must(netlink.AddrAdd(link, parseAddr(t, hostAddr+"/24")))
	w.must(netlink.LinkSetUp(link))
	w.must(netlink.RouteAdd(&netlink.Route{LinkIndex: link.Index, Gw: net.ParseIP(outsideAddr)}))
	w.in(w.outside, func() {
		w.must(turnLoopbackOn())
		eth := w.link("eth0")
		for _, addr := range []string{outsideAddr + "/24", metadataAddr + "/32", privateAddr + "/32"} {
			w.must(netlink.AddrAdd(eth, parseAddr(t, addr)))
		}
		w.must(netlink.LinkSetUp(eth))
	})
	handle, err := openHandle()
	w.must(err)
	defer handle.Close()
	w.must(awaitUp(t.Context(), handle, link.Index))
	return w
}

func parseAddr(t testing.TB, text string) *netlink.Addr {
	t.Helper()
	addr, err := netlink.ParseAddr(text)
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// in runs something in a namespace. It must not end the test: only report.
func (w *world) in(namespace *os.File, f func()) {
	w.t.Helper()
	w.must(inNamespace(w.home, namespace, func() error { f(); return nil }))
}

func (w *world) link(name string) netlink.Link {
	link, err := netlink.LinkByName(name)
	if err != nil {
		w.t.Errorf("link %s: %v", name, err)
		return &netlink.Device{}
	}
	return link
}

// options are those of a manager in this world, whose host has one nameserver,
// in the outside's private network.
func (w *world) options() Options {
	resolv := filepath.Join(w.t.TempDir(), "resolv.conf")
	w.must(os.WriteFile(resolv, []byte("nameserver 127.0.0.53\nnameserver "+privateAddr+"\nsearch example.com\n"), 0o600))
	return Options{Instance: "server-a", LockDir: w.locks, ResolvConf: []string{resolv}, Logger: slog.New(slog.DiscardHandler)}
}

// open opens a manager that the test closes at its end, if it did not before.
func (w *world) open(opts Options) *Manager {
	w.t.Helper()
	m, err := Open(opts)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil && !errors.Is(err, ErrClosed) {
			w.t.Error("close:", err)
		}
	})
	return m
}

// sandbox is a namespace with an attachment.
type sandbox struct {
	*Attachment
	namespace *os.File
}

func (w *world) attach(m *Manager, id string) sandbox {
	w.t.Helper()
	namespace := netns.New(w.t)
	a, err := m.Attach(w.t.Context(), Egress, Target{File: namespace}, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return sandbox{a, namespace}
}

// listen answers each connection to an address in a namespace with the
// client's address.
func (w *world) listen(namespace *os.File, addr string) {
	w.t.Helper()
	w.in(namespace, func() {
		listener, err := net.Listen("tcp4", addr)
		if err != nil {
			w.t.Errorf("listen on %s: %v", addr, err)
			return
		}
		done := make(chan struct{})
		w.t.Cleanup(func() { listener.Close(); <-done })
		go func() {
			defer close(done)
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				io.WriteString(conn, conn.RemoteAddr().String())
				conn.Close()
			}
		}()
	})
}

// How long a connection may take, which the host answers within a millisecond
// if it lets it through: patience if it should, refusal if it should not.
const (
	refusal  = 300 * time.Millisecond
	patience = 5 * time.Second
)

// dial connects from a namespace and returns what the listener answers: which
// address it sees.
func (w *world) dial(namespace *os.File, addr string, timeout time.Duration) (seen string, err error) {
	w.t.Helper()
	w.in(namespace, func() {
		var conn net.Conn
		if conn, err = net.DialTimeout("tcp4", addr, timeout); err != nil {
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(timeout))
		var text []byte
		text, err = io.ReadAll(conn)
		seen, _, _ = strings.Cut(string(text), ":")
	})
	return seen, err
}

// checkReach makes sure that an address can or cannot be reached.
func (w *world) checkReach(s sandbox, addr string, want bool) {
	w.t.Helper()
	timeout := refusal
	if want {
		timeout = patience
	}
	_, err := w.dial(s.namespace, addr, timeout)
	if reached := err == nil; reached != want {
		w.t.Errorf("%s reached: %t, should be %t (%v)", addr, reached, want, err)
	}
}

// at is an address with a port.
func at(addr netip.Addr, port uint16) string { return netip.AddrPortFrom(addr, port).String() }
