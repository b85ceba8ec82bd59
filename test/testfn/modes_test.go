package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

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

func TestFloodIsAsLongAsAskedFor(t *testing.T) {
	s := serve(t)
	s.ask(t, "", "Testfn-Mode", "flood", "Testfn-Size", "1000")
	if got := s.output.String(); len(got) != 1000 || strings.Count(got, "\n") != 10 {
		t.Errorf("output %q", got)
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
