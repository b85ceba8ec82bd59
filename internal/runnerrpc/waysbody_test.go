package runnerrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

func TestBodiesOfAllSizesArriveWhole(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		_, client := w.connect(t, ServerOptions{Invoker: echo})
		ctx := within(t)
		for _, size := range []int{0, 1 << 10, 64<<10 + 1, 3 << 20} {
			text := strings.Repeat("0123456789abcdef", size/16+1)[:size]
			known := streamed(strings.NewReader(text))
			known.ContentLength = int64(size)
			unknown := newCall(text)
			unknown.ContentLength = -1
			for form, call := range map[string]*invoke.Call{
				"held": newCall(text), "held, unknown length": unknown,
				"streamed": streamed(strings.NewReader(text)), "streamed, known length": known,
				"streamed, last piece with its end": streamed(iotest.DataErrReader(strings.NewReader(text))),
			} {
				if size == 3<<20 && strings.Contains(form, ", ") { // which costs time
					continue
				}
				response, err := client.Invoke(ctx, call)
				if got := read(t, response, err); got != text || response.ContentLength != int64(size) || response.Header.Get("Content-Type") != "text/plain" {
					t.Errorf("%d bytes %s: got %d bytes of %d, %v", size, form, len(got), response.ContentLength, response.Header)
				}
			}
		}
	})
}

// answerWith is an invoker whose answers are read from what a function gives.
func answerWith(length int64, body func(*invoke.Call) io.Reader) invoke.InvokerFunc {
	return func(_ context.Context, call *invoke.Call) (*invoke.Response, error) {
		return &invoke.Response{Header: http.Header{}, Body: io.NopCloser(body(call)), ContentLength: length, Timing: &invoke.Timing{}}, nil
	}
}

func TestAnswersOfUnknownLengthArriveWhole(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		_, client := w.connect(t, ServerOptions{Invoker: answerWith(-1, func(call *invoke.Call) io.Reader {
			text, _ := io.ReadAll(call.Body)
			return strings.NewReader(string(text))
		})})
		for _, size := range []int{0, 1, 64 << 10, 1 << 20} {
			text := strings.Repeat("0123456789abcdef", size/16+1)[:size]
			response, err := client.Invoke(within(t), newCall(text))
			if got := read(t, response, err); got != text || response.ContentLength != -1 || response.Header["Content-Length"] != nil {
				t.Errorf("%d bytes: got %d bytes of %d", size, len(got), response.ContentLength)
			}
		}
	})
}

func TestAnswerArrivesPieceByPiece(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		pieces := make(chan string, 1)
		_, client := w.connect(t, ServerOptions{Invoker: answerWith(-1, func(*invoke.Call) io.Reader {
			return readerFunc(func(p []byte) (int, error) {
				piece, ok := <-pieces
				if !ok {
					return 0, io.EOF
				}
				return copy(p, piece), nil
			})
		})})
		response, err := client.Invoke(within(t), newCall("x")) // the beginning comes before there is any piece
		if err != nil {
			close(pieces)
			t.Fatal(err)
		}
		room := make([]byte, 100)
		for _, piece := range []string{"first", "second", "third"} {
			pieces <- piece // only now, as the one before was read
			if n, err := response.Body.Read(room); string(room[:n]) != piece || err != nil {
				t.Errorf("got %q, %v, want %q", room[:n], err, piece)
			}
		}
		close(pieces)
		if n, err := response.Body.Read(room); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("got %d bytes, %v", n, err)
		}
		response.Body.Close()
	})
}

func TestRequestArrivesPieceByPiece(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		arrived := make(chan string)
		_, client := w.connect(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
			defer close(arrived)
			for room := make([]byte, 100); ; {
				n, err := call.Body.Read(room)
				if n > 0 {
					arrived <- string(room[:n])
				}
				if err != nil {
					return &invoke.Response{Header: http.Header{}, Body: invoke.HoldBody(nil), Timing: &invoke.Timing{}}, nil
				}
			}
		})})
		body, end := io.Pipe()
		done := make(chan error, 1)
		ctx := within(t)
		go func() {
			response, err := client.Invoke(ctx, streamed(body))
			if err == nil {
				err = response.Body.Close()
			}
			done <- err
		}()
		for _, piece := range []string{"first", "second", "third"} {
			io.WriteString(end, piece)
			if got := await(t, arrived, piece); got != piece {
				t.Errorf("got %q, want %q", got, piece)
			}
		}
		end.Close()
		if err := await(t, done, "the end of the call"); err != nil {
			t.Error(err)
		}
	})
}

