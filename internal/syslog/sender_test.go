package syslog

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newHub(t *testing.T) *Hub {
	h := NewHub("node-1", slog.New(slog.DiscardHandler))
	t.Cleanup(h.Close)
	return h
}

func lineOf(text string) Line {
	return Line{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 6789000, time.UTC), Severity: Error,
		AppID: "APP", FnID: "FN", InstanceID: "INST", CallID: "CALL", Text: text,
	}
}

const wanted = `<11>1 2026-01-02T03:04:05.006789Z node-1 app_id=APP,fn_id=FN INST CALL [fn@32473 app_id="APP" fn_id="FN" instance_id="INST" call_id="CALL"] `

// shortDir has a name that is short enough for a socket.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "sl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestDatagrams(t *testing.T) {
	for _, network := range []string{"udp", "unixgram", "unix"} {
		t.Run(network, func(t *testing.T) {
			address, listen := "127.0.0.1:0", network
			if network != "udp" {
				address, listen = filepath.Join(shortDir(t), "s"), "unixgram"
			}
			server, err := net.ListenPacket(listen, address)
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			w := newHub(t).Open(network + "://" + server.LocalAddr().String())
			defer w.Close()
			w.Write(lineOf("first"))
			w.Write(lineOf("second"))
			for _, text := range []string{"first", "second"} {
				if got := receive(t, server); got != wanted+text {
					t.Errorf("got %q", got)
				}
			}
		})
	}
}

func receive(t *testing.T, server net.PacketConn) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	_ = server.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, _, err := server.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestStreams(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			address := "127.0.0.1:0"
			if network == "unix" {
				address = filepath.Join(shortDir(t), "s")
			}
			server, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			hub := newHub(t)
			one, two := hub.Open(network+"://"+server.Addr().String()), hub.Open(network+"://"+server.Addr().String())
			one.Write(lineOf("of one"))
			conn := accept(t, server)
			in := bufio.NewReader(conn)
			if got, _ := in.ReadString('\n'); got != wanted+"of one\n" {
				t.Errorf("got %q", got)
			}
			one.Close()
			two.Write(lineOf("of two"))
			two.Close()
			rest, err := io.ReadAll(in) // the connection ends with its last user
			if string(rest) != wanted+"of two\n" || err != nil {
				t.Errorf("got %q, %v", rest, err)
			}
			conn.Close()
		})
	}
}

func accept(t *testing.T, server net.Listener) net.Conn {
	t.Helper()
	conn, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

func TestServerMayCloseAnIdleConnection(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	w := newHub(t).Open("tcp://" + server.Addr().String())
	defer w.Close()
	w.Write(lineOf("first"))
	conn := accept(t, server)
	if got, _ := bufio.NewReader(conn).ReadString('\n'); got != wanted+"first\n" {
		t.Errorf("got %q", got)
	}
	conn.(*net.TCPConn).SetLinger(0) // the next write fails for sure
	conn.Close()
	time.Sleep(20 * time.Millisecond)
	w.Write(lineOf("second"))
	conn = accept(t, server)
	defer conn.Close()
	if got, _ := bufio.NewReader(conn).ReadString('\n'); got != wanted+"second\n" {
		t.Errorf("got %q", got)
	}
}

func TestUnreachableServerDelaysNobodyAndComesBack(t *testing.T) {
	var log lockedBuffer
	hub := NewHub("node-1", slog.New(slog.NewTextHandler(&log, nil)))
	defer hub.Close()
	address := filepath.Join(shortDir(t), "s")
	w := hub.Open("unix://" + address)
	defer w.Close()
	began := time.Now()
	for range 10 * queueLines {
		w.Write(lineOf("lost"))
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("writing took %v", took)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(log.String(), "syslog cannot be reached"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the log does not tell that the server cannot be reached")
		}
	}
	server, err := net.ListenPacket("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-time.After(10 * time.Millisecond):
				w.Write(lineOf("found"))
			case <-stop:
				return
			}
		}
	})
	if got := receive(t, server); !strings.HasSuffix(got, "found") && !strings.HasSuffix(got, "lost") {
		t.Errorf("got %q", got)
	}
	close(stop)
	wg.Wait()
	for _, want := range []string{"lines of functions did not reach syslog", "lines="} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q: %s", want, log.String())
		}
	}
}

func TestUnknownSchemeLosesLinesAndNothingElse(t *testing.T) {
	var log lockedBuffer
	hub := NewHub("node-1", slog.New(slog.NewTextHandler(&log, nil)))
	w := hub.Open("carrier-pigeon://coop")
	w.Write(lineOf("lost"))
	w.Close()
	w.Close()
	hub.wg.Wait()
	hub.Close()
	if !strings.Contains(log.String(), "lines=1") {
		t.Errorf("the log does not tell that a line was lost: %s", log.String())
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}
