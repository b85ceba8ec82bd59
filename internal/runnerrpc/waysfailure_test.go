package runnerrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// fails calls a runner and reads the answer, which must not succeed.
func fails(ctx context.Context, t *testing.T, client *Client, call *invoke.Call) error {
	t.Helper()
	response, err := client.Invoke(ctx, call)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err == nil {
		t.Fatalf("the call succeeds with %.50q", text)
	}
	return err
}

// works calls a runner, for what must be so after a call that failed.
func works(ctx context.Context, t *testing.T, client *Client) {
	t.Helper()
	response, err := client.Invoke(ctx, newCall("next"))
	if got := read(t, response, err); got != "next" {
		t.Errorf("the next call gets %q", got)
	}
}

func TestFailuresAreTheSameOnEachWay(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		var fail func(*invoke.Call) (*invoke.Response, error)
		_, client := w.connect(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
			if fail != nil {
				return fail(call)
			}
			return echo(ctx, call)
		})})
		with := func(err error) func(*invoke.Call) (*invoke.Response, error) {
			return func(*invoke.Call) (*invoke.Response, error) { return nil, err }
		}
		begun := func(err error) func(*invoke.Call) (*invoke.Response, error) {
			return func(call *invoke.Call) (*invoke.Response, error) { call.OnStart(); return nil, err }
		}
		after := func(text string, length int64, err error) func(*invoke.Call) (*invoke.Response, error) {
			return func(*invoke.Call) (*invoke.Response, error) {
				body := io.MultiReader(strings.NewReader(text), &failingReader{err})
				return &invoke.Response{Header: http.Header{}, Body: io.NopCloser(body), ContentLength: length, Timing: &invoke.Timing{}}, nil
			}
		}
		for name, test := range map[string]struct {
			fail     func(*invoke.Call) (*invoke.Response, error)
			kind     error
			status   int
			text     string
			user     bool
			unplaced bool
		}{
			"timeout":                  {begun(model.ErrCallTimeout), model.ErrCallTimeout, 504, "Timed out", true, false},
			"function":                 {begun(model.ErrFunctionFailed), model.ErrFunctionFailed, 502, "function failed", true, false},
			"busy":                     {with(fmt.Errorf("%w: queue", model.ErrServerBusy)), model.ErrServerBusy, 503, "Timed out - server too busy", false, true},
			"busy after the beginning": {begun(model.ErrServerBusy), nil, 500, "internal server error", false, false},
			"own text":                 {with(&model.Error{Kind: model.ErrImagePullFailed, Message: "no ä", Status: 404}), nil, 404, "no ä", true, false},
			"no text of its own":       {with(errors.New("secret \xff")), nil, 500, "internal server error", false, false},
			"body that breaks":         {after("part", -1, model.ErrFunctionResponseTooBig), model.ErrFunctionResponseTooBig, 502, "function response body too large", true, false},
			"small body that breaks":   {after("part", 5, model.ErrCallTimeout), model.ErrCallTimeout, 504, "Timed out", true, false},
		} {
			if !w.direct && strings.Contains(name, "of its own") {
				continue // gRPC sends no text that is no UTF-8
			}
			fail = test.fail
			err := fails(within(t), t, client, newCall("x"))
			if d := model.Describe(err); d.Status != test.status || d.Text != test.text || d.User != test.user {
				t.Errorf("%s: got %+v of %v", name, d, err)
			}
			if test.kind != nil && !errors.Is(err, test.kind) || errors.Is(err, invoke.ErrNotPlaced) != test.unplaced {
				t.Errorf("%s: got %v", name, err)
			}
			fail = nil
			works(within(t), t, client)
		}
	})
}

// half is a body that begins and then does not go on, until it is closed.
func half() io.ReadCloser {
	body, writer := io.Pipe()
	go io.WriteString(writer, "part")
	return body
}

