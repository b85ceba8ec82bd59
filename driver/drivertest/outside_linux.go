package drivertest

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/model"
)

// outside is what a test has on the host that a container must not reach.
type outside struct {
	targets escapeTargets

	seen      map[string]string // state of the machine at the beginning
	priority  int               // of the process, as getpriority(2) tells
	local     atomic.Int64      // connections to unix sockets
	connected atomic.Int64      // connections and packets over the network
	ended     chan struct{}     // closed when the process has ended
}

// hostUser owns what is on the host: containers' users have the same number.
const hostUser = 1000

// metadataAddress is where clouds tell a machine's credentials.
const metadataAddress = "169.254.169.254"

// newOutside makes what the targets name. other is the socket directory of
// another container.
func newOutside(s *suite, other string) *outside {
	s.Helper()
	o := &outside{ended: make(chan struct{})}
	t := &o.targets
	t.Marker = "marker-" + model.NewID()
	dir := socketDir(s)
	t.File, t.Dir = filepath.Join(dir, "secret"), filepath.Join(dir, "open")
	s.must("make a file of the host", os.WriteFile(t.File, []byte(t.Marker), 0o600))
	s.must("give it away", os.Chown(t.File, hostUser, hostUser))
	s.must("make a directory of the host", os.Mkdir(t.Dir, 0o700))
	s.must("open it", os.Chmod(t.Dir, 0o777))
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, t.File, 0)
	s.must("identify the file", err)
	t.Handle, t.Kind = handle.Bytes(), handle.Type()
	var stat unix.Stat_t
	s.must("look at the file", unix.Stat(t.File, &stat))
	t.Device = stat.Dev
	o.makeProcess(s)
	o.makeKey(s)
	o.listenLocally(s, filepath.Join(dir, "host.sock"))
	t.Sockets = []string{filepath.Join(dir, "host.sock"), filepath.Join(other, socketName)}
	o.listenOnAll(s, other)
	o.seen = machine(s)
	return o
}

// makeProcess starts a process of the host.
func (o *outside) makeProcess(s *suite) {
	s.Helper()
	victim := exec.CommandContext(context.WithoutCancel(s.Context()), "sleep", "3600")
	victim.Env = []string{"MARKER=" + o.targets.Marker}
	victim.Dir = "/"
	victim.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: hostUser, Gid: hostUser}, Setpgid: true, Pdeathsig: unix.SIGKILL}
	s.must("start a process of the host", victim.Start())
	o.targets.PID = victim.Process.Pid
	var err error
	o.priority, err = unix.Getpriority(unix.PRIO_PROCESS, o.targets.PID)
	s.must("ask for its priority", err)
	go func() {
		defer close(o.ended)
		_ = victim.Wait() // by the signal below
	}()
	s.Cleanup(func() {
		_ = victim.Process.Kill() // it may have been ended, which check reports
		<-o.ended
	})
}

// makeKey adds a key that everybody may read who has its number.
func (o *outside) makeKey(s *suite) {
	s.Helper()
	const everything = 0x3f3f3f3f
	key, err := unix.AddKey("user", o.targets.Marker, []byte(o.targets.Marker), unix.KEY_SPEC_USER_KEYRING)
	s.must("make a key", err)
	s.Cleanup(func() {
		if _, err := unix.KeyctlInt(unix.KEYCTL_UNLINK, key, unix.KEY_SPEC_USER_KEYRING, 0, 0); err != nil {
			s.Errorf("remove the key: %v", err)
		}
	})
	s.must("open the key", unix.KeyctlSetperm(key, everything))
	o.targets.Key = key
}

// listenLocally listens on a socket of the file system, and on an abstract one.
func (o *outside) listenLocally(s *suite, path string) {
	s.Helper()
	o.targets.Abstract = o.targets.Marker
	for _, address := range []string{path, "@" + o.targets.Abstract} {
		o.serve(s, "unix", address, &o.local)
	}
	s.must("open the socket", os.Chmod(path, 0o777))
}

// serve answers each connection with a byte and counts it.
func (o *outside) serve(s *suite, network, address string, count *atomic.Int64) net.Listener {
	s.Helper()
	listener, err := (&net.ListenConfig{}).Listen(s.Context(), network, address)
	s.must("listen on "+address, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			count.Add(1)
			_, _ = conn.Write([]byte("x")) // who connected may have left
			_ = conn.Close()
		}
	})
	s.Cleanup(func() { _ = listener.Close(); wg.Wait() })
	return listener
}

