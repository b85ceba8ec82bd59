package runnerrpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fnModel is a call as a load balancer of Fn writes it.
const fnModel = `{"id":"call-1","status":"","image":"example/image:1","type":"sync","url":"http://localhost:8080/invoke/fn-id","method":"POST",` +
	`"timeout":30,"idle_timeout":40,"memory":128,"config":{"A":"1","FN_MEMORY":"128"},"annotations":{"k":"v"},` +
	`"headers":{"Content-Type":["text/plain"],"X-Two":["1","2"]},"syslog_url":"tcp://logs:514",` +
	`"completed_at":"0001-01-01T00:00:00.000Z","created_at":"2020-01-02T03:04:05.678Z","started_at":"0001-01-01T00:00:00.000Z",` +
	`"app_id":"app-id","app_name":"app","trigger_id":"","fn_id":"fn-id"}`

func tryOf(model string) *runnerpb.ClientMsg {
	return &runnerpb.ClientMsg{Body: &runnerpb.ClientMsg_Try{Try: &runnerpb.TryCall{ModelsCallJson: model}}}
}

func dataOf(text string, eof bool) *runnerpb.ClientMsg {
	return &runnerpb.ClientMsg{Body: &runnerpb.ClientMsg_Data{Data: &runnerpb.DataFrame{Data: []byte(text), Eof: eof}}}
}

// exchanged is what a runner sent in one call.
type exchanged struct {
	start    *runnerpb.HttpRespMeta
	body     string
	frames   []int // their sizes
	finished *runnerpb.CallFinished
	err      error // that the stream ended with; nil: in order
}

// engage sends messages as a load balancer of Fn does, and receives to the end.
func engage(ctx context.Context, t *testing.T, address string, messages ...*runnerpb.ClientMsg) exchanged {
	t.Helper()
	stream, err := peer(t, address).Engage(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range messages {
		if err := stream.Send(message); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	return receiveAll(t, stream)
}

func receiveAll(t *testing.T, stream grpc.BidiStreamingClient[runnerpb.ClientMsg, runnerpb.RunnerMsg]) (got exchanged) {
	t.Helper()
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			got.err = err
			return got
		}
		if got.finished != nil {
			t.Fatalf("%v came after the end", message)
		}
		switch body := message.GetBody().(type) {
		case *runnerpb.RunnerMsg_ResultStart:
			if got.start != nil || got.body != "" {
				t.Fatal("the beginning did not come first")
			}
			got.start = body.ResultStart.GetHttp()
		case *runnerpb.RunnerMsg_Data:
			got.body += string(body.Data.GetData())
			got.frames = append(got.frames, len(body.Data.GetData()))
		case *runnerpb.RunnerMsg_Finished:
			got.finished = body.Finished
		}
	}
}

func TestRunnerAnswersALoadBalancerOfFn(t *testing.T) {
	server, address := serve(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
		call.OnStart()
		body, err := io.ReadAll(call.Body)
		seen, _ := json.Marshal([]any{
			call.ID, call.Fn.Image, call.Fn.Memory, call.Fn.Timeout, call.Fn.IdleTimeout, call.Fn.Config["A"], string(call.Fn.Annotations["k"]),
			call.Header["X-Two"], *call.App.SyslogURL, call.App.ID, call.App.Name, call.Fn.ID, call.Fn.AppID, call.Slot, call.Extensions["FN_CHEESE"],
			edge.RequestID(ctx), call.ContentLength, string(body),
		})
		return &invoke.Response{
			Header: http.Header{"X-A": {"1", "2"}, "Connection": {"close"}}, Body: invoke.HoldBody(seen), ContentLength: int64(len(seen)),
			Timing: &invoke.Timing{Cold: true, Image: 1, Create: 20, Start: 300, Init: 4000},
		}, err
	})})
	try := tryOf(fnModel)
	try.GetTry().SlotHashId, try.GetTry().Extensions = "abcdef", map[string]string{"FN_CHEESE": "Tete de Moine"}
	began := time.Now().Add(-time.Millisecond)
	got := engage(metadata.AppendToOutgoingContext(t.Context(), "fn_request_id", "rid"), t, address, try, dataOf("hello ", false), dataOf("there", false), dataOf("", true))
	want := `["call-1","example/image:1",128,30,40,"1","\"v\"",["1","2"],"tcp://logs:514","app-id","app","fn-id","app-id","abcdef","Tete de Moine","rid",-1,"hello there"]`
	if got.err != nil || got.body != want {
		t.Errorf("got %s, %v\nwant %s", got.body, got.err, want)
	}
	if got.start.GetStatusCode() != 200 {
		t.Errorf("status %d", got.start.GetStatusCode())
	}
	var headers []string
	for _, h := range got.start.GetHeaders() {
		headers = append(headers, h.GetKey()+": "+h.GetValue())
	}
	slices.Sort(headers)
	if want := []string{fmt.Sprintf("Content-Length: %d", len(want)), "X-A: 1", "X-A: 2"}; !slices.Equal(headers, want) {
		t.Errorf("headers %q, want %q", headers, want)
	}
	f := got.finished
	if !f.GetSuccess() || f.GetDetails() != "call-1" || f.GetErrorCode() != 0 || f.GetErrorStr() != "" || f.GetImage() != "example/image:1" {
		t.Errorf("got %v", f)
	}
	if f.GetImagePullWaitDuration() != 1 || f.GetCtrCreateDuration() != 320 || f.GetInitStartTime() != 4000 {
		t.Errorf("times of the launch: %v", f)
	}
	created, started, completed := readTime(f.GetCreatedAt()), readTime(f.GetStartedAt()), readTime(f.GetCompletedAt())
	if created.Before(began.Truncate(time.Millisecond)) || started.Before(created) || completed.Before(started) || f.GetSchedulerDuration() < 0 || f.GetExecutionDuration() < 0 {
		t.Errorf("times: %v", f)
	}
	if server.received.Load() != 1 || server.handled.Load() != 1 {
		t.Errorf("counted %d and %d", server.received.Load(), server.handled.Load())
	}
}

