package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/internal/pool"
	"github.com/tinefn/tine/internal/sockdir"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib = 1 << 20

// bench is a runner with a pool and an engine whose containers are handlers of
// this process behind real sockets.
type bench struct {
	*Runner
	engine *fake.Engine
	pool   *pool.Pool
}

func newBench(t *testing.T, function http.HandlerFunc, change func(*Options)) *bench {
	t.Helper()
	return newBenchOn(t, fake.New(fake.Options{Handler: function}), change)
}

func newBenchOn(t *testing.T, engine *fake.Engine, change func(*Options)) *bench {
	t.Helper()
	sockets, err := sockdir.New(sockdir.Options{Root: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	p := pool.New(pool.Options{
		Driver: engine, Logger: slog.New(slog.DiscardHandler), NewSession: NewSession,
		Sockets: func() (pool.SocketDir, error) { return sockets.Create() },
		Total:   capacity.Amount{MemoryBytes: 256 * mib, MilliCPU: 1000}, StartTimeout: 5 * time.Second, QueueTimeout: 10 * time.Second,
		FreezeAfter: -1,
	})
	opts := Options{Pool: p, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&opts)
	}
	b := &bench{Runner: New(opts), engine: engine, pool: p}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
		b.Close()
		if err := errors.Join(engine.Close(ctx), sockets.Close()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// newTestCall makes a call with a body of known length.
func newTestCall(body string) *invoke.Call {
	return &invoke.Call{
		ID: model.NewID(), App: &model.App{ID: "app", Name: "shop"},
		Fn:     &model.Fn{ID: "fn", AppID: "app", Name: "pay", Image: "image", Memory: 64, Timeout: 5, IdleTimeout: 30},
		Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// run executes a call and reads its answer.
func (b *bench) run(ctx context.Context, call *invoke.Call) (http.Header, string, error) {
	response, err := b.Invoke(ctx, call)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(response.Body)
	return response.Header, string(body), errors.Join(err, response.Body.Close())
}

// mustRun executes a call that must succeed.
func (b *bench) mustRun(t *testing.T, call *invoke.Call) string {
	t.Helper()
	_, body, err := b.run(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// wantWarm checks that the next call works and how many containers it took.
func (b *bench) wantContainers(t *testing.T, want int) {
	t.Helper()
	b.mustRun(t, newTestCall("next"))
	if got := b.engine.Calls(fake.OpCreate); got != want {
		t.Errorf("%d containers were made, want %d", got, want)
	}
}

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

func TestOneConnectionServesManyCalls(t *testing.T) {
	peers := map[string]bool{}
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		peers[r.Context().Value(http.LocalAddrContextKey).(net.Addr).String()+r.RemoteAddr] = true
		fake.Echo(w, r)
	}, nil)
	for i := range 100 {
		if got := b.mustRun(t, newTestCall(strconv.Itoa(i))); got != strconv.Itoa(i) {
			t.Fatalf("call %d: %q", i, got)
		}
	}
	b.wantContainers(t, 1)
}

func TestFunctionMayCloseItsConnectionAfterEachAnswer(t *testing.T) {
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		fake.Echo(w, r)
	}, nil)
	for range 20 {
		b.mustRun(t, newTestCall("x"))
	}
	b.wantContainers(t, 1)
}

func TestFunctionMayCloseAnIdleConnection(t *testing.T) {
	closed := make(chan struct{}, 1)
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		defer func() { closed <- struct{}{} }()
		// The answer is complete and says nothing of closing.
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		buffered.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		buffered.Flush()
		conn.Close()
	}, nil)
	for range 20 {
		if got := b.mustRun(t, newTestCall("x")); got != "ok" {
			t.Fatal(got)
		}
		<-closed
	}
	b.wantContainers(t, 1)
}

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

func TestTimeoutEndsTheCallAndTheInstance(t *testing.T) {
	var calls atomic.Int32
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			<-r.Context().Done()
		}
	}, nil)
	call := newTestCall("x")
	call.Fn.Timeout = 1
	began := time.Now()
	if _, _, err := b.run(t.Context(), call); !errors.Is(err, model.ErrCallTimeout) {
		t.Fatal(err)
	}
	if took := time.Since(began); took < time.Second || took > 3*time.Second {
		t.Errorf("after %v", took)
	}
	b.wantContainers(t, 2)
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

