package runnerrpc

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// patience is for what must happen and has no time of its own.
const patience = 20 * time.Second

func newListener(address string) (net.Listener, error) { return net.Listen("tcp", address) }

// ownAddress is where a test listens that closes the port and needs it, or needs it
// closed, afterwards: at a loopback address of this process's own, as at the usual one
// other processes get ports that are free for a moment.
func ownAddress() string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d:0", 64+pid>>16&63, pid>>8&255, pid&255)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	return listenAt(t, "127.0.0.1:0")
}

func listenAt(t testing.TB, address string) net.Listener {
	t.Helper()
	listener, err := newListener(address)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// serve runs a server until the test ends.
func serve(t testing.TB, opts ServerOptions) (*Server, string) {
	t.Helper()
	server, err := NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	listener := listen(t)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return server, listener.Addr().String()
}

// dial connects a client until the test ends.
func dial(t testing.TB, address string, opts ClientOptions) *Client {
	t.Helper()
	client, err := Dial(address, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := client.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return client
}

// peer is the other side of a server, written directly on the generated code.
func peer(t testing.TB, address string) runnerpb.RunnerProtocolClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return runnerpb.NewRunnerProtocolClient(conn)
}

// engageStream is a runner's side of a call.
type engageStream = grpc.BidiStreamingServer[runnerpb.ClientMsg, runnerpb.RunnerMsg]

// scripted is the other side of a client: a runner whose Engage is a function.
type scripted struct {
	runnerpb.UnimplementedRunnerProtocolServer
	engage func(engageStream) error
}

func (s *scripted) Engage(stream engageStream) error {
	return s.engage(stream)
}

// script runs such a runner and returns its address.
func script(t testing.TB, engage func(engageStream) error) string {
	t.Helper()
	server := grpc.NewServer()
	runnerpb.RegisterRunnerProtocolServer(server, &scripted{engage: engage})
	listener := listen(t)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-ended
	})
	return listener.Addr().String()
}

var (
	testApp = &model.App{ID: "app-id", Name: "app", Config: model.Config{"A": "app", "BOTH": "app"}, SyslogURL: new("tcp://logs:514")}
	testFn  = &model.Fn{
		ID: "fn-id", Name: "fn", AppID: "app-id", Image: "example/image:1", Memory: 128, Timeout: 30, IdleTimeout: 40,
		Config: model.Config{"F": "fn", "BOTH": "fn"}, Annotations: model.Annotations{"k": []byte(`"v"`)},
	}
)

// newCall is a call with a body in memory.
func newCall(body string) *invoke.Call {
	call := &invoke.Call{
		ID: model.NewID(), App: testApp, Fn: testFn, Header: http.Header{"Content-Type": {"text/plain"}}, Body: http.NoBody,
	}
	if body != "" {
		call.Body, call.ContentLength = invoke.HoldBody([]byte(body)), int64(len(body))
	}
	return call
}

// streamed is a call whose body is read from r, of unknown length.
func streamed(r io.Reader) *invoke.Call {
	call := newCall("")
	call.Body, call.ContentLength = io.NopCloser(r), -1
	return call
}

// echo answers with the request's body, in the form that it came in.
var echo = invoke.InvokerFunc(func(_ context.Context, call *invoke.Call) (*invoke.Response, error) {
	if call.OnStart != nil {
		call.OnStart()
	}
	response := &invoke.Response{Header: http.Header{"Content-Type": call.Header["Content-Type"]}, Timing: &invoke.Timing{}}
	if held, ok := call.Body.(*invoke.HeldBody); ok {
		response.Body, response.ContentLength = invoke.HoldBody(held.Bytes()), int64(len(held.Bytes()))
		return response, nil
	}
	text, err := io.ReadAll(call.Body)
	if err != nil {
		return nil, err
	}
	response.Body, response.ContentLength = io.NopCloser(strings.NewReader(string(text))), int64(len(text))
	return response, nil
})

// read reads an answer to its end.
func read(t testing.TB, response *invoke.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return string(text)
}
