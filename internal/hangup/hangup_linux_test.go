package hangup

import (
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is for what takes a moment.
const patience = 10 * time.Second

func watch(t *testing.T) *Watch {
	t.Helper()
	w, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// pair are both ends of a connection.
func pair(t *testing.T) (server, client net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if client, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close(); client.Close() })
	return server, client
}

func TestLeavingIsToldOnce(t *testing.T) {
	w := watch(t)
	server, client := pair(t)
	left := make(chan struct{}, 2)
	unwatch, err := w.Add(server, func() { left <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	defer unwatch()
	client.Write([]byte("what nobody reads does not matter"))
	select {
	case <-left:
		t.Error("a client that writes has left")
	case <-time.After(20 * time.Millisecond):
	}
	client.Close()
	select {
	case <-left:
	case <-time.After(patience):
		t.Fatal("nobody was told")
	}
	server.Close()
	select {
	case <-left:
		t.Error("it was told twice")
	case <-time.After(20 * time.Millisecond):
	}
}

func TestLeavingIsNotToldAfterwards(t *testing.T) {
	w := watch(t)
	server, client := pair(t)
	unwatch, err := w.Add(server, func() { t.Error("it was told") })
	if err != nil {
		t.Fatal(err)
	}
	unwatch()
	client.Close()
	if n, err := server.Read(make([]byte, 1)); n != 0 || err == nil { // it has left
		t.Fatal(n, err)
	}
	w.Close()
}

func TestConnectionWithoutDescriptorIsRefused(t *testing.T) {
	w := watch(t)
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()
	if _, err := w.Add(one, func() {}); err == nil {
		t.Error("it is watched")
	}
}

// A second Close would close what has the numbers by then.
func TestClosingTwiceClosesNothingOfOthers(t *testing.T) {
	w, err := New()
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	var others []int
	for range 8 {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		others = append(others, fd)
	}
	w.Close()
	for _, fd := range others {
		if err := unix.Close(fd); err != nil {
			t.Errorf("descriptor %d: %v", fd, err)
		}
	}
}
