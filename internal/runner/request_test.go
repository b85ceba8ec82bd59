package runner

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

func TestCallReachesTheFunctionByTheContract(t *testing.T) {
	var got *http.Request
	var body string
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		got, body = r, string(raw)
		w.Header().Set("X-Back", "1")
		io.WriteString(w, "answer")
	}, nil)
	call := newTestCall("hello")
	call.Header = http.Header{"X-Own": {"1", "2"}, "Content-Length": {"999"}, "Fn-Call-Id": {"forged"}, "Fn-Deadline": {"forged"}}
	header, answer, err := b.run(t.Context(), call)
	if err != nil || answer != "answer" || header.Get("X-Back") != "1" {
		t.Fatalf("got %q, %v, %v", answer, header, err)
	}
	if got.Method != "POST" || got.URL.Path != "/call" || got.Host != "localhost" || body != "hello" || got.ContentLength != 5 {
		t.Errorf("%s %s of %s, body %q of %d", got.Method, got.URL.Path, got.Host, body, got.ContentLength)
	}
	deadline, err := time.Parse("2006-01-02T15:04:05Z", got.Header.Get("Fn-Deadline"))
	if left := time.Until(deadline); err != nil || left < 4*time.Second || left > 6*time.Second {
		t.Errorf("deadline %q, in %v, %v", got.Header.Get("Fn-Deadline"), left, err)
	}
	got.Header.Del("Fn-Deadline")
	if diff := cmp.Diff(http.Header{"X-Own": {"1", "2"}, "Fn-Call-Id": {call.ID}, "Content-Length": {"5"}}, got.Header); diff != "" {
		t.Errorf("header (-want +got)\n%s", diff)
	}
}

// slowBody is a request's body that is written by the test.
func slowBody(length int64) (*invoke.Call, *io.PipeWriter) {
	reader, writer := io.Pipe()
	call := newTestCall("")
	call.Body, call.ContentLength = reader, length
	return call, writer
}

func TestBodyOfUnknownLengthIsStreamed(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			panic(err)
		}
		w.(http.Flusher).Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			w.Write(buf[:n])
			w.(http.Flusher).Flush()
			if err != nil {
				return
			}
		}
	}, nil)
	call, writer := slowBody(-1)
	response, err := b.Invoke(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range []string{"one", "two", "three"} {
		if _, err := io.WriteString(writer, piece); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(piece))
		if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != piece {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	writer.Close()
	if rest, err := io.ReadAll(response.Body); len(rest) != 0 || err != nil {
		t.Errorf("rest %q, %v", rest, err)
	}
	b.wantContainers(t, 1)
}

func TestLargeBodiesPassBothWays(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Write(data)
	}, nil)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for _, length := range []int64{int64(len(data)), -1} {
		call := newTestCall("")
		call.Body, call.ContentLength = io.NopCloser(bytes.NewReader(data)), length
		if got := b.mustRun(t, call); got != string(data) {
			t.Errorf("length %d: %d bytes came back", length, len(got))
		}
	}
	b.wantContainers(t, 1)
}

func TestBodyThatBreaksEndsTheCallForItsReason(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want model.Kind
	}{
		"too large":   {model.ErrRequestTooLarge, model.ErrRequestTooLarge},
		"timeout":     {model.ErrRequestTimeout, model.ErrRequestTimeout},
		"client left": {io.ErrUnexpectedEOF, model.ErrClientCanceled},
	} {
		for _, length := range []int64{-1, 10, 1 << 20} {
			t.Run(name+" "+strconv.FormatInt(length, 10), func(t *testing.T) {
				b := newBench(t, fake.Echo, nil)
				call, writer := slowBody(length)
				go func() {
					io.WriteString(writer, "part")
					writer.CloseWithError(test.err)
				}()
				if _, _, err := b.run(t.Context(), call); !errors.Is(err, test.want) {
					t.Errorf("got %v", err)
				}
				b.mustRun(t, newTestCall("next"))
			})
		}
	}
}

func TestFunctionMayAnswerWithoutReadingTheBody(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, _ *http.Request) {
		// Else Go's server waits for the body before it sends anything.
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			panic(err)
		}
		io.WriteString(w, "early")
	}, nil)
	for range 5 {
		call, writer := slowBody(-1)
		if got := b.mustRun(t, call); got != "early" {
			t.Fatal(got)
		}
		writer.Close()
	}
	b.wantContainers(t, 1)
}

func TestSlowSenderOfASmallBodyHoldsNoInstance(t *testing.T) {
	b := newBench(t, fake.Echo, nil)
	call, writer := slowBody(4)
	ended := make(chan error, 1)
	go func() {
		_, _, err := b.run(t.Context(), call)
		ended <- err
	}()
	io.WriteString(writer, "sl")
	if got := b.pool.Stats(); got.Busy+got.Launching+got.Waiting != 0 {
		t.Errorf("%+v", got)
	}
	io.WriteString(writer, "ow")
	writer.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