func TestCallerWhoLeavesCancelsTheCallOnEachWay(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		begun, ended := make(chan struct{}, 1), make(chan error)
		_, client := w.connect(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
			if held, ok := call.Body.(*invoke.HeldBody); ok && string(held.Bytes()) == "next" {
				return echo(ctx, call)
			}
			begun <- struct{}{}
			var err error
			select {
			case <-ctx.Done():
			case <-time.After(patience):
				err = errors.New("the call was not cancelled")
			}
			ended <- err // not before the caller has left: gRPC tells deadlines, and the runner may be first
			return nil, ctx.Err()
		})})
		for _, body := range []string{"held", "streamed"} {
			for want, leave := range map[model.Kind]func() (context.Context, context.CancelFunc){
				model.ErrClientCanceled: func() (context.Context, context.CancelFunc) { return context.WithCancel(t.Context()) },
				model.ErrReservation: func() (context.Context, context.CancelFunc) {
					return context.WithTimeout(t.Context(), 50*time.Millisecond)
				},
			} {
				ctx, cancel := leave()
				call := newCall("x")
				if body == "streamed" {
					call.Body, call.ContentLength = half(), -1
				}
				failed := make(chan error, 1)
				go func() {
					_, err := client.Invoke(ctx, call)
					failed <- err
				}()
				await(t, begun, "the invoker")
				if want == model.ErrClientCanceled {
					cancel()
				}
				if err := await(t, failed, "the call's end"); model.Describe(err).Kind != want || errors.Is(err, invoke.ErrNotPlaced) {
					t.Errorf("%s, %v: got %v", body, want, err)
				}
				if err := await(t, ended, "the invoker's end"); err != nil {
					t.Errorf("%s, %v: %v", body, want, err)
				}
				cancel()
				works(within(t), t, client)
			}
		}
	})
}

// A function must not take a part of a request for the whole.
func TestRequestThatBreaksCancelsTheCallOnEachWay(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		begun, ended := make(chan struct{}), make(chan error, 1)
		_, client := w.connect(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
			if call.Slot != "breaks" {
				return echo(ctx, call)
			}
			begun <- struct{}{}
			_, err := io.ReadAll(call.Body)
			if err != nil {
				<-ctx.Done()
			}
			ended <- err
			return nil, err
		})})
		for cause, want := range map[error]model.Kind{model.ErrRequestTooLarge: model.ErrRequestTooLarge, io.ErrUnexpectedEOF: model.ErrClientCanceled} {
			for _, part := range []int{1, 100_000} {
				call := streamed(io.MultiReader(strings.NewReader(strings.Repeat("x", part)), readerFunc(func([]byte) (int, error) {
					await(t, begun, "the invoker")
					return 0, cause
				})))
				call.Slot = "breaks"
				if err := fails(within(t), t, client, call); model.Describe(err).Kind != want {
					t.Errorf("%v: got %v", cause, err)
				}
				if err := await(t, ended, "the invoker's end"); !errors.Is(err, model.ErrClientCanceled) {
					t.Errorf("the function has read its request to %v", err)
				}
			}
			works(within(t), t, client)
		}
	})
}

func TestAnswerThatNobodyReadsCancelsTheCallOnEachWay(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		ended := make(chan struct{})
		_, client := w.connect(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
			if call.Slot != "endless" {
				return echo(ctx, call)
			}
			body := readerFunc(func(p []byte) (int, error) {
				if ctx.Err() != nil {
					return 0, ctx.Err()
				}
				return len(p), nil
			})
			return &invoke.Response{Header: http.Header{}, Body: closing{body, func() { close(ended) }}, ContentLength: -1, Timing: &invoke.Timing{}}, nil
		})})
		call := newCall("")
		call.Slot = "endless"
		response, err := client.Invoke(within(t), call)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(response.Body, make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		await(t, ended, "the end of the answer")
		works(within(t), t, client)
	})
}

// closing is a body that tells when it is closed.
type closing struct {
	io.Reader
	close func()
}

func (c closing) Close() error { c.close(); return nil }

