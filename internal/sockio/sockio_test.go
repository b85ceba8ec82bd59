//go:build unix

package sockio

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// patience is for what takes a moment.
	patience = 10 * time.Second
	// moment is for what must not happen.
	moment = 20 * time.Millisecond
	// many bytes have no room in the sockets that pair makes.
	many = 4 << 20
)

// pair are both ends of a connection that has room for few bytes. Only one is ours.
func pair(t testing.TB, network string) (ours *Conn, theirs net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "sockio") // names of sockets are short
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		address = filepath.Join(dir, "s")
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialed, err := net.Dial(network, listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	ours = New(dialed).(*Conn)
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	for _, c := range []net.Conn{dialed, theirs} {
		sized := c.(interface {
			SetReadBuffer(bytes int) error
			SetWriteBuffer(bytes int) error
		})
		if err := errors.Join(sized.SetReadBuffer(64<<10), sized.SetWriteBuffer(64<<10), c.SetDeadline(time.Now().Add(patience))); err != nil {
			t.Fatal(err)
		}
	}
	return ours, theirs
}

// onEach runs a test on each kind of socket.
func onEach(t *testing.T, run func(t *testing.T, ours *Conn, theirs net.Conn)) {
	t.Helper()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			ours, theirs := pair(t, network)
			run(t, ours, theirs)
		})
	}
}

// text is of n bytes whose order can be told.
func text(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return p
}

// result is what a Read or a Write has returned.
type result struct {
	n   int
	err error
}

// begin calls a Read or a Write that must wait.
func begin(t *testing.T, call func([]byte) (int, error), p []byte) <-chan result {
	t.Helper()
	ended := make(chan result, 1)
	go func() {
		n, err := call(p)
		ended <- result{n, err}
	}()
	select {
	case r := <-ended:
		t.Fatalf("it has not waited: %d, %v", r.n, r.err)
	case <-time.After(moment):
	}
	return ended
}

// take reads so many bytes, in pieces of many sizes.
func take(t *testing.T, from io.Reader, n int) []byte {
	t.Helper()
	got := make([]byte, 0, n)
	for size := 1; len(got) < n; size = size*3%100_003 + 1 {
		piece := make([]byte, min(size, n-len(got)))
		m, err := from.Read(piece)
		if got = append(got, piece[:m]...); err != nil {
			t.Fatalf("after %d of %d bytes: %v", len(got), n, err)
		}
	}
	return got
}

func TestWhatOneSideWritesTheOtherReads(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, theirs net.Conn) {
		for _, way := range []struct{ from, to net.Conn }{{ours, theirs}, {theirs, ours}} {
			for _, n := range []int{1, 5, 1000} {
				if m, err := way.from.Write(text(n)); m != n || err != nil {
					t.Fatal(m, err)
				}
				if got := take(t, way.to, n); !bytes.Equal(got, text(n)) {
					t.Errorf("got %q", got)
				}
			}
		}
		// Nothing is nothing, and is not waited for.
		for _, call := range []func([]byte) (int, error){ours.Write, ours.Read} {
			if n, err := call(nil); n != 0 || err != nil {
				t.Error(n, err)
			}
		}
	})
}

func TestWriteWaitsForRoomAndWritesAll(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, theirs net.Conn) {
		written := begin(t, ours.Write, text(many))
		if got := take(t, theirs, many); !bytes.Equal(got, text(many)) {
			t.Error("something else has come")
		}
		if r := <-written; r.n != many || r.err != nil {
			t.Error(r.n, r.err)
		}
	})
}

func TestMuchIsRead(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, theirs net.Conn) {
		written := begin(t, theirs.Write, text(many))
		if got := take(t, ours, many); !bytes.Equal(got, text(many)) {
			t.Error("something else has come")
		}
		if r := <-written; r.n != many || r.err != nil {
			t.Error(r.n, r.err)
		}
	})
}

func TestReadTellsTheEnd(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, theirs net.Conn) {
		ended := begin(t, ours.Read, make([]byte, 10))
		theirs.Write([]byte("last"))
		if r := <-ended; r.n != 4 || r.err != nil {
			t.Error(r.n, r.err)
		}
		ended = begin(t, ours.Read, make([]byte, 10))
		theirs.Close()
		if r := <-ended; r.n != 0 || r.err != io.EOF { //nolint:errorlint // readers compare it
			t.Error(r.n, r.err)
		}
		if n, err := ours.Read(make([]byte, 10)); n != 0 || err != io.EOF { //nolint:errorlint // readers compare it
			t.Error(n, err)
		}
	})
}

