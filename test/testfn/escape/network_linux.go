package escape

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// unreachable are errors of connections that are not let through.
var unreachable = []error{unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EADDRNOTAVAIL, unix.ENODEV, unix.EINVAL, os.ErrDeadlineExceeded, unix.ETIMEDOUT}

// network tries to reach addresses, all at once.
func network(r *Run) {
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	for label, addresses := range r.Addresses {
		for _, protocol := range []string{"tcp", "udp"} {
			wg.Go(func() {
				one := &Run{Targets: Targets{Only: r.Only}}
				one.try(protocol+" to "+label, func() error { return reachAny(protocol, addresses) }, unreachable...)
				mu.Lock()
				defer mu.Unlock()
				r.outcomes = append(r.outcomes, one.outcomes...)
			})
		}
	}
	wg.Wait()
	slices.SortFunc(r.outcomes, func(a, b Outcome) int { return strings.Compare(a.Variant, b.Variant) })
}

// reachAny is nil if one of the addresses answers.
func reachAny(protocol string, addresses []string) error {
	results := make(chan error, len(addresses))
	for _, address := range addresses {
		go func() { results <- reach(protocol, address) }()
	}
	var failed error
	for range addresses {
		switch err := <-results; {
		case err == nil:
			return nil
		case failed == nil:
			failed = err
		}
	}
	if failed == nil {
		return errHidden // there is no such address
	}
	return failed
}

// reach is nil if something answers. Listeners of the test send a byte, for each
// packet they get or to whoever connects.
func reach(protocol, address string) error {
	conn, err := net.DialTimeout(protocol, address, patience)
	if err != nil {
		return timedOut(err)
	}
	defer func() { _ = conn.Close() }() // what was reached is known
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if protocol == "udp" {
		if _, err := conn.Write([]byte("x")); err != nil {
			return timedOut(err)
		}
	}
	_, err = conn.Read(make([]byte, 1))
	return timedOut(err)
}

// timedOut tells time-outs by one error.
func timedOut(err error) error {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return os.ErrDeadlineExceeded
	}
	return err
}

// Listen answers each packet and each connection with a byte, on a port of all
// addresses that it has, until the process ends. It writes those as a list in JSON.
func Listen(_ io.Reader, w io.Writer) error {
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "tcp", ":0")
	if err != nil {
		return err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	packets, err := config.ListenPacket(context.Background(), "udp", net.JoinHostPort("", strconv.Itoa(port)))
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	go func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			_, _ = conn.Write([]byte("x")) // who connected may have left
			_ = conn.Close()
		}
	}()
	go func() {
		buffer := make([]byte, 1)
		for _, from, err := packets.ReadFrom(buffer); err == nil; _, from, err = packets.ReadFrom(buffer) {
			_, _ = packets.WriteTo(buffer, from) // likewise
		}
	}()
	found, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	addresses := []string{}
	for _, address := range found {
		prefix, err := netip.ParsePrefix(address.String())
		if err != nil || prefix.Addr().IsLoopback() {
			continue
		}
		ip := prefix.Addr()
		if ip.IsLinkLocalUnicast() && ip.Is6() {
			ip = ip.WithZone("eth0") // as who tries calls its own
		}
		addresses = append(addresses, net.JoinHostPort(ip.String(), strconv.Itoa(port)))
	}
	return json.NewEncoder(w).Encode(addresses)
}
