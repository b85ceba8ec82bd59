package runnerrpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

func startOf(headers ...string) *runnerpb.RunnerMsg {
	meta := &runnerpb.HttpRespMeta{StatusCode: 200}
	for i := 0; i < len(headers); i += 2 {
		meta.Headers = append(meta.Headers, &runnerpb.HttpHeader{Key: headers[i], Value: headers[i+1]})
	}
	return &runnerpb.RunnerMsg{Body: &runnerpb.RunnerMsg_ResultStart{ResultStart: &runnerpb.CallResultStart{Meta: &runnerpb.CallResultStart_Http{Http: meta}}}}
}

func pieceOf(text string) *runnerpb.RunnerMsg {
	return &runnerpb.RunnerMsg{Body: &runnerpb.RunnerMsg_Data{Data: &runnerpb.DataFrame{Data: []byte(text)}}}
}

func endOf(f *runnerpb.CallFinished) *runnerpb.RunnerMsg {
	return &runnerpb.RunnerMsg{Body: &runnerpb.RunnerMsg_Finished{Finished: f}}
}

var success = &runnerpb.CallFinished{Success: true}

// takeAll receives a request to its end.
func takeAll(stream engageStream) (try *runnerpb.TryCall, frames []*runnerpb.DataFrame, err error) {
	for {
		message, err := stream.Recv()
		if err != nil {
			return try, frames, err
		}
		if try == nil {
			if try = message.GetTry(); try == nil {
				return nil, nil, fmt.Errorf("%v came first", message)
			}
			continue
		}
		if message.GetData() == nil {
			return nil, nil, fmt.Errorf("%v came after the try", message)
		}
		if frames = append(frames, message.GetData()); message.GetData().GetEof() {
			return try, frames, nil
		}
	}
}