func TestOneSideCanBeEnded(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, theirs net.Conn) {
		if err := ours.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n, err := theirs.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Fatal(n, err)
		}
		theirs.Write([]byte("x"))
		if got := take(t, ours, 1); got[0] != 'x' {
			t.Errorf("got %q", got)
		}
	})
}

func TestResetIsTold(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, theirs net.Conn) {
		ours.Write([]byte("ab"))
		take(t, theirs, 1)
		theirs.Close() // with something unread
		n, err := ours.Read(make([]byte, 10))
		if n != 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Error(n, err)
		}
		of, ok := errors.AsType[*net.OpError](err)
		if !ok || of.Op != "read" || of.Net != ours.LocalAddr().Network() || of.Timeout() {
			t.Errorf("got %#v", err)
		}
		if n, err := ours.Write([]byte("c")); n != 0 || !errors.Is(err, syscall.EPIPE) {
			t.Error(n, err)
		}
	})
}

func TestReadDeadlinePassesAndCanBeLifted(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, theirs net.Conn) {
		began := time.Now()
		ours.SetReadDeadline(began.Add(moment))
		n, err := ours.Read(make([]byte, 10))
		if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) < moment {
			t.Error(n, err, time.Since(began))
		}
		if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
			t.Errorf("got %#v", err)
		}
		if n, err := ours.Read(make([]byte, 10)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(n, err)
		}
		// It is not one for writing.
		if n, err := ours.Write([]byte("x")); n != 1 || err != nil {
			t.Error(n, err)
		}
		ours.SetReadDeadline(time.Time{})
		ended := begin(t, ours.Read, make([]byte, 10))
		theirs.Write([]byte("late"))
		if r := <-ended; r.n != 4 || r.err != nil {
			t.Error(r.n, r.err)
		}
	})
}

// What was written until the deadline is counted: the rest can be written afterwards.
func TestWriteDeadlinePassesAndCanBeLifted(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, theirs net.Conn) {
		all := text(many)
		ours.SetWriteDeadline(time.Now().Add(moment))
		n, err := ours.Write(all)
		if n <= 0 || n >= many || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(n, err)
		}
		ours.SetWriteDeadline(time.Time{})
		written := begin(t, ours.Write, all[n:])
		if got := take(t, theirs, many); !bytes.Equal(got, all) {
			t.Error("something else has come")
		}
		if r := <-written; r.n != many-n || r.err != nil {
			t.Error(r.n, r.err)
		}
	})
}

func TestCloseEndsWhatWaits(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, _ net.Conn) {
		read, written := begin(t, ours.Read, make([]byte, 1)), begin(t, ours.Write, text(many))
		ours.Close()
		if r := <-read; r.n != 0 || !errors.Is(r.err, net.ErrClosed) {
			t.Error(r.n, r.err)
		}
		if r := <-written; r.n <= 0 || r.n >= many || !errors.Is(r.err, net.ErrClosed) {
			t.Error(r.n, r.err)
		}
		for name, call := range map[string]func([]byte) (int, error){"Read": ours.Read, "Write": ours.Write, "WriteNow": ours.WriteNow} {
			if n, err := call([]byte("x")); n != 0 || !errors.Is(err, net.ErrClosed) {
				t.Error(name, n, err)
			}
		}
	})
}

// The race detector looks whether what reading uses is used by writing.
func TestOneReadsWhileAnotherWrites(t *testing.T) {
	onEach(t, func(t *testing.T, ours *Conn, theirs net.Conn) {
		var ends sync.WaitGroup
		for _, c := range []net.Conn{ours, New(theirs)} {
			ends.Go(func() {
				if n, err := c.Write(text(many)); n != many || err != nil {
					t.Error(n, err)
				}
			})
			ends.Go(func() {
				got := make([]byte, many)
				if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, text(many)) {
					t.Error("something else has come", err)
				}
			})
		}
		ends.Wait()
	})
}

// wrapped is between us and a socket, which it tells of.
type wrapped struct{ *net.TCPConn }

func TestOnlySocketsThemselvesAreReadDirectly(t *testing.T) {
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()
	ours, _ := pair(t, "tcp")
	socket := ours.NetConn()
	for name, c := range map[string]net.Conn{
		"a pipe": one, "TLS": tls.Client(socket, &tls.Config{}), "a wrapped socket": wrapped{socket.(*net.TCPConn)}, "a Conn": ours,
	} {
		if got := New(c); got != c {
			t.Errorf("%s has become %T", name, got)
		}
	}
	raw, err := New(socket).(*Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(uintptr) {}); err != nil {
		t.Error(err)
	}
}
