package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

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

func TestExpectedHeaderIsAccepted(t *testing.T) {
	s := serve(t)
	s.askJSON(t, request{ExpectHeaders: map[string][]string{"X-A": {"1"}}}, "X-A", "1")
	if len(s.exits) != 0 {
		t.Error("the process ended")
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
