package network

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// requestTimeout is how long one request to the kernel may take. It takes
// microseconds, or tens of milliseconds behind removals of other interfaces,
// as the kernel changes one at a time.
const requestTimeout = 5 * time.Second

// openHandle opens a connection to the kernel for the thread's namespace, which
// lives as long as the connection.
func openHandle() (*netlink.Handle, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink connection: %w", err)
	}
	if err := handle.SetSocketTimeout(requestTimeout); err != nil {
		handle.Close()
		return nil, fmt.Errorf("set the deadline of a netlink connection: %w", err)
	}
	return handle, nil
}

// inNamespace runs a function on a thread that is in another namespace, and
// brings the thread home. Netlink has no way to do this for what is done here:
// a connection is to the namespace of the thread that opens it, and files in
// /proc/sys/net are those of the thread's.
func inNamespace(home, target *os.File, f func() error) error {
	result := make(chan error, 1)
	go func() {
		// If the thread cannot come home it is not unlocked, and ends with the
		// goroutine.
		runtime.LockOSThread()
		if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("enter the network namespace %s: %w", target.Name(), err)
			return
		}
		err := f()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
			result <- errors.Join(err, fmt.Errorf("leave the network namespace %s: %w", target.Name(), back))
			return
		}
		runtime.UnlockOSThread()
		result <- err
	}()
	return <-result
}

// setSysctl writes a file below /proc/sys.
func setSysctl(path, value string) error {
	file, err := os.OpenFile("/proc/sys/"+path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(value)
	return errors.Join(err, file.Close())
}

// disableIPv6 turns IPv6 off for an interface of the thread's namespace.
func disableIPv6(link string) error {
	err := setSysctl("net/ipv6/conf/"+link+"/disable_ipv6", "1")
	if errors.Is(err, os.ErrNotExist) {
		return nil // the kernel has none
	}
	return err
}

// listLinks returns all interfaces of a handle's namespace. The kernel says if
// some came or went meanwhile, as the list may lack others then.
func listLinks(handle *netlink.Handle) ([]netlink.Link, error) {
	const attempts = 10
	var links []netlink.Link
	var err error
	for range attempts {
		if links, err = handle.LinkList(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	return links, nil
}

// isGone reports whether an error means that an interface does not exist.
func isGone(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.Is(err, unix.ENODEV) || errors.As(err, &notFound)
}