// listenOnAll listens for TCP and UDP on all addresses of the host, the one of the
// metadata service among them, and makes the other container listen.
func (o *outside) listenOnAll(s *suite, other string) {
	s.Helper()
	addMetadata(s)
	port := o.serve(s, "tcp", ":0", &o.connected).Addr().(*net.TCPAddr).Port
	packets, err := (&net.ListenConfig{}).ListenPacket(s.Context(), "udp", net.JoinHostPort("", strconv.Itoa(port)))
	s.must("listen for packets", err)
	var wg sync.WaitGroup
	wg.Go(func() {
		buffer := make([]byte, 1)
		for _, from, err := packets.ReadFrom(buffer); err == nil; _, from, err = packets.ReadFrom(buffer) {
			o.connected.Add(1)
			_, _ = packets.WriteTo(buffer, from)
		}
	})
	s.Cleanup(func() { _ = packets.Close(); wg.Wait() })
	o.targets.Addresses = map[string][]string{}
	add := func(label, ip string) {
		o.targets.Addresses[label] = append(o.targets.Addresses[label], net.JoinHostPort(ip, strconv.Itoa(port)))
	}
	found, err := net.InterfaceAddrs()
	s.must("find the host's addresses", err)
	for _, address := range found {
		prefix, err := netip.ParsePrefix(address.String())
		s.must("understand an address", err)
		switch ip := prefix.Addr(); {
		case ip.String() == metadataAddress:
		case ip.IsLoopback():
			add("the host's loopback", ip.String())
		case ip.IsLinkLocalUnicast() && ip.Is6():
			add("the host's link-local addresses", ip.WithZone("eth0").String())
		default:
			add("the host's addresses", ip.String())
		}
	}
	add("the metadata service", metadataAddress)
	var theirs []string
	s.must("understand the other's addresses", json.Unmarshal([]byte(call(s, other, "listen", "")), &theirs))
	if len(theirs) == 0 {
		s.Error("the other container has no address, so this shows nothing")
	}
	o.targets.Addresses["another container"] = theirs
	o.connected.Store(0)
	conn, err := net.Dial("tcp", theirs[0]) //nolint:noctx // it answers or is refused at once
	s.must("reach the other container from the host", err)
	s.must("leave it", conn.Close())
}

// addMetadata gives the host the address of the metadata service, so that nothing
// is sent to a real one.
func addMetadata(s *suite) {
	s.Helper()
	name := "esc" + strconv.Itoa(os.Getpid())
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
	s.must("make an interface", netlink.LinkAdd(link))
	s.Cleanup(func() {
		if err := netlink.LinkDel(link); err != nil {
			s.Errorf("remove an interface: %v", err)
		}
	})
	address, err := netlink.ParseAddr(metadataAddress + "/32")
	s.must("understand the address", err)
	s.must("add an address", netlink.AddrAdd(link, address))
	s.must("bring an interface up", netlink.LinkSetUp(link))
}

// machineFiles tell of the machine what containers must not change.
var machineFiles = []string{
	"/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe",
	"/proc/sys/kernel/randomize_va_space", "/proc/sys/vm/overcommit_memory", "/proc/swaps",
	"/sys/class/net/lo/mtu", "/sys/class/net/lo/flags",
}

func machine(s *suite) map[string]string {
	s.Helper()
	seen := map[string]string{}
	for _, name := range machineFiles {
		content, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // this kernel has none
		}
		s.must("look at the machine", err)
		seen[name] = string(content)
	}
	return seen
}

// check finds out whether something has changed.
func (o *outside) check(s *suite) {
	s.Helper()
	if content, err := os.ReadFile(o.targets.File); err != nil || string(content) != o.targets.Marker {
		s.Errorf("the host's file is %q, %v", content, err)
	}
	if entries, err := os.ReadDir(o.targets.Dir); err != nil || len(entries) != 0 {
		s.Errorf("the host's directory holds %v, %v", entries, err)
	}
	select {
	case <-o.ended:
		s.Error("the host's process has ended")
	default:
	}
	if priority, err := unix.Getpriority(unix.PRIO_PROCESS, o.targets.PID); err != nil || priority != o.priority {
		s.Errorf("the host's process has priority %d instead of %d, %v", priority, o.priority, err)
	}
	if n := o.local.Load(); n != 0 {
		s.Errorf("%d connections to the host's unix sockets", n)
	}
	for name, now := range machine(s) {
		if now != o.seen[name] {
			s.Errorf("%s was %q and is %q", name, o.seen[name], now)
		}
	}
	if modules, err := os.ReadFile("/proc/modules"); err == nil && strings.Contains(string(modules), "escape") {
		s.Error("a module was loaded")
	}
}

// checkListeners is about the listeners on the network.
func (o *outside) checkListeners(s *suite) {
	s.Helper()
	if n := o.connected.Load(); n != 0 {
		s.Errorf("%d connections or packets to the host", n)
	}
}
