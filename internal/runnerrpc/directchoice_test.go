package runnerrpc

import (
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/tinefn/tine/internal/runnerrpc/direct"
	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
	"github.com/tinefn/tine/invoke"
)

func TestCallsBeyondTheLimitGoOverGRPC(t *testing.T) {
	const limit, at = 2, 6
	var waiting sync.WaitGroup
	gate := make(chan struct{})
	seen := &waysSeen{Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
		if call.Slot == "waits" {
			waiting.Done()
			<-gate
		}
		return echo(ctx, call)
	})}
	_, address := serve(t, ServerOptions{Invoker: seen})
	client := dialDirect(t, address, ClientOptions{DirectConnections: limit})
	ctx := within(t)
	waiting.Add(at)
	results := make(chan string, at)
	for i := range at {
		go func() {
			call := newCall(strings.Repeat("x", i+1))
			call.Slot = "waits"
			response, err := client.Invoke(ctx, call)
			if err != nil {
				results <- err.Error()
				return
			}
			text, _ := io.ReadAll(response.Body)
			response.Body.Close()
			results <- string(text)
		}()
	}
	waiting.Wait() // all are at the runner at one time
	close(gate)
	var got []string
	for range at {
		got = append(got, await(t, results, "an answer"))
	}
	slices.Sort(got)
	if text := strings.Join(got, " "); text != "x xx xxx xxxx xxxxx xxxxxx" {
		t.Errorf("got %s", text)
	}
	if over, directly := seen.grpc.Load(), seen.direct.Load(); over != at-limit || directly != limit {
		t.Errorf("%d went over gRPC, %d directly", over, directly)
	}
	for range 10 { // their connections are used again
		works(ctx, t, client)
	}
	if over := seen.grpc.Load(); over != at-limit {
		t.Errorf("%d went over gRPC", over)
	}
}

// accepting counts connections.
type accepting struct {
	net.Listener
	count atomic.Int32
}

func (a *accepting) Accept() (net.Conn, error) {
	conn, err := a.Listener.Accept()
	if err == nil {
		a.count.Add(1)
	}
	return conn, err
}

// A runner of Fn gets what it would get from a load balancer of Fn, and one key more now and
// then.
func TestRunnerThatDoesNotTakeTheOfferIsNotCalledDirectly(t *testing.T) {
	for name, offer := range map[string]string{"of Fn": "", "of a later version": "2"} {
		keys := make(chan metadata.MD, 1)
		server := grpc.NewServer()
		runnerpb.RegisterRunnerProtocolServer(server, &scripted{engage: func(stream engageStream) error {
			got, _ := metadata.FromIncomingContext(stream.Context())
			keys <- got
			if offer != "" {
				stream.SetHeader(metadata.Pairs(direct.MetadataKey, offer))
			}
			return answering(startOf("Content-Length", "1"), pieceOf("x"), endOf(success))(stream)
		}})
		listener := &accepting{Listener: listen(t)}
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(listener) }()
		client, plain := dial(t, listener.Addr().String(), ClientOptions{}), dial(t, listener.Addr().String(), ClientOptions{DirectConnections: -1})
		ask := func(client *Client) metadata.MD {
			response, err := client.Invoke(within(t), newCall("x"))
			if got := read(t, response, err); got != "x" {
				t.Errorf("%s: got %q", name, got)
			}
			return <-keys
		}
		want := ask(plain)
		for i := range 5 { // each answer might make it try
			got := ask(client)
			if offered := got.Get(direct.MetadataKey); i == 0 && !slices.Equal(offered, []string{direct.Offer}) || i > 0 && len(offered) > 0 {
				t.Errorf("%s: call %d: it is offered %q", name, i, offered)
			}
			delete(got, direct.MetadataKey)
			for key := range got {
				if want[key] == nil {
					t.Errorf("%s: %s is sent too", name, key)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%s: got %v, want %v", name, got, want)
			}
		}
		if stream := client.direct.Open(t.Context()); stream != nil || client.direct.Wanted() {
			t.Errorf("%s: it is called directly", name)
		}
		if count := listener.count.Load(); count != 2 {
			t.Errorf("%s: it got %d connections of two clients", name, count)
		}
		server.Stop()
		<-ended
	}
}

// What a load balancer without the offer gets must be as Fn's runners send it.
func TestRunnerSaysNothingOfItselfUnasked(t *testing.T) {
	_, address := serve(t, ServerOptions{Invoker: echo})
	for offer, want := range map[string]int{"": 0, "0": 0, direct.Offer: 1} {
		ctx := within(t)
		if offer != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, direct.MetadataKey, offer)
		}
		stream, err := peer(t, address).Engage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		stream.Send(tryOf(fnModel))
		stream.Send(dataOf("x", true))
		if got := receiveAll(t, stream); got.body != "x" {
			t.Errorf("got %+v", got)
		}
		header, err := stream.Header()
		if got := header.Get(direct.MetadataKey); len(got) != want || err != nil {
			t.Errorf("%q is answered with %q, %v", offer, got, err)
		}
	}
}

// start runs a server at an address, which may be one of a server that has ended.
func start(t *testing.T, address string, opts ServerOptions) (server *Server, at string) {
	t.Helper()
	listener, err := newListener(address)
	if err != nil {
		t.Skipf("the port was taken meanwhile: %v", err)
	}
	if server, err = NewServer(opts); err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	t.Cleanup(func() { server.Stop(context.Background()) }) // which may have been before
	return server, listener.Addr().String()
}

func TestRunnerThatRestartsIsCalledDirectlyAgain(t *testing.T) {
	seen := &waysSeen{Invoker: echo}
	server, address := start(t, ownAddress(), ServerOptions{Invoker: seen})
	client := dialDirect(t, address, ClientOptions{})
	for _, gracefully := range []bool{true, false, true} {
		over, directly := seen.grpc.Load(), seen.direct.Load()
		works(within(t), t, client)
		if seen.grpc.Load() != over || seen.direct.Load() == directly {
			t.Error("it is not called directly")
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if !gracefully {
			cancel()
		}
		server.linger = time.Hour // a client that is well is not waited for
		if err := server.Stop(ctx); gracefully && (err != nil || ctx.Err() != nil) {
			t.Errorf("got %v, %v", err, ctx.Err())
		}
		cancel()
		server, _ = start(t, address, ServerOptions{Invoker: seen})
		awaitDirect(t, client)
	}
	works(within(t), t, client)
}
