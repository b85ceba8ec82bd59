package runnerrpc

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	grpcpeer "google.golang.org/grpc/peer"

	"github.com/tinefn/tine/invoke"
)

// way is how calls get from a load balancer to a runner.
type way struct {
	name           string
	direct         bool
	server, client Connection
}

// eachWay runs a test over each way.
func eachWay(t *testing.T, test func(*testing.T, way)) {
	t.Helper()
	ca := newAuthority(t)
	cert, key := ca.issue("runner")
	serverTLS, err := ServerTLS(cert, key, "")
	if err != nil {
		t.Fatal(err)
	}
	clientTLS, err := ClientTLS(ca.file, "", "", "runner")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []way{
		{name: "grpc"},
		{name: "direct", direct: true},
		{name: "direct with TLS", direct: true, server: Connection{TLS: serverTLS}, client: Connection{TLS: clientTLS}},
	} {
		t.Run(w.name, func(t *testing.T) { test(t, w) })
	}
}

// connect runs a server and a client, whose calls all go this way. That they do is looked
// at when the test ends.
func (w way) connect(t *testing.T, opts ServerOptions) (*Server, *Client) {
	t.Helper()
	seen := &waysSeen{Invoker: opts.Invoker}
	opts.Invoker, opts.TLS = seen, w.server.TLS
	server, address := serve(t, opts)
	t.Cleanup(func() {
		over, directly := seen.grpc.Load(), seen.direct.Load()
		if w.direct && over > 0 || !w.direct && directly > 0 {
			t.Errorf("%d calls went over gRPC, %d directly", over, directly)
		}
	})
	if !w.direct {
		return server, dial(t, address, ClientOptions{Connection: w.client, DirectConnections: -1})
	}
	return server, dialDirect(t, address, ClientOptions{Connection: w.client})
}

// dialDirect connects a client until the test ends, and returns when its calls go directly.
// No invoker sees anything of that.
func dialDirect(t testing.TB, address string, opts ClientOptions) *Client {
	t.Helper()
	if opts.ConnectTimeout == 0 {
		opts.ConnectTimeout = patience // a slow machine must not be a reason for gRPC
	}
	client := dial(t, address, opts)
	awaitDirect(t, client)
	return client
}

// awaitDirect waits until a client's calls go directly.
func awaitDirect(t testing.TB, client *Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		if stream := client.direct.Open(ctx); stream != nil {
			stream.Close()
			return
		}
		if client.direct.Wanted() {
			// A runner tells what it knows with any answer, also with a refusal.
			none := *testFn
			none.Image = ""
			call := newCall("")
			call.Fn = &none
			if response, err := client.Invoke(ctx, call); err == nil {
				response.Body.Close()
			}
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the runner is not called directly")
}

// waysSeen counts the calls of a runner by how they came.
type waysSeen struct {
	invoke.Invoker
	grpc, direct atomic.Int64
}

func (s *waysSeen) Invoke(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
	if isOverGRPC(ctx) {
		s.grpc.Add(1)
	} else {
		s.direct.Add(1)
	}
	return s.Invoker.Invoke(ctx, call)
}

// isOverGRPC reports how a call came to a runner: gRPC tells whose it is.
func isOverGRPC(ctx context.Context) bool {
	_, ok := grpcpeer.FromContext(ctx)
	return ok
}

// within is a context that ends before the test hangs.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// await waits for what must come.
func await[T any](t testing.TB, from <-chan T, what string) (got T) {
	t.Helper()
	select {
	case got = <-from:
	case <-time.After(patience):
		t.Fatalf("waited in vain: %s", what)
	}
	return got
}
