package escape

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// sockets tries to connect to unix sockets of the host and of other functions.
func sockets(r *Run) {
	for _, path := range append(r.Sockets, "/run/docker.sock", "/run/containerd/containerd.sock", "/run/systemd/private", "/run/dbus/system_bus_socket") {
		for _, root := range []string{"", "/proc/1/root", "/../.."} {
			r.try(root+path, func() error { return dial("unix", root+path) }, absent...)
		}
	}
	r.try("abstract name", func() error { return dial("unix", "@"+r.Abstract) }, unix.ECONNREFUSED)
	r.try("what is in /run", func() error {
		found, _ := filepath.Glob("/run/*")
		for _, path := range found {
			if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
				return through("%s is a socket", path)
			}
		}
		return errHidden
	})
	r.try("the virtual machine's host", func() error {
		fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	}, unix.EAFNOSUPPORT)
	for variant, request := range map[string]uintptr{
		"interface's state": unix.SIOCSIFFLAGS, "interface's address": unix.SIOCSIFADDR, "interface's hardware address": unix.SIOCSIFHWADDR,
	} {
		r.try(variant, func() error { return change("lo", request) })
	}
}

// change asks for a change of a network interface that changes nothing.
func change(name string, request uintptr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // only a descriptor
	ifreq, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if request == unix.SIOCSIFFLAGS {
		ifreq.SetUint16(unix.IFF_UP)
	}
	return unix.IoctlIfreq(fd, uint(request), ifreq)
}

// dial connects, and is nil if that worked.
func dial(network, address string) error {
	conn, err := net.DialTimeout(network, address, patience)
	if err != nil {
		return err
	}
	return conn.Close()
}

// patience is how long a connection may take. Those that work take no time.
const patience = 700 * time.Millisecond

// rawSockets tries to see and send packets that are not its own.
func rawSockets(r *Run) {
	for variant, kind := range map[string][3]int{
		"packets":          {unix.AF_PACKET, unix.SOCK_RAW, int(htons(unix.ETH_P_ALL))},
		"packets' content": {unix.AF_PACKET, unix.SOCK_DGRAM, int(htons(unix.ETH_P_ALL))},
		"raw IP":           {unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW},
		"raw ICMP":         {unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP},
		"raw TCP":          {unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP},
		"raw IPv6":         {unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6},
		"express path":     {unix.AF_XDP, unix.SOCK_RAW, 0},
		"keys of IPsec":    {unix.AF_KEY, unix.SOCK_RAW, 2},
		"kernel's ciphers": {unix.AF_ALG, unix.SOCK_SEQPACKET, 0},
		"Bluetooth":        {unix.AF_BLUETOOTH, unix.SOCK_RAW, 1},
		"CAN":              {unix.AF_CAN, unix.SOCK_RAW, 1},
	} {
		r.try(variant, func() error {
			fd, err := unix.Socket(kind[0], kind[1]|unix.SOCK_CLOEXEC, kind[2])
			if err != nil {
				return err
			}
			return unix.Close(fd)
		}, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT, unix.ESOCKTNOSUPPORT)
	}
	for variant, option := range map[string][2]int{
		"foreign addresses": {unix.SOL_IP, unix.IP_TRANSPARENT},
		"marks":             {unix.SOL_SOCKET, unix.SO_MARK},
		"buffers":           {unix.SOL_SOCKET, unix.SO_RCVBUFFORCE},
	} {
		r.try(variant, func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			return errors.Join(unix.SetsockoptInt(fd, option[0], option[1], 1), unix.Close(fd))
		})
	}
	r.try("rules of the firewall", func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }() // only a descriptor
		// IPT_SO_SET_REPLACE of linux/netfilter_ipv4/ip_tables.h.
		return unix.SetsockoptString(fd, unix.SOL_IP, 64, "")
	}, unix.ENOPROTOOPT)
	r.try("tunnel", func() error { return opens("/dev/net/tun", unix.O_RDWR) }, absent...)
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }
