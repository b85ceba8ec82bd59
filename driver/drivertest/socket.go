package drivertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tinefn/tine/driver"
)

// socketName is where a function's socket appears in its directory.
const socketName = "lsnr.sock"

// functionSpec is for a container that serves calls on a socket in dir.
func functionSpec(s *suite, dir string) *driver.Spec {
	spec := s.spec()
	spec.SocketDir = dir
	spec.Env = []string{"FN_FORMAT=http-stream", "FN_LISTENER=unix:" + driver.SocketMountPath + "/" + socketName}
	spec.Security = driver.Security{Unprivileged: true, ReadOnlyRoot: true, Init: true, NoNetwork: true}
	return spec
}

// socketDir is a directory that a container of any user can write in. Its
// path is short enough for a socket, unlike those of testing.
func socketDir(s *suite) string {
	s.Helper()
	dir, err := os.MkdirTemp("", "drivertest")
	s.must("make a socket directory", err)
	s.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			s.Error(err)
		}
	})
	s.must("open the socket directory", os.Chmod(dir, 0o777))
	return dir
}

// awaitSocket polls until the socket's name is there.
func awaitSocket(s *suite, dir string) {
	s.Helper()
	deadline := time.Now().Add(patience)
	for {
		_, err := os.Stat(filepath.Join(dir, socketName))
		if err == nil {
			return
		}
		if !errors.Is(err, os.ErrNotExist) || time.Now().After(deadline) {
			s.Fatalf("no socket: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// call sends one request to the function and returns the body of its answer.
func call(s *suite, dir, mode, body string) string {
	s.Helper()
	answer, err := exchange(s.Context(), dir, mode, body)
	s.must("call", err)
	return answer
}

// exchange is call for goroutines other than the test's.
func exchange(ctx context.Context, dir, mode, body string) (answer string, err error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", filepath.Join(dir, socketName))
	}}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/call", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Testfn-Mode", mode)
	request.Header.Set("Fn-Deadline", time.Now().Add(patience).UTC().Format(time.RFC3339))
	response, err := transport.RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", response.StatusCode, text)
	}
	return string(text), err
}

func socket(s *suite) {
	d := s.driver()
	dir := socketDir(s)
	c := s.start(d, functionSpec(s, dir))
	awaitSocket(s, dir)
	if got := call(s, dir, "count", "12345"); got != "5" {
		s.Errorf("answer %q", got)
	}
	if d.Capabilities().Freeze {
		s.must("freeze", c.Freeze(s.Context()))
		s.must("thaw", c.Thaw(s.Context()))
		if got := call(s, dir, "count", "123"); got != "3" {
			s.Errorf("answer after thaw %q", got)
		}
	}
	s.must("remove", c.Remove(s.Context()))
}
