package runner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/internal/sockdir"
	"github.com/tinefn/tine/model"
)

func TestEndOfAChunkedBodyIsFound(t *testing.T) {
	for _, test := range []struct {
		chunks string
		want   bool
	}{
		{"", false},
		{"0\r\n\r\n", true},
		{"0\r\n\r", false},
		{"0\r\nTrailer: x\r\n\r\n", false}, // legal, and not worth the trouble
		{"5\r\nhello\r\n0\r\n\r\n", true},
		{"5\r\nhello\r\n", false},
		{"5\r\nhel", false},
		{"A\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\nmore", true},
		{"5\r\n0\r\n\r\n\r\n", false}, // the data looks like an end
		{"zz\r\n", false},
		{"-1\r\n\r\n", false},
		{"ffffffffffffffff\r\nx", false},
		{"5;extension\r\nhello\r\n0\r\n\r\n", false},
	} {
		if got := endsWithin([]byte(test.chunks)); got != test.want {
			t.Errorf("%q: %v", test.chunks, got)
		}
	}
}

// FuzzEndOfAChunkedBody compares with what the standard library reads.
func FuzzEndOfAChunkedBody(f *testing.F) {
	for _, chunks := range []string{"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "1\r\n0\r\n\r\n", "3\r\nabc", "0x1\r\na\r\n0\r\n\r\n"} {
		f.Add(chunks)
	}
	f.Fuzz(func(t *testing.T, chunks string) {
		if !endsWithin([]byte(chunks)) {
			return
		}
		wire := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
		source := strings.NewReader(wire)
		answer, err := http.ReadResponse(bufio.NewReader(io.MultiReader(source, blocked{t})), request)
		if err != nil {
			t.Fatal(err)
		}
		// It may be malformed, but reading it must not go beyond what is there.
		_, _ = io.Copy(io.Discard, answer.Body)
	})
}

// blocked stands for a connection on which nothing more comes.
type blocked struct{ t *testing.T }

func (b blocked) Read([]byte) (int, error) {
	b.t.Error("the end was not where it was found")
	return 0, io.EOF
}

func TestOneConnectionServesManyCalls(t *testing.T) {
	peers := map[string]bool{}
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		peers[r.Context().Value(http.LocalAddrContextKey).(net.Addr).String()+r.RemoteAddr] = true
		fake.Echo(w, r)
	}, nil)
	for i := range 100 {
		if got := b.mustRun(t, newTestCall(strconv.Itoa(i))); got != strconv.Itoa(i) {
			t.Fatalf("call %d: %q", i, got)
		}
	}
	b.wantContainers(t, 1)
}

func TestFunctionMayCloseItsConnectionAfterEachAnswer(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		fake.Echo(w, r)
	}, nil)
	for range 20 {
		b.mustRun(t, newTestCall("x"))
	}
	b.wantContainers(t, 1)
}

func TestFunctionMayCloseAnIdleConnection(t *testing.T) {
	closed := make(chan struct{}, 1)
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		defer func() { closed <- struct{}{} }()
		// The answer is complete and says nothing of closing.
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		buffered.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		buffered.Flush()
		conn.Close()
	}, nil)
	for range 20 {
		if got := b.mustRun(t, newTestCall("x")); got != "ok" {
			t.Fatal(got)
		}
		<-closed
	}
	b.wantContainers(t, 1)
}

func TestInstanceThatDiesAtRestIsReplacedWithoutAnError(t *testing.T) {
	b := newBench(t, fake.Echo, nil)
	b.mustRun(t, newTestCall("x"))
	lease, err := b.pool.Acquire(t.Context(), b.spec(newTestCall("")))
	if err != nil {
		t.Fatal(err)
	}
	b.engine.Down() // so that the pool does not hear of the death
	b.engine.Containers()[0].Kill(driver.Exit{Code: 137})
	for s := lease.Session.(*session); s.conn.IsQuiet(); time.Sleep(time.Millisecond) {
		if t.Context().Err() != nil {
			t.Fatal("the container did not die")
		}
	}
	b.engine.Up()
	lease.Release()
	b.wantContainers(t, 2)
}

func TestSocketThatIsNone(t *testing.T) {
	for _, bad := range []fake.BadSocket{fake.AbsoluteLink, fake.ParentLink, fake.DanglingLink, fake.PlainFile} {
		t.Run(strconv.Itoa(int(bad)), func(t *testing.T) {
			b := newBenchOn(t, fake.New(fake.Options{Script: func(n int, _ *driver.Spec) fake.Script {
				if n == 0 {
					return fake.Script{BadSocket: bad}
				}
				return fake.Script{BadSocket: fake.DirectSocket}
			}}), nil)
			if _, _, err := b.run(t.Context(), newTestCall("")); !errors.Is(err, model.ErrContainerInitFailed) {
				t.Errorf("got %v", err)
			}
			b.mustRun(t, newTestCall(""))
		})
	}
}

// TestFunctionMayListenAfterItsSocketAppeared has a function that makes the
// socket under its final name, and takes its time between the two steps of that.
func TestFunctionMayListenAfterItsSocketAppeared(t *testing.T) {
	b := newBenchOn(t, fake.New(fake.Options{Script: func(int, *driver.Spec) fake.Script {
		return fake.Script{Main: func(ctx context.Context, p *fake.Process) int {
			if err := listenLate(ctx, p.Spec.SocketDir); err != nil {
				t.Error(err)
				return 1
			}
			return 0
		}}
	}}), nil)
	if got := b.mustRun(t, newTestCall("x")); got != "x" {
		t.Errorf("got %q", got)
	}
}

// listenLate serves fake.Echo on a socket that refuses connections at first.
func listenLate(ctx context.Context, dir string) error {
	opened, err := os.Open(dir) // its name is too long for the address of a socket
	if err != nil {
		return err
	}
	defer opened.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	name := fmt.Sprintf("/proc/self/fd/%d/%s", opened.Fd(), sockdir.SocketName)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		return err
	}
	time.Sleep(20 * time.Millisecond)
	if err := unix.Listen(fd, 8); err != nil {
		return err
	}
	listener, err := net.FileListener(file)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(fake.Echo)}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