// answering is a runner that takes a request and sends messages.
func answering(messages ...*runnerpb.RunnerMsg) func(engageStream) error {
	return func(stream engageStream) error {
		if _, _, err := takeAll(stream); err != nil {
			return err
		}
		for _, message := range messages {
			if err := stream.Send(message); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestLoadBalancerAsksARunnerOfFn(t *testing.T) {
	type request struct {
		try    *runnerpb.TryCall
		frames []*runnerpb.DataFrame
		rid    []string
	}
	requests := make(chan request, 1)
	address := script(t, func(stream engageStream) error {
		try, frames, err := takeAll(stream)
		if err != nil {
			return err
		}
		requests <- request{try, frames, metadata.ValueFromIncomingContext(stream.Context(), "fn_request_id")}
		// The stream must be open until the end of the call.
		more := make(chan error, 1)
		go func() { _, err := stream.Recv(); more <- err }()
		for _, message := range []*runnerpb.RunnerMsg{startOf("content-type", "text/x", "X-A", "1", "X-A", "2"), pieceOf("hel"), pieceOf(""), pieceOf("lo")} {
			if err := stream.Send(message); err != nil {
				return err
			}
		}
		select {
		case err := <-more:
			return fmt.Errorf("the request went on: %w", err)
		default:
		}
		return stream.Send(endOf(&runnerpb.CallFinished{Success: true, SchedulerDuration: 5, ExecutionDuration: int64(time.Hour), ImagePullWaitDuration: 1, CtrPrepDuration: 2, CtrCreateDuration: 30, InitStartTime: 400}))
	})
	client := dial(t, address, ClientOptions{})
	text := strings.Repeat("0123456789", 2500)
	call := newCall(text)
	call.ID, call.Slot, call.Extensions = "call-1", "abcd", map[string]string{"k": "v"}
	call.Trigger = &model.Trigger{ID: "trigger-id"}
	call.Header = http.Header{"X-Two": {"1", "2"}, "Fn-Http-Method": {"PUT"}, "Fn-Http-Request-Url": {"/t/app/a?b=c"}}
	call.Container = invoke.Container{TmpMiB: 7, MilliCPU: 250}
	started := 0
	call.OnStart = func() { started++ }
	response, err := client.Invoke(edge.WithRequestID(t.Context(), "rid"), call)
	if got := read(t, response, err); got != "hello" || response.Header.Get("Content-Type") != "text/x" || len(response.Header["X-A"]) != 2 || response.ContentLength != -1 {
		t.Errorf("got %q with %v", got, response.Header)
	}
	if started != 1 {
		t.Errorf("it has begun %d times", started)
	}
	if tm := response.Timing; !tm.Cold || tm.Queued != 5 || tm.Image != 1 || tm.Create != 32 || tm.Init != 400 || tm.Execution() != time.Hour || tm.Total <= 0 {
		t.Errorf("got %+v", *response.Timing)
	}

	got := <-requests
	if got.try.GetSlotHashId() != "abcd" || got.try.GetExtensions()["k"] != "v" || len(got.rid) != 1 || got.rid[0] != "rid" {
		t.Errorf("got %v, %q", got.try, got.rid)
	}
	body := ""
	for i, frame := range got.frames {
		body += string(frame.GetData())
		if len(frame.GetData()) > 10_240 || frame.GetEof() != (i == len(got.frames)-1) {
			t.Errorf("frame %d is of %d bytes, %v", i, len(frame.GetData()), frame.GetEof())
		}
	}
	if body != text {
		t.Errorf("the body is of %d bytes", len(body))
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(got.try.GetModelsCallJson()), &m); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"id": "call-1", "status": "running", "image": "example/image:1", "type": "sync", "timeout": 30.0, "idle_timeout": 40.0, "memory": 128.0,
		"tmpfs_size": 7.0, "cpus": "250m", "url": "http://localhost/t/app/a?b=c", "method": "PUT", "syslog_url": "tcp://logs:514",
		"app_id": "app-id", "app_name": "app", "trigger_id": "trigger-id", "fn_id": "fn-id",
	} {
		if m[key] != want {
			t.Errorf("%s is %v, want %v", key, m[key], want)
		}
	}
	if got := fmt.Sprint(m["config"]); got != "map[A:app BOTH:fn F:fn FN_APP_ID:app-id FN_FN_ID:fn-id FN_MEMORY:128 FN_TYPE:sync]" {
		t.Errorf("config %s", got)
	}
	if got := fmt.Sprint(m["annotations"], m["headers"].(map[string]any)["X-Two"]); got != "map[k:v] [1 2]" {
		t.Errorf("got %s", got)
	}
	for _, key := range []string{"created_at", "started_at", "completed_at"} {
		if _, err := time.Parse("2006-01-02T15:04:05.000Z", fmt.Sprint(m[key])); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestAnswersInAllTheirForms(t *testing.T) {
	for name, test := range map[string]struct {
		messages []*runnerpb.RunnerMsg
		body     string
		held     bool
	}{
		"only an end":     {[]*runnerpb.RunnerMsg{endOf(success)}, "", true},
		"no beginning":    {[]*runnerpb.RunnerMsg{pieceOf("a"), pieceOf("b"), endOf(success)}, "ab", false},
		"no meta":         {[]*runnerpb.RunnerMsg{{Body: &runnerpb.RunnerMsg_ResultStart{}}, pieceOf("a"), endOf(success)}, "a", false},
		"known length":    {[]*runnerpb.RunnerMsg{startOf("content-length", "2"), pieceOf("a"), pieceOf("b"), endOf(success)}, "ab", true},
		"length is a lie": {[]*runnerpb.RunnerMsg{startOf("Content-Length", "x"), pieceOf("ab"), endOf(success)}, "ab", false},
		"nothing":         {[]*runnerpb.RunnerMsg{startOf("Content-Length", "0"), endOf(success)}, "", true},
	} {
		client := dial(t, script(t, answering(test.messages...)), ClientOptions{})
		response, err := client.Invoke(t.Context(), newCall("x"))
		if got := read(t, response, err); got != test.body {
			t.Errorf("%s: got %q", name, got)
		}
		if _, held := response.Body.(*invoke.HeldBody); held != test.held {
			t.Errorf("%s: it is in memory: %v", name, held)
		}
	}
}

func TestErrorsOfARunnerAreThoseOfTheCall(t *testing.T) {
	failed := func(code int32, text string, user bool) func(engageStream) error {
		return answering(endOf(&runnerpb.CallFinished{ErrorCode: code, ErrorStr: text, ErrorUser: user}))
	}
	late := func(messages ...*runnerpb.RunnerMsg) func(engageStream) error {
		return answering(append(messages, endOf(&runnerpb.CallFinished{ErrorCode: 504, ErrorStr: "Timed out", ErrorUser: true}))...)
	}
	losing := func(messages ...*runnerpb.RunnerMsg) func(engageStream) error {
		return func(stream engageStream) error {
			return errors.Join(answering(messages...)(stream), status.Error(codes.Unavailable, "gone"))
		}
	}
	for name, test := range map[string]struct {
		engage   func(engageStream) error
		status   int
		text     string
		user     bool
		unplaced bool
	}{
		"of the function":        {failed(502, "function failed", true), 502, "function failed", true, false},
		"of the platform":        {failed(400, "Invalid Fn image", false), 400, "Invalid Fn image", false, false},
		"of its own":             {failed(450, "custom", false), 450, "custom", false, false},
		"not for clients":        {failed(0, "secret", false), 500, "internal server error", false, false},
		"busy":                   {failed(503, "no room", false), 503, "no room", false, true},
		"busy by status":         {func(engageStream) error { return status.Error(codes.Code(503), "no try") }, 503, "Timed out - server too busy", false, true},
		"late and short":         {late(startOf("Content-Length", "2"), pieceOf("a")), 504, "Timed out", true, false},
		"lost":                   {losing(), 500, "internal server error", false, false},
		"lost after a part":      {losing(startOf("Content-Length", "2")), 500, "internal server error", false, false},
		"no end":                 {answering(), 500, "internal server error", false, false},
		"two beginnings":         {answering(startOf("Content-Length", "2"), startOf(), endOf(success)), 500, "internal server error", false, false},
		"empty message":          {answering(&runnerpb.RunnerMsg{}), 500, "internal server error", false, false},
		"more after the end":     {answering(endOf(success), pieceOf("x")), 500, "internal server error", false, false},
		"longer than it says":    {answering(startOf("Content-Length", "2"), pieceOf("abc"), endOf(success)), 500, "internal server error", false, false},
		"shorter than it says":   {answering(startOf("Content-Length", "2"), pieceOf("a"), endOf(success)), 502, "error receiving function response", true, false},
		"client of the runner's": {failed(444, "Client cancelled context", false), 500, "internal server error", false, false},
	} {
		client := dial(t, script(t, test.engage), ClientOptions{})
		response, err := client.Invoke(t.Context(), newCall("x"))
		if err == nil {
			t.Errorf("%s: got %+v", name, response)
			response.Body.Close()
			continue
		}
		d := model.Describe(err)
		if d.Status != test.status || d.Text != test.text || d.User != test.user || errors.Is(err, invoke.ErrNotPlaced) != test.unplaced {
			t.Errorf("%s: got %+v of %v", name, d, err)
		}
		if test.unplaced != errors.Is(err, model.ErrServerBusy) {
			t.Errorf("%s: busy or not: %v", name, err)
		}
	}
}

// Without having got the try, a runner that is not there has not executed it; but what
// has answered has got it, whatever became of sending.
func TestAnswerProvesThatTheTryHasArrived(t *testing.T) {
	gone := status.Error(codes.Unavailable, "gone")
	for _, test := range []struct {
		engage   func(engageStream) error
		unplaced bool
	}{
		{func(engageStream) error { return gone }, true},
		{func(stream engageStream) error { stream.Send(startOf()); stream.Send(pieceOf("x")); return gone }, false},
	} {
		client := dial(t, script(t, test.engage), ClientOptions{})
		for range 20 { // sending the try wins or loses against the end of the stream
			response, err := client.Invoke(t.Context(), newCall("x"))
			if err == nil {
				_, err = io.ReadAll(response.Body)
				response.Body.Close()
			}
			if err == nil || !test.unplaced && errors.Is(err, invoke.ErrNotPlaced) {
				t.Fatalf("got %v", err)
			}
		}
	}
}

func TestLateFailureCutsALongAnswer(t *testing.T) {
	client := dial(t, script(t, answering(startOf(), pieceOf("part"), endOf(&runnerpb.CallFinished{ErrorCode: 504, ErrorStr: "Timed out", ErrorUser: true}))), ClientOptions{})
	response, err := client.Invoke(t.Context(), newCall(""))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if string(text) != "part" || !errors.Is(err, model.ErrCallTimeout) {
		t.Errorf("got %q, %v", text, err)
	}
	response.Body.Close()
}

func TestRunnerThatCannotBeReachedHasNotExecutedTheCall(t *testing.T) {
	listener := listenAt(t, ownAddress())
	address := listener.Addr().String()
	listener.Close()
	client := dial(t, address, ClientOptions{})
	read := false
	call := streamed(readerFunc(func([]byte) (int, error) { read = true; return 0, io.EOF }))
	_, err := client.Invoke(t.Context(), call)
	if !errors.Is(err, invoke.ErrNotPlaced) || errors.Is(err, model.ErrServerBusy) || read {
		t.Errorf("got %v, the body was read: %v", err, read)
	}
	if err := client.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := client.Invoke(t.Context(), newCall("")); !errors.Is(err, invoke.ErrNotPlaced) {
		t.Errorf("closed: got %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestRunnerThatComesBackIsUsedAgain(t *testing.T) {
	listener := listenAt(t, ownAddress())
	address := listener.Addr().String()
	listener.Close()
	client := dial(t, address, ClientOptions{})
	if _, err := client.Invoke(t.Context(), newCall("")); !errors.Is(err, invoke.ErrNotPlaced) {
		t.Fatal(err)
	}
	listener, err := newListener(address)
	if err != nil {
		t.Skipf("the port was taken meanwhile: %v", err)
	}
	server, err := NewServer(ServerOptions{Invoker: echo})
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	defer server.Stop(context.Background())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		response, err := client.Invoke(ctx, newCall("x"))
		if err == nil {
			response.Body.Close()
			return
		}
		if !errors.Is(err, invoke.ErrNotPlaced) || ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func TestCallerWhoLeavesCancelsTheCallOnTheRunner(t *testing.T) {
	for name, test := range map[string]struct {
		leave func(context.Context) (context.Context, context.CancelFunc)
		want  model.Kind
	}{
		"cancelled": {context.WithCancel, model.ErrClientCanceled},
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 50*time.Millisecond)
		}, model.ErrReservation},
	} {
		took, ended := make(chan struct{}), make(chan struct{})
		client := dial(t, script(t, func(stream engageStream) error {
			_, _, err := takeAll(stream)
			close(took)
			<-stream.Context().Done()
			close(ended)
			return errors.Join(err, stream.Context().Err())
		}), ClientOptions{})
		ctx, cancel := test.leave(t.Context())
		go func() {
			<-took
			if name == "cancelled" {
				cancel()
			}
		}()
		_, err := client.Invoke(ctx, newCall("x"))
		if d := model.Describe(err); d.Kind != test.want || errors.Is(err, invoke.ErrNotPlaced) {
			t.Errorf("%s: got %v", name, err)
		}
		<-ended
		cancel()
	}
}

func TestRequestThatBreaksIsNotTakenForAWhole(t *testing.T) {
	ended := make(chan error, 1)
	client := dial(t, script(t, func(stream engageStream) error {
		_, _, err := takeAll(stream)
		ended <- err
		return err
	}), ClientOptions{})
	for cause, want := range map[error]model.Kind{model.ErrRequestTooLarge: model.ErrRequestTooLarge, io.ErrUnexpectedEOF: model.ErrClientCanceled} {
		_, err := client.Invoke(t.Context(), streamed(io.MultiReader(strings.NewReader("part"), &failingReader{cause})))
		if model.Describe(err).Kind != want {
			t.Errorf("got %v", err)
		}
		if err := <-ended; status.Code(err) != codes.Canceled {
			t.Errorf("the runner got %v", err)
		}
	}
}

func TestAnswerThatNobodyReadsCancelsTheCall(t *testing.T) {
	ended := make(chan struct{})
	client := dial(t, script(t, func(stream engageStream) error {
		defer close(ended)
		for err := stream.Send(startOf()); err == nil; {
			err = stream.Send(pieceOf(strings.Repeat("x", MaxFrameBytes)))
		}
		return nil
	}), ClientOptions{})
	response, err := client.Invoke(t.Context(), newCall(""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(response.Body, make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	<-ended
	if _, err := response.Body.Read(make([]byte, 1)); !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("got %v", err)
	}
}

// A runner that has said no does not want the rest of the request, and the sender of
// a body that does not come must not hold the call.
func TestRefusalDoesNotWaitForTheRequest(t *testing.T) {
	client := dial(t, script(t, func(stream engageStream) error {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		return stream.Send(endOf(&runnerpb.CallFinished{ErrorCode: 503, ErrorStr: "no room"}))
	}), ClientOptions{})
	body, end := io.Pipe()
	defer end.Close()
	call := newCall("")
	call.Body, call.ContentLength = body, -1
	if _, err := client.Invoke(t.Context(), call); !errors.Is(err, invoke.ErrNotPlaced) {
		t.Errorf("got %v", err)
	}
	if _, err := end.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the body is still read: %v", err)
	}
	// The same with a body in memory that is larger than what may be under way.
	if _, err := client.Invoke(t.Context(), newCall(strings.Repeat("x", 4*connectionWindow))); !errors.Is(err, invoke.ErrNotPlaced) {
		t.Errorf("got %v", err)
	}
}

func TestDetachedCallTellsItsBeginningBeforeItsEnd(t *testing.T) {
	end := make(chan struct{})
	var detached bool
	_, address := serve(t, ServerOptions{Detached: true, Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
		detached = call.Detached
		call.OnStart()
		<-end
		return nil, model.ErrFunctionFailed
	})})
	client := dial(t, address, ClientOptions{})
	call := newCall("x")
	started := make(chan struct{})
	call.Detached, call.OnStart = true, func() { close(started) }
	response, err := client.Invoke(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	<-started
	close(end)
	if text, err := io.ReadAll(response.Body); len(text) > 0 || !errors.Is(err, model.ErrFunctionFailed) || !detached {
		t.Errorf("got %q, %v", text, err)
	}
	response.Body.Close()
}

func TestCallThatIsTooLargeIsNotSent(t *testing.T) {
	_, address := serve(t, ServerOptions{Invoker: echo})
	client := dial(t, address, ClientOptions{Connection: Connection{MaxMessageBytes: 100_000}})
	call := newCall("x")
	call.Header.Set("X-Large", strings.Repeat("x", 100_000))
	if _, err := client.Invoke(t.Context(), call); err == nil || errors.Is(err, invoke.ErrNotPlaced) || !strings.Contains(err.Error(), "FN_GRPC_MAX_MESSAGE_SIZE") {
		t.Errorf("got %v", err)
	}
}

func TestClosingLetsCallsFinish(t *testing.T) {
	end := make(chan struct{})
	_, address := serve(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
		<-end
		return echo(ctx, call)
	})})
	client := dial(t, address, ClientOptions{})
	type result struct {
		response *invoke.Response
		err      error
	}
	results := make(chan result, 1)
	go func() {
		response, err := client.Invoke(context.Background(), newCall("x"))
		results <- result{response, err}
	}()
	for { // until it is in progress
		client.mu.Lock()
		calls := client.calls
		client.mu.Unlock()
		if calls == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	closed := make(chan error, 1)
	go func() { closed <- client.Close(context.Background()) }()
	for {
		client.mu.Lock()
		isClosed := client.closed
		client.mu.Unlock()
		if isClosed {
			break
		}
		time.Sleep(time.Millisecond)
	}
	close(end)
	got := <-results
	if text := read(t, got.response, got.err); text != "x" {
		t.Errorf("got %q", text)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
