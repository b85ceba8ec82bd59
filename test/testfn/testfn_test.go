package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// served is a function that runs in this process.
type served struct {
	socket string
	client *http.Client
	exits  chan int // codes that the function would have ended with
	ended  chan error
	output *lockedBuffer // standard output and error
}

type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func serve(t *testing.T, environ ...string) *served {
	t.Helper()
	s := &served{
		socket: filepath.Join(t.TempDir(), "lsnr.sock"),
		exits:  make(chan int, 1), ended: make(chan error, 1), output: &lockedBuffer{},
	}
	listener, err := listen("unix:" + s.socket)
	if err != nil {
		t.Fatal(err)
	}
	f := newFn(environ, s.output, s.output, func(code int) { s.exits <- code })
	ctx, cancel := context.WithCancel(context.Background())
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", s.socket)
	}}
	s.client = &http.Client{Transport: transport}
	done := make(chan struct{})
	go func() { // ends with the test, in its cleanup
		defer close(done)
		s.ended <- f.serve(ctx, listener)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		transport.CloseIdleConnections()
	})
	return s
}

// call sends a body with headers, alternating names and values.
func (s *served) call(t *testing.T, body io.Reader, headers ...string) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/call", body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return s.client.Do(r)
}

// ask is call for answers that must arrive whole.
func (s *served) ask(t *testing.T, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	response, err := s.call(t, strings.NewReader(body), headers...)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(content)
}

// askJSON is ask for the JSON protocol.
func (s *served) askJSON(t *testing.T, req request, headers ...string) (*http.Response, answer) {
	t.Helper()
	body, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	response, content := s.ask(t, string(body), append(headers, "Fn-Deadline", "2030-01-01T00:00:00Z")...)
	var a answer
	if err := json.Unmarshal([]byte(content), &a); err != nil {
		t.Fatalf("answer %q: %v", content, err)
	}
	return response, a
}

func TestSocketIsALinkToAnOpenSocketBesideIt(t *testing.T) {
	s := serve(t)
	target, err := os.Readlink(s.socket)
	if err != nil || target != "phonylsnr.sock" {
		t.Errorf("link to %q, %v", target, err)
	}
	info, err := os.Stat(s.socket)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.Mode(), os.ModeSocket|0o666; got != want {
		t.Errorf("mode %v, want %v", got, want)
	}
}

func TestListenRefusesOtherAddresses(t *testing.T) {
	for _, address := range []string{"", "unix:", "tcp://127.0.0.1:1", "/tmp/x"} {
		if listener, err := listen(address); err == nil {
			listener.Close()
			t.Errorf("listened on %q", address)
		}
	}
}

func TestProcessEndsOnRequest(t *testing.T) {
	tests := map[string]struct {
		body    string
		headers []string
		want    int
	}{
		"crash":              {body: `{"isCrash":true}`, headers: []string{"Fn-Deadline", "x"}, want: 1},
		"exit":               {body: `{"isExit":true,"exitCode":7}`, headers: []string{"Fn-Deadline", "x"}, want: 7},
		"no deadline":        {body: `{}`, want: 1},
		"unexpected header":  {body: `{"expectHeaders":{"X-A":["1"]}}`, headers: []string{"Fn-Deadline", "x", "X-A", "2"}, want: 1},
		"crash amid a body ": {headers: []string{"Testfn-Mode", "crash"}, want: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := serve(t)
			response, err := s.call(t, strings.NewReader(tt.body), tt.headers...)
			if err == nil {
				response.Body.Close()
			}
			if got := <-s.exits; got != tt.want {
				t.Errorf("status %d, want %d", got, tt.want)
			}
		})
	}
}

func TestShutdownStopsServingAfterTheAnswer(t *testing.T) {
	s := serve(t)
	s.askJSON(t, request{IsShutdown: true})
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

func TestCommandLine(t *testing.T) {
	getenv := func(name string) string { return map[string]string{"COLOUR": "blue"}[name] }
	tests := map[string]struct {
		args           []string
		status         int
		stdout, stderr string
	}{
		"exit":    {args: []string{"exit", "3"}, status: 3},
		"print":   {args: []string{"print", "a", "b"}, stdout: "a\n", stderr: "b\n"},
		"write":   {args: []string{"write", "/dev/null", "a"}},
		"no file": {args: []string{"write", "/absent/file", "a"}, status: 1, stderr: "open /absent/file: no such file or directory\n"},
		"env":     {args: []string{"env", "COLOUR"}, stdout: "blue\n"},
		"unknown": {args: []string{"dance"}, status: 2, stderr: "unknown command \"dance\"\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if got := run(tt.args, getenv, &stdout, &stderr); got != tt.status {
				t.Errorf("status %d, want %d", got, tt.status)
			}
			if stdout.String() != tt.stdout || stderr.String() != tt.stderr {
				t.Errorf("wrote %q and %q", stdout.String(), stderr.String())
			}
		})
	}
}

func TestStartIsControlledByVariables(t *testing.T) {
	tests := map[string]struct {
		env    map[string]string
		status int
		stderr string
	}{
		"init exit":       {env: map[string]string{"ENABLE_INIT_EXIT": "9", "ENABLE_INIT_DELAY_MSEC": "1"}, status: 9},
		"spawn id":        {env: map[string]string{"ENABLE_FAIL_IF_FN_SPAWN_CALL_ID_NONMATCH": "1"}, status: 255},
		"format":          {env: map[string]string{"FN_FORMAT": "json"}, status: 1, stderr: "FN_FORMAT \"json\" is not http-stream\n"},
		"no listener":     {env: map[string]string{}, status: 1, stderr: "FN_LISTENER \"\" is not unix:<path>\n"},
		"header, footer":  {env: map[string]string{"ENABLE_HEADER": "h", "ENABLE_FOOTER": "f", "ENABLE_INIT_EXIT": "0"}, stderr: "h\nf\n"},
		"matching spawn ": {env: map[string]string{"ENABLE_FAIL_IF_FN_SPAWN_CALL_ID_NONMATCH": "1", "FN_SPAWN_CALL_ID": "1", "ENABLE_INIT_EXIT": "4"}, status: 4},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			status := run(nil, func(name string) string { return tt.env[name] }, io.Discard, &stderr)
			if status != tt.status || stderr.String() != tt.stderr {
				t.Errorf("status %d, stderr %q", status, stderr.String())
			}
		})
	}
}
