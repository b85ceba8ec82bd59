package runner

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tinefn/tine/model"
)

func TestAnswersThatAreErrors(t *testing.T) {
	for name, test := range map[string]struct {
		function http.HandlerFunc
		want     model.Kind
		kept     bool
	}{
		"status 502": {answers(502), model.ErrFunctionFailed, true},
		"status 504": {answers(504), model.ErrCallTimeout, true},
		"status 500": {answers(500), model.ErrFunctionInvalidResponse, false},
		"status 201": {answers(201), model.ErrFunctionInvalidResponse, false},
		"no answer":  {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, model.ErrFunctionResponse, false},
		"garbage": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			io.WriteString(conn, "this is not HTTP\r\n\r\n")
			conn.Close()
		}, model.ErrFunctionResponse, false},
		"endless informational answers": {func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				w.WriteHeader(http.StatusEarlyHints)
			}
		}, model.ErrFunctionResponse, false},
		"header too big": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Large", strings.Repeat("x", 5000))
		}, model.ErrFunctionHeaderTooBig, false},
		"declared body too big": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5001")
			w.Write(make([]byte, 5001))
		}, model.ErrFunctionResponseTooBig, true},
		"undeclared body too big": {func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			w.Write(make([]byte, 5001))
		}, model.ErrFunctionResponseTooBig, true},
		"short body": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Write(make([]byte, 50))
			panic(http.ErrAbortHandler)
		}, model.ErrFunctionResponse, false},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				if calls.Add(1) == 1 {
					test.function(w, r)
				}
			}, func(o *Options) { o.MaxResponseBytes = 5000; o.MaxResponseHeaderBytes = 4096; o.HoldBytes = 8192 })
			call := newTestCall("x")
			if _, body, err := b.run(t.Context(), call); !errors.Is(err, test.want) {
				t.Fatalf("got %q, %v", body, err)
			}
			if test.kept {
				awaitIdle(t, b.pool)
				b.wantContainers(t, 1)
			} else {
				b.wantContainers(t, 2)
			}
		})
	}
}

func answers(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, "discarded")
	}
}

func TestAnswersWithinTheLimitsPass(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Chunked") != "" {
			w.(http.Flusher).Flush()
		}
		w.Write(make([]byte, 5000))
	}, func(o *Options) { o.MaxResponseBytes = 5000; o.HoldBytes = 5000 })
	for _, header := range []http.Header{{}, {"Chunked": {"1"}}} {
		call := newTestCall("")
		call.Header = header
		if got := b.mustRun(t, call); len(got) != 5000 {
			t.Errorf("%d bytes", len(got))
		}
	}
}

func TestLimitAboveTheHoldSizeCutsAStream(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		w.Write(make([]byte, 100_000))
	}, func(o *Options) { o.MaxResponseBytes = 50_000; o.HoldBytes = 10 })
	response, err := b.Invoke(t.Context(), newTestCall(""))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if !errors.Is(err, model.ErrFunctionResponseTooBig) || len(body) != 50_000 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
}

func TestEventStreamIsNotHeldBack(t *testing.T) {
	release := make(chan struct{})
	b := newBench(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-release
	}, func(o *Options) { o.MaxResponseBytes = 5000; o.HoldBytes = 5000 })
	response, err := b.Invoke(t.Context(), newTestCall(""))
	if err != nil {
		t.Fatal(err)
	}
	var event [9]byte
	if _, err := io.ReadFull(response.Body, event[:]); err != nil {
		t.Error(err)
	}
	close(release)
	if err := response.Body.Close(); err != nil {
		t.Error(err)
	}
}

func TestTimeoutInTheMiddleOfAnAnswer(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "part")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}, nil)
	call := newTestCall("x")
	call.Fn.Timeout = 1
	_, body, err := b.run(t.Context(), call)
	if !errors.Is(err, model.ErrCallTimeout) || body != "part" {
		t.Errorf("got %q, %v", body, err)
	}
}

func TestCallerThatLeavesInTheMiddleOfAnAnswer(t *testing.T) {
	release := make(chan struct{})
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Wait") != "" {
			io.WriteString(w, "part")
			w.(http.Flusher).Flush()
			<-release
		}
		io.WriteString(w, "rest")
	}, nil)
	call := newTestCall("x")
	call.Header.Set("Wait", "1")
	response, err := b.Invoke(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	var part [4]byte
	if _, err := io.ReadFull(response.Body, part[:]); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(response.Body.Close(), response.Body.Close()); err != nil {
		t.Error(err)
	}
	close(release)
	awaitIdle(t, b.pool)
	b.wantContainers(t, 1)
}