func TestTimesAndIdentifiersArrive(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		ids := make(chan string, 1)
		timing := &invoke.Timing{Cold: true, Image: 100, Create: 20, Start: 3, Init: 4000}
		_, client := w.connect(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
			ids <- edge.RequestID(ctx)
			call.OnStart()
			response, err := echo(ctx, call)
			response.Timing = timing
			return response, err
		})})
		for _, id := range []string{"rid-1", "", "rid-2"} {
			timing = &invoke.Timing{Image: 1, Create: 1}
			if id != "" {
				timing.Cold, timing.Image, timing.Create, timing.Start, timing.Init = true, 100, 20, 3, 4000
			}
			started := 0
			call := newCall("x")
			call.OnStart = func() { started++ }
			response, err := client.Invoke(edge.WithRequestID(within(t), id), call)
			read(t, response, err)
			if got := <-ids; got != id {
				t.Errorf("the identifier is %q, want %q", got, id)
			}
			tm := response.Timing
			if tm.Cold != (id != "") || tm.Cold && (tm.Image != 100 || tm.Create != 23 || tm.Init != 4000) || tm.Total <= 0 || tm.Execution() <= 0 || started != 1 {
				t.Errorf("%q: got %+v, begun %d times", id, *tm, started)
			}
		}
	})
}

// Calls at one time share connections one after the other, and must not get into each
// other's answers.
func TestCallsAtOneTimeGetTheirOwnAnswers(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		_, client := w.connect(t, ServerOptions{Invoker: echo})
		ctx := within(t)
		var all sync.WaitGroup
		for g := range 64 {
			all.Go(func() {
				for i := range 50 {
					text := fmt.Sprintf("%d of %d ", i, g)
					if i%25 == g%25 {
						text = strings.Repeat(text, 2000) // in several pieces
					}
					call := newCall(text)
					switch i % 4 {
					case 1:
						call = streamed(strings.NewReader(text))
					case 2:
						call = streamed(iotest.DataErrReader(strings.NewReader(text)))
					}
					response, err := client.Invoke(ctx, call)
					if err != nil {
						t.Error(err)
						return
					}
					got, err := io.ReadAll(response.Body)
					if string(got) != text || err != nil {
						t.Errorf("got %.50q, %v, want %.50q", got, err, text)
						return
					}
					response.Body.Close()
				}
			})
		}
		all.Wait()
	})
}

func TestDetachedCallsTellTheirBeginningBeforeTheirEnd(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		begin, end := make(chan struct{}), make(chan error)
		_, client := w.connect(t, ServerOptions{Detached: true, Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
			<-begin
			call.OnStart()
			if err := <-end; err != nil {
				return nil, err
			}
			return echo(ctx, call)
		})})
		for _, failure := range []error{model.ErrFunctionFailed, nil} {
			call := newCall("dropped")
			started := make(chan struct{})
			call.Detached, call.OnStart = true, func() { close(started) }
			type result struct {
				response *invoke.Response
				err      error
			}
			results := make(chan result, 1)
			go func() {
				response, err := client.Invoke(within(t), call)
				results <- result{response, err}
			}()
			select {
			case <-results:
				t.Error("it was told before it began")
			case begin <- struct{}{}:
			}
			got := await(t, results, "the beginning")
			if got.err != nil {
				t.Fatal(got.err)
			}
			await(t, started, "OnStart")
			end <- failure // only now
			if text, err := io.ReadAll(got.response.Body); len(text) > 0 || !errors.Is(err, failure) {
				t.Errorf("got %q, %v, want %v", text, err, failure)
			}
			got.response.Body.Close()
		}
	})
}