func TestFunctionThatDoesNotWaitForItsRequestFailsOnEachWay(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		answered := make(chan struct{}, 1)
		_, client := w.connect(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
			if call.Slot == "early" {
				answered <- struct{}{}
				return &invoke.Response{Header: http.Header{}, Body: invoke.HoldBody([]byte("early")), ContentLength: 5}, nil
			}
			return echo(ctx, call)
		})})
		forms := []func() io.ReadCloser{
			half,
			func() io.ReadCloser {
				return io.NopCloser(readerFunc(func(p []byte) (int, error) { return len(p), nil }))
			},
			func() io.ReadCloser { // breaks when the answer is under way
				return io.NopCloser(io.MultiReader(strings.NewReader("part"), readerFunc(func([]byte) (int, error) {
					await(t, answered, "the answer")
					return 0, io.ErrUnexpectedEOF
				})))
			},
		}
		for i := range 30 {
			call := newCall("")
			call.Body, call.ContentLength, call.Slot = forms[i%3](), -1, "early"
			err := fails(within(t), t, client, call)
			if !errors.Is(err, model.ErrFunctionPrematureWrite) && !(i%3 == 2 && errors.Is(err, model.ErrClientCanceled)) {
				t.Errorf("got %v", err)
			}
			select {
			case <-answered:
			default:
			}
			works(within(t), t, client)
		}
	})
}

// A function that fails while the last piece of its request arrives leaves a connection
// behind on which the next call comes.
func TestFunctionMayFailWhileItsRequestArrives(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		_, client := w.connect(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
			if _, ok := call.Body.(*invoke.HeldBody); ok {
				return echo(ctx, call)
			}
			time.Sleep(time.Millisecond) // the rest of the request comes
			return nil, model.ErrFunctionFailed
		})})
		for range 20 {
			body := io.MultiReader(strings.NewReader("first"), iotest.DataErrReader(strings.NewReader(strings.Repeat("last", 200))))
			if err := fails(within(t), t, client, streamed(body)); !errors.Is(err, model.ErrFunctionFailed) {
				t.Errorf("got %v", err)
			}
			works(within(t), t, client)
		}
	})
}

func TestRequestsOverTheLimitAreRefusedOnEachWay(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		_, client := w.connect(t, ServerOptions{Invoker: echo, MaxRequestBytes: 100_000})
		for _, size := range []int{100_000, 100_001, 1 << 20} {
			text := strings.Repeat("x", size)
			known := streamed(strings.NewReader(text))
			known.ContentLength = int64(size)
			for form, call := range map[string]*invoke.Call{"held": newCall(text), "streamed": streamed(strings.NewReader(text)), "known length": known} {
				if size == 100_000 {
					response, err := client.Invoke(within(t), call)
					if got := read(t, response, err); got != text {
						t.Errorf("%s: got %d bytes", form, len(got))
					}
				} else if err := fails(within(t), t, client, call); model.Describe(err).Status != 413 {
					t.Errorf("%s of %d bytes: got %v", form, size, err)
				}
			}
		}
		works(within(t), t, client)
	})
}

func TestPanicEndsOneCallOnlyOnEachWay(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		_, client := w.connect(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
			if call.Slot == "panic" {
				panic("of the test")
			}
			return echo(ctx, call)
		})})
		for _, body := range []io.Reader{nil, strings.NewReader("streamed"), io.MultiReader(strings.NewReader("part"), readerFunc(func(p []byte) (int, error) { return len(p), nil }))} {
			call := newCall("held")
			if body != nil {
				call = streamed(body)
			}
			call.Slot = "panic"
			err := fails(within(t), t, client, call)
			if !strings.Contains(err.Error(), "the runner panicked") || model.Describe(err).Kind != model.ErrInternal || errors.Is(err, invoke.ErrNotPlaced) {
				t.Errorf("got %v", err)
			}
			works(within(t), t, client)
		}
	})
}

func TestCallThatIsTooLargeIsNotSentOnEachWay(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		w.client.MaxMessageBytes = 100_000
		_, client := w.connect(t, ServerOptions{Invoker: echo})
		header, definition := newCall("x"), newCall("x")
		header.Header.Set("X-Large", strings.Repeat("x", 100_000))
		large := *testFn
		large.Config = model.Config{"LARGE": strings.Repeat("x", 100_000)}
		definition.Fn = &large
		for name, call := range map[string]*invoke.Call{"header": header, "definition": definition} {
			for range 2 { // the definition was not sent the first time
				err := fails(within(t), t, client, call)
				if errors.Is(err, invoke.ErrNotPlaced) || !strings.Contains(err.Error(), "FN_GRPC_MAX_MESSAGE_SIZE") {
					t.Errorf("%s: got %v", name, err)
				}
			}
			works(within(t), t, client)
		}
	})
}
