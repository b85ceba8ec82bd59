package main

import (
	"bufio"
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

	"github.com/google/go-cmp/cmp"
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

func TestJSONAnswerShowsRequestHeaderAndConfig(t *testing.T) {
	s := serve(t, "FN_APP_ID=a1", "KEY=x=y")
	req := request{EchoContent: "again", TrailerRepeat: 2, ResponseCode: 404, ReturnHeaders: map[string][]string{"X-Two": {"1", "2"}}}
	response, a := s.askJSON(t, req, "X-One", "1")
	if diff := cmp.Diff(req, a.Request); diff != "" {
		t.Errorf("request (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"FN_APP_ID": "a1", "KEY": "x=y"}, a.Config); diff != "" {
		t.Errorf("config (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"again", "again"}, a.Trailer); diff != "" {
		t.Errorf("trailer (-want +got)\n%s", diff)
	}
	if a.Header.Get("X-One") != "1" {
		t.Errorf("header %v", a.Header)
	}
	if response.StatusCode != http.StatusOK || response.Header.Get("Fn-Http-Status") != "" {
		t.Errorf("a direct call has status %d, %v", response.StatusCode, response.Header)
	}
	if diff := cmp.Diff([]string{"1", "2"}, response.Header.Values("X-Two")); diff != "" {
		t.Errorf("returned header (-want +got)\n%s", diff)
	}
}

func TestTriggerCallIsEncapsulatedBothWays(t *testing.T) {
	s := serve(t)
	response, a := s.askJSON(t, request{ResponseCode: 202, ResponseContentType: "text/x", ReturnHeaders: map[string][]string{"X-Two": {"2"}}},
		"Fn-Intent", "httprequest", "Fn-Http-H-X-One", "1", "X-Hidden", "1")
	want := http.Header{"Fn-Http-H-X-One": {"1"}, "X-One": {"1"}}
	if diff := cmp.Diff(want, a.Header); diff != "" {
		t.Errorf("header (-want +got)\n%s", diff)
	}
	for name, want := range map[string]string{"Fn-Http-Status": "202", "Fn-Http-H-X-Two": "2", "Content-Type": "text/x", "X-Two": ""} {
		if got := response.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestFilesAreCreatedAndRead(t *testing.T) {
	s := serve(t)
	path := filepath.Join(t.TempDir(), "file")
	_, a := s.askJSON(t, request{CreateFile: path, CreateFileSize: 100_000})
	if len(a.Data) != 0 {
		t.Errorf("data %v", a.Data)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 100_000 {
		t.Errorf("created %v, %v", info, err)
	}
	_, a = s.askJSON(t, request{ReadFile: path, ReadFileSize: 3})
	if got := a.Data[path+".read_output"]; got != "xxx" {
		t.Errorf("read %q", got)
	}
	absent := filepath.Join(t.TempDir(), "no", "file")
	_, a = s.askJSON(t, request{ReadFile: absent, CreateFile: absent})
	if a.Data[absent+".read_error"] == "" || a.Data[absent+".create_error"] == "" {
		t.Errorf("data %v", a.Data)
	}
}

func TestAnswerCanBeSurroundedByGarbage(t *testing.T) {
	s := serve(t)
	_, body := s.ask(t, `{"invalidResponse":true,"postOutGarbage":"junk","postErrGarbage":"noise"}`, "Fn-Deadline", "x")
	if !strings.HasPrefix(body, "this line is not JSON\n{") || !strings.HasSuffix(body, "}\njunk") {
		t.Errorf("body %q", body)
	}
	if got := s.output.String(); got != "noise" {
		t.Errorf("output %q", got)
	}
	if _, body := s.ask(t, `{"isEmptyBody":true}`, "Fn-Deadline", "x"); body != "" {
		t.Errorf("body %q", body)
	}
}

func TestBodyThatIsNotJSONIsAnEmptyRequest(t *testing.T) {
	s := serve(t)
	_, body := s.ask(t, "no json", "Fn-Deadline", "x")
	if !strings.HasPrefix(body, `{"request":{},`) {
		t.Errorf("body %q", body)
	}
}

func TestMemoryIsHeldOrLeaked(t *testing.T) {
	f := newFn(nil, io.Discard, io.Discard, func(int) {})
	f.takeMemory(request{AllocateMemory: 5000, LeakMemory: 10})
	if len(f.held) != 5000 || len(f.leaked) != 1 {
		t.Errorf("held %d, leaked %d", len(f.held), len(f.leaked))
	}
	f.takeMemory(request{LeakMemory: 10})
	if f.held != nil || len(f.leaked) != 2 {
		t.Errorf("held %d, leaked %d after the next call", len(f.held), len(f.leaked))
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

func TestExpectedHeaderIsAccepted(t *testing.T) {
	s := serve(t)
	s.askJSON(t, request{ExpectHeaders: map[string][]string{"X-A": {"1"}}}, "X-A", "1")
	if len(s.exits) != 0 {
		t.Error("the process ended")
	}
}

func TestShutdownStopsServingAfterTheAnswer(t *testing.T) {
	s := serve(t)
	s.askJSON(t, request{IsShutdown: true})
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

func TestDebugLogsAroundTheCall(t *testing.T) {
	s := serve(t)
	_, a := s.askJSON(t, request{IsDebug: true})
	if got := s.output.String(); got != "BeginOfLogs\nEndOfLogs\n" {
		t.Errorf("output %q", got)
	}
	if a.Data["DockerHostname"] == "" || a.Data["DockerId"] == "" {
		t.Errorf("data %v", a.Data)
	}
}

func TestEchoAnswersWhileTheBodyArrives(t *testing.T) {
	s := serve(t)
	in, feed := io.Pipe()
	defer feed.Close()
	response, err := s.call(t, in, "Testfn-Mode", "echo", "Content-Type", "text/x")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer := bufio.NewReader(response.Body)
	for _, line := range []string{"one\n", "two\n"} {
		if _, err := io.WriteString(feed, line); err != nil {
			t.Fatal(err)
		}
		if got, err := answer.ReadString('\n'); err != nil || got != line {
			t.Fatalf("echo %q, %v", got, err)
		}
	}
	feed.Close()
	if rest, err := io.ReadAll(answer); err != nil || len(rest) != 0 {
		t.Errorf("rest %q, %v", rest, err)
	}
	if got := response.Header.Get("Content-Type"); got != "text/x" {
		t.Errorf("content type %q", got)
	}
}

func TestModesWithProperAnswers(t *testing.T) {
	tests := map[string]struct {
		headers     []string
		body        string
		want        string
		wantLength  int64
		wantStatus  int
		wantClosing bool
	}{
		"reply":            {headers: []string{"Testfn-Mode", "reply"}, body: "12345", want: "12345", wantLength: 5, wantStatus: 200},
		"count":            {headers: []string{"Testfn-Mode", "count"}, body: "12345", want: "5", wantLength: 1, wantStatus: 200},
		"status":           {headers: []string{"Testfn-Mode", "count", "Testfn-Status", "504"}, want: "0", wantLength: 1, wantStatus: 504},
		"closing":          {headers: []string{"Testfn-Mode", "count", "Testfn-Close", "1"}, want: "0", wantLength: 1, wantStatus: 200, wantClosing: true},
		"bytes":            {headers: []string{"Testfn-Mode", "bytes", "Testfn-Size", "40000"}, want: strings.Repeat("x", 40000), wantLength: 40000, wantStatus: 200},
		"bytes chunked":    {headers: []string{"Testfn-Mode", "bytes", "Testfn-Size", "40000", "Testfn-Chunked", "1"}, want: strings.Repeat("x", 40000), wantLength: -1, wantStatus: 200},
		"chunks":           {headers: []string{"Testfn-Mode", "chunks", "Testfn-Size", "2", "Testfn-Count", "3", "Testfn-Interval-Ms", "1"}, want: "xxxxxx", wantLength: -1, wantStatus: 200},
		"early":            {headers: []string{"Testfn-Mode", "early"}, body: "body", want: "early", wantLength: 5, wantStatus: 200},
		"through trigger":  {headers: []string{"Fn-Http-H-Testfn-Mode", "count"}, body: "1", want: "1", wantLength: 1, wantStatus: 200},
		"unknown":          {headers: []string{"Testfn-Mode", "nonsense"}, want: "unknown Testfn-Mode nonsense\n", wantLength: 29, wantStatus: 502},
		"delayed a little": {headers: []string{"Testfn-Mode", "count", "Testfn-Delay-Ms", "1"}, want: "0", wantLength: 1, wantStatus: 200},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			response, body := serve(t).ask(t, tt.body, tt.headers...)
			if body != tt.want || response.ContentLength != tt.wantLength || response.StatusCode != tt.wantStatus || response.Close != tt.wantClosing {
				t.Errorf("status %d, length %d, closing %t, %d bytes %.40q", response.StatusCode, response.ContentLength, response.Close, len(body), body)
			}
		})
	}
}

func TestHeadersModeSendsBigHeaders(t *testing.T) {
	response, _ := serve(t).ask(t, "", "Testfn-Mode", "headers", "Testfn-Count", "3", "Testfn-Size", "1000")
	for _, name := range []string{"X-Testfn-0", "X-Testfn-1", "X-Testfn-2"} {
		if got := len(response.Header.Get(name)); got != 1000 {
			t.Errorf("%s has %d bytes", name, got)
		}
	}
}

func TestOutputModeWritesToBothStreams(t *testing.T) {
	s := serve(t)
	s.ask(t, "", "Testfn-Mode", "output", "Testfn-Stdout", "one", "Testfn-Stderr", "two")
	if got := s.output.String(); got != "one\ntwo\n" {
		t.Errorf("output %q", got)
	}
}

func TestBrokenModesBreakTheAnswer(t *testing.T) {
	for _, mode := range []string{"garbage", "reset", "panic"} {
		t.Run(mode, func(t *testing.T) {
			s := serve(t)
			response, err := s.call(t, nil, "Testfn-Mode", mode)
			if err == nil {
				_, err = io.ReadAll(response.Body)
				response.Body.Close()
			}
			if err == nil {
				t.Error("the answer is whole")
			}
			if _, body := s.ask(t, "abc", "Testfn-Mode", "count"); body != "3" {
				t.Errorf("next answer %q", body)
			}
		})
	}
}

func TestHangEndsWithTheFunction(t *testing.T) {
	s := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/call", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Testfn-Mode", "hang")
	failed := make(chan error, 1)
	go func() { // ends by cancel
		response, err := s.client.Do(r)
		if err == nil {
			response.Body.Close()
		}
		failed <- err
	}()
	s.ask(t, "", "Testfn-Mode", "count") // others are served meanwhile
	cancel()
	if err := <-failed; err == nil {
		t.Error("the call was answered")
	}
}

func TestInspectReportsThisProcess(t *testing.T) {
	_, body := serve(t).ask(t, "", "Testfn-Mode", "inspect", "X-One", "1")
	var got report
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if got.UID != os.Getuid() || got.PID != os.Getpid() || !got.Writable["/tmp"] || got.Header.Get("X-One") != "1" {
		t.Errorf("report %+v", got)
	}
	if got.Status["CapEff"] == "" || got.Mounts["/"] == "" || got.Rlimits["nofile"][0] == 0 {
		t.Errorf("report %+v", got)
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