func TestAnswersComeInSmallPieces(t *testing.T) {
	text := strings.Repeat("0123456789", 10_000)
	for name, body := range map[string]io.ReadCloser{"held": invoke.HoldBody([]byte(text)), "streamed": io.NopCloser(strings.NewReader(text))} {
		_, address := serve(t, ServerOptions{Invoker: invoke.InvokerFunc(func(context.Context, *invoke.Call) (*invoke.Response, error) {
			return &invoke.Response{Header: http.Header{"Content-Length": {"7"}}, Body: body, ContentLength: -1}, nil
		})})
		got := engage(t.Context(), t, address, tryOf(fnModel), dataOf("", true))
		if got.body != text || slices.Max(got.frames) > 10_240 || !got.finished.GetSuccess() {
			t.Errorf("%s: %d bytes in %d, %v", name, len(got.body), got.frames, got.finished)
		}
		if len(got.start.GetHeaders()) != 0 {
			t.Errorf("%s: a length is told that nobody knows: %v", name, got.start)
		}
	}
}

func TestBreachesOfTheProtocolEndTheStream(t *testing.T) {
	var invoked atomic.Int32
	_, address := serve(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
		invoked.Add(1)
		return echo(ctx, call)
	})})
	for name, test := range map[string]struct {
		messages []*runnerpb.ClientMsg
		code     codes.Code
	}{
		"no message":             {nil, 503},
		"data first":             {[]*runnerpb.ClientMsg{dataOf("x", true)}, codes.InvalidArgument},
		"nothing in the message": {[]*runnerpb.ClientMsg{{}}, codes.InvalidArgument},
		"two tries":              {[]*runnerpb.ClientMsg{tryOf(fnModel), tryOf(fnModel)}, codes.InvalidArgument},
		"no end":                 {[]*runnerpb.ClientMsg{tryOf(fnModel)}, codes.InvalidArgument},
		"no end after data":      {[]*runnerpb.ClientMsg{tryOf(fnModel), dataOf("x", false)}, codes.InvalidArgument},
		"a try after data":       {[]*runnerpb.ClientMsg{tryOf(fnModel), dataOf("x", false), tryOf(fnModel)}, codes.InvalidArgument},
		"longer than it says": {[]*runnerpb.ClientMsg{
			tryOf(strings.Replace(fnModel, `"X-Two"`, `"Content-Length":["3"],"X-Two"`, 1)), dataOf("1234", false), dataOf("5", false),
		}, codes.InvalidArgument},
	} {
		stream, err := peer(t, address).Engage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range test.messages {
			if err := stream.Send(message); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if got := receiveAll(t, stream); status.Code(got.err) != test.code || got.finished != nil || got.start != nil {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// busyStart fails as busy after the call has begun.
func busyStart(_ context.Context, call *invoke.Call) (*invoke.Response, error) {
	call.OnStart()
	return nil, model.ErrServerBusy
}

func TestFailuresAreToldByNumberTextAndBlame(t *testing.T) {
	failing := func(err error) invoke.InvokerFunc {
		return func(context.Context, *invoke.Call) (*invoke.Response, error) { return nil, err }
	}
	detached := strings.Replace(fnModel, `"type":"sync"`, `"type":"detached"`, 1)
	for name, test := range map[string]struct {
		model   string
		invoker invoke.InvokerFunc
		code    int32
		text    string
		user    bool
		handled uint64
	}{
		"timeout":                  {fnModel, failing(model.ErrCallTimeout), 504, "Timed out", true, 1},
		"own text":                 {fnModel, failing(&model.Error{Kind: model.ErrImagePullFailed, Message: "Failed to pull image 'x': no", Status: 404, Cause: io.EOF}), 404, "Failed to pull image 'x': no", true, 1},
		"busy":                     {fnModel, failing(fmt.Errorf("%w: queue", model.ErrServerBusy)), 503, "Timed out - server too busy", false, 0},
		"busy after the beginning": {fnModel, busyStart, 0, "Timed out - server too busy", false, 1},
		"internal":                 {fnModel, failing(errors.New("cause")), 0, "cause", false, 1},
		"status image":             {strings.Replace(fnModel, "example/image:1", "status/image", 1), echo, 400, "Invalid Fn image", false, 1},
		"detached":                 {detached, echo, 501, "Detach call functions are not supported on this server", false, 1},
		"no JSON":                  {"{", echo, 0, "the call cannot be read: unexpected end of JSON input", false, 0},
		"no image":                 {`{"id":"x"}`, echo, 0, "the call cannot be read: it names no image", false, 0},
	} {
		server, address := serve(t, ServerOptions{Invoker: test.invoker, Status: StatusOptions{Image: "status/image"}})
		f := engage(t.Context(), t, address, tryOf(test.model), dataOf("x", true)).finished
		if f.GetSuccess() || f.GetErrorCode() != test.code || f.GetErrorStr() != test.text || f.GetErrorUser() != test.user {
			t.Errorf("%s: got %v", name, f)
		}
		if got := server.handled.Load(); got != test.handled {
			t.Errorf("%s: %d calls are counted as handled", name, got)
		}
	}
}

func TestBodyThatBreaksIsTold(t *testing.T) {
	_, address := serve(t, ServerOptions{Invoker: invoke.InvokerFunc(func(context.Context, *invoke.Call) (*invoke.Response, error) {
		body := io.MultiReader(strings.NewReader("part"), &failingReader{model.ErrFunctionResponseTooBig})
		return &invoke.Response{Header: http.Header{}, Body: io.NopCloser(body), ContentLength: -1}, nil
	})})
	got := engage(t.Context(), t, address, tryOf(fnModel), dataOf("", true))
	if got.body != "part" || got.finished.GetErrorCode() != 502 || got.finished.GetErrorStr() != "function response body too large" || !got.finished.GetErrorUser() {
		t.Errorf("got %+v", got)
	}
}

type failingReader struct{ err error }

func (r *failingReader) Read([]byte) (int, error) { return 0, r.err }

func TestFunctionMustReadItsRequestBeforeItAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		function invoke.InvokerFunc
		text     string
	}{
		"an answer": {func(context.Context, *invoke.Call) (*invoke.Response, error) {
			return &invoke.Response{Header: http.Header{}, Body: invoke.HoldBody([]byte("early")), ContentLength: 5}, nil
		}, "function invoked write before receiving entire request"},
		"an end": {func(_ context.Context, call *invoke.Call) (*invoke.Response, error) {
			call.Body.Close()
			return nil, model.ErrFunctionResponse
		}, "function closed pipe while receiving request"},
	} {
		_, address := serve(t, ServerOptions{Invoker: test.function})
		got := engage(t.Context(), t, address, tryOf(fnModel), dataOf("x", false))
		if got.finished.GetErrorStr() != test.text || got.finished.GetErrorCode() != 502 || !got.finished.GetErrorUser() || got.start != nil {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestRequestsOverTheLimitAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		pieces []*runnerpb.ClientMsg
		code   int32
	}{
		"at the limit":             {[]*runnerpb.ClientMsg{dataOf("1234", true)}, 0},
		"above it":                 {[]*runnerpb.ClientMsg{dataOf("12345", true)}, 413},
		"at the limit, in pieces":  {[]*runnerpb.ClientMsg{dataOf("12", false), dataOf("34", true)}, 0},
		"above the limit, in them": {[]*runnerpb.ClientMsg{dataOf("123", false), dataOf("45", true)}, 413},
	} {
		_, address := serve(t, ServerOptions{Invoker: echo, MaxRequestBytes: 4})
		got := engage(t.Context(), t, address, append([]*runnerpb.ClientMsg{tryOf(fnModel)}, test.pieces...)...)
		if got.finished.GetErrorCode() != test.code || got.finished.GetSuccess() != (test.code == 0) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// A request is complete when its last byte has come, also if the frame that says so
// is still under way.
func TestRequestOfKnownLengthIsCompleteWithItsLastByte(t *testing.T) {
	length := gatherBytes + 2
	_, address := serve(t, ServerOptions{Invoker: invoke.InvokerFunc(func(_ context.Context, call *invoke.Call) (*invoke.Response, error) {
		if _, err := io.ReadFull(call.Body, make([]byte, length)); err != nil {
			return nil, err
		}
		return &invoke.Response{Header: http.Header{}, Body: invoke.HoldBody(nil)}, nil
	})})
	try := tryOf(strings.Replace(fnModel, `"X-Two"`, fmt.Sprintf(`"Content-Length":["%d"],"X-Two"`, length), 1))
	got := engage(t.Context(), t, address, try, dataOf(strings.Repeat("x", length-1), false), dataOf("x", false))
	if !got.finished.GetSuccess() {
		t.Errorf("got %+v", got)
	}
}

func TestDetachedCallIsAcknowledgedWhenItBegins(t *testing.T) {
	begin, end := make(chan struct{}), make(chan struct{})
	_, address := serve(t, ServerOptions{Detached: true, Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
		<-begin
		call.OnStart()
		<-end
		return echo(ctx, call)
	})})
	stream, err := peer(t, address).Engage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stream.Send(tryOf(strings.Replace(fnModel, `"type":"sync"`, `"type":"detached"`, 1)))
	stream.Send(dataOf("dropped", true))
	close(begin)
	first, err := stream.Recv()
	if err != nil || first.GetResultStart().GetHttp().GetStatusCode() != 202 {
		t.Fatalf("got %v, %v", first, err)
	}
	close(end)
	if got := receiveAll(t, stream); got.body != "" || !got.finished.GetSuccess() {
		t.Errorf("got %+v", got)
	}
}

func TestLoadBalancerThatLeavesCancelsItsCall(t *testing.T) {
	for name, leave := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"cancelled": context.WithCancel,
		"deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 50*time.Millisecond)
		},
	} {
		invoked, ended := make(chan struct{}), make(chan error, 1)
		_, address := serve(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
			close(invoked)
			<-ctx.Done()
			_, err := io.ReadAll(call.Body)
			ended <- err
			return nil, ctx.Err()
		})})
		ctx, cancel := leave(t.Context())
		stream, err := peer(t, address).Engage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		stream.Send(tryOf(fnModel))
		stream.Send(dataOf("x", false))
		<-invoked
		if name == "cancelled" {
			cancel()
		}
		if err := <-ended; !errors.Is(err, model.ErrClientCanceled) {
			t.Errorf("%s: the request ended with %v", name, err)
		}
		cancel()
	}
}