func TestCallerThatLeavesGetsAwayAndTheInstanceIsKept(t *testing.T) {
	entered, release := make(chan struct{}, 1), make(chan struct{})
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Wait") != "" {
			entered <- struct{}{}
			<-release
		}
		fake.Echo(w, r)
	}, nil)
	ctx, leave := context.WithCancel(t.Context())
	call := newTestCall("x")
	call.Header.Set("Wait", "1")
	ended := make(chan error, 1)
	go func() {
		_, _, err := b.run(ctx, call)
		ended <- err
	}()
	<-entered
	leave()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	awaitIdle(t, b.pool)
	b.wantContainers(t, 1)
}

func awaitIdle(t *testing.T, p *pool.Pool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); p.Stats().Idle == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no instance became idle: %+v", p.Stats())
		}
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

func TestInstanceThatDiesAtRestIsReplacedWithoutAnError(t *testing.T) {
	b := newBench(t, fake.Echo, nil)
	b.mustRun(t, newTestCall("x"))
	lease, err := b.pool.Acquire(t.Context(), b.spec(newTestCall("")))
	if err != nil {
		t.Fatal(err)
	}
	b.engine.Down() // so that the pool does not hear of the death
	b.engine.Containers()[0].Kill(driver.Exit{Code: 137})
	for s := lease.Session.(*session); s.isQuiet(); time.Sleep(time.Millisecond) {
		if t.Context().Err() != nil {
			t.Fatal("the container did not die")
		}
	}
	b.engine.Up()
	lease.Release()
	b.wantContainers(t, 2)
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

func TestOnStartIsCalledOnceWhenTheCallBegins(t *testing.T) {
	var started atomic.Int32
	b := newBench(t, func(w http.ResponseWriter, r *http.Request) {
		if started.Load() != 1 {
			w.WriteHeader(500)
		}
	}, nil)
	for range 2 {
		started.Store(0)
		call := newTestCall("")
		call.OnStart = func() { started.Add(1) }
		b.mustRun(t, call)
	}
}

func TestTooLargeFunctionIsRefused(t *testing.T) {
	b := newBench(t, fake.Echo, nil)
	call := newTestCall("")
	call.Fn.Memory = 257
	if _, _, err := b.run(t.Context(), call); !errors.Is(err, model.ErrTooBigForNode) {
		t.Errorf("got %v", err)
	}
}

func TestParallelCallsOnAFewInstances(t *testing.T) {
	b := newBench(t, fake.Echo, nil)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			body := strings.Repeat(strconv.Itoa(i), 100)
			if _, got, err := b.run(t.Context(), newTestCall(body)); err != nil || got != body {
				t.Errorf("call %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
	if most := b.engine.MaxLive(); most > 4 {
		t.Errorf("%d containers at a time on a machine for 4", most)
	}
}

func TestSocketThatIsNone(t *testing.T) {
	for _, bad := range []fake.BadSocket{fake.AbsoluteLink, fake.ParentLink, fake.DanglingLink, fake.PlainFile} {
		t.Run(strconv.Itoa(int(bad)), func(t *testing.T) {
			b := newBenchOn(t, fake.New(fake.Options{Script: func(n int, _ *driver.Spec) fake.Script {
				if n == 0 {
					return fake.Script{BadSocket: bad}
				}
				return fake.Script{BadSocket: fake.DirectSocket}
			}}), nil)
			if _, _, err := b.run(t.Context(), newTestCall("")); !errors.Is(err, model.ErrContainerInitFailed) {
				t.Errorf("got %v", err)
			}
			b.mustRun(t, newTestCall(""))
		})
	}
}

// TestFunctionMayListenAfterItsSocketAppeared has a function that makes the
// socket under its final name, and takes its time between the two steps of that.
func TestFunctionMayListenAfterItsSocketAppeared(t *testing.T) {
	b := newBenchOn(t, fake.New(fake.Options{Script: func(int, *driver.Spec) fake.Script {
		return fake.Script{Main: func(ctx context.Context, p *fake.Process) int {
			if err := listenLate(ctx, p.Spec.SocketDir); err != nil {
				t.Error(err)
				return 1
			}
			return 0
		}}
	}}), nil)
	if got := b.mustRun(t, newTestCall("x")); got != "x" {
		t.Errorf("got %q", got)
	}
}

// listenLate serves fake.Echo on a socket that refuses connections at first.
func listenLate(ctx context.Context, dir string) error {
	opened, err := os.Open(dir) // its name is too long for the address of a socket
	if err != nil {
		return err
	}
	defer opened.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	name := fmt.Sprintf("/proc/self/fd/%d/%s", opened.Fd(), sockdir.SocketName)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		return err
	}
	time.Sleep(20 * time.Millisecond)
	if err := unix.Listen(fd, 8); err != nil {
		return err
	}
	listener, err := net.FileListener(file)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(fake.Echo)}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