func TestPanicEndsOneCallOnly(t *testing.T) {
	_, address := serve(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
		if call.ID == "call-1" {
			panic("of the test")
		}
		return echo(ctx, call)
	})})
	if got := engage(t.Context(), t, address, tryOf(fnModel), dataOf("x", false)); status.Code(got.err) != codes.Internal {
		t.Errorf("got %+v", got)
	}
	if got := engage(t.Context(), t, address, tryOf(strings.Replace(fnModel, "call-1", "call-2", 1)), dataOf("x", true)); got.body != "x" {
		t.Errorf("got %+v", got)
	}
}

func TestStoppingRunnerFinishesCallsAndRefusesOthers(t *testing.T) {
	invoked, end := make(chan struct{}), make(chan struct{})
	server, address := serve(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
		close(invoked)
		<-end
		return echo(ctx, call)
	})})
	rpc := peer(t, address)
	stream, err := rpc.Engage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	late, err := rpc.Engage(t.Context()) // its stream is there, its try is not
	if err != nil {
		t.Fatal(err)
	}
	stream.Send(tryOf(fnModel))
	stream.Send(dataOf("x", true))
	<-invoked
	stopped := make(chan error, 1)
	go func() { stopped <- server.Stop(t.Context()) }()
	<-server.draining.Done()
	late.Send(tryOf(fnModel))
	late.Send(dataOf("x", true))
	if got := receiveAll(t, late); got.finished.GetErrorCode() != 503 && status.Code(got.err) != codes.Unavailable {
		t.Errorf("late: got %+v", got)
	}
	close(end)
	if got := receiveAll(t, stream); got.body != "x" || !got.finished.GetSuccess() {
		t.Errorf("got %+v", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// frozen is a load balancer that has connected and says nothing more.
func frozen(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	framer := http2.NewFramer(conn, conn)
	_, err = io.WriteString(conn, http2.ClientPreface)
	if err = errors.Join(err, framer.WriteSettings()); err != nil {
		t.Fatal(err)
	}
	for { // until the server has taken it in
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if settings, ok := frame.(*http2.SettingsFrame); ok && settings.IsAck() {
			return conn
		}
	}
}

func TestFrozenLoadBalancersDoNotKeepARunnerFromStopping(t *testing.T) {
	server, address := serve(t, ServerOptions{Invoker: echo})
	server.linger = time.Millisecond
	frozen(t, address)
	if _, err := peer(t, address).Engage(t.Context()); err != nil { // and one without a try
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := server.Stop(ctx); err != nil || ctx.Err() != nil {
		t.Error(err, ctx.Err())
	}
}

// stopWithWaitingAnswer stops a runner of which the handler of a call has returned while
// the end of the answer waits for the load balancer, which reads nothing yet.
func stopWithWaitingAnswer(ctx context.Context, t *testing.T) (size int, response *invoke.Response, stopped <-chan error) {
	t.Helper()
	size = streamWindow + 50<<10 // less of it waits than gRPC takes from a handler at a time
	server, address := start(t, "127.0.0.1:0", ServerOptions{Invoker: invoke.InvokerFunc(func(context.Context, *invoke.Call) (*invoke.Response, error) {
		return &invoke.Response{Header: http.Header{}, Body: invoke.HoldBody(make([]byte, size)), ContentLength: int64(size), Timing: &invoke.Timing{}}, nil
	})})
	server.linger = time.Millisecond
	client := dial(t, address, ClientOptions{DirectConnections: -1})
	response, err := client.Invoke(within(t), newCall("x"))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); server.count() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the handler has not returned")
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Stop(ctx) }()
	await(t, server.draining.Done(), "the stop")
	return size, response, ended
}

func TestStopLetsSlowLoadBalancersTakeTheEndOfAnswers(t *testing.T) {
	size, response, stopped := stopWithWaitingAnswer(within(t), t)
	select {
	case err := <-stopped:
		t.Errorf("it has not waited for the answer: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if got := read(t, response, nil); len(got) != size {
		t.Errorf("got %d bytes of %d", len(got), size)
	}
	if err := await(t, stopped, "the stop's end"); err != nil {
		t.Error(err)
	}
}

func TestStopTellsOfAnswersThatItCutsAtItsDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, response, stopped := stopWithWaitingAnswer(ctx, t)
	defer response.Body.Close()
	if err := await(t, stopped, "the stop's end"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 load balancers") {
		t.Errorf("got %v", err)
	}
	if _, err := io.ReadAll(response.Body); err == nil {
		t.Error("the answer that was cut looks whole")
	}
}

func TestStopCutsCallsAtItsDeadline(t *testing.T) {
	invoked := make(chan struct{})
	server, address := serve(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, _ *invoke.Call) (*invoke.Response, error) {
		close(invoked)
		<-ctx.Done()
		return nil, ctx.Err()
	})})
	stream, err := peer(t, address).Engage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stream.Send(tryOf(fnModel))
	stream.Send(dataOf("x", false))
	<-invoked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := server.Stop(ctx); err == nil || !strings.Contains(err.Error(), "1 calls") {
		t.Errorf("got %v", err)
	}
}

func TestConfigureRunnerReachesItsHandler(t *testing.T) {
	var got map[string]string
	_, address := serve(t, ServerOptions{Invoker: echo, Configure: func(_ context.Context, config map[string]string) error {
		got = config
		return nil
	}})
	message := &runnerpb.ConfigMsg{Config: map[string]string{"k": "v"}}
	if _, err := peer(t, address).ConfigureRunner(t.Context(), message); err != nil || got["k"] != "v" {
		t.Errorf("got %v, %v", got, err)
	}
	_, address = serve(t, ServerOptions{Invoker: echo})
	if _, err := peer(t, address).ConfigureRunner(t.Context(), message); err != nil {
		t.Error(err)
	}
}
