package runnerrpc

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc"

	"github.com/tinefn/tine/internal/runnerrpc/direct"
	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
	"github.com/tinefn/tine/invoke"
)

// Client executes calls on one runner. It is safe for concurrent use.
type Client struct {
	address string
	conn    *grpc.ClientConn
	rpc     runnerpb.RunnerProtocolClient
	direct  *direct.Pool // connections of calls, to runners of Tine
	written encodedDefinitions
	maxCall int // bytes of a call without its body

	mu     sync.Mutex    // guards the rest
	calls  int           // in progress, answers that are being read included
	closed bool          // no more calls
	idle   chan struct{} // closed when closed is set and calls is 0

	disconnect sync.Once
}

var _ invoke.Invoker = (*Client)(nil)

// Dial returns a client of the runner at an address, which is host:port. It begins
// to connect and does not wait for that: a runner that cannot be reached fails
// calls with ErrNotPlaced, and is tried again in the background.
func Dial(address string, opts ClientOptions) (*Client, error) {
	// The resolver of gRPC is not needed: who asks for a runner knows where it is.
	conn, err := grpc.NewClient("passthrough:///"+address, opts.dialOptions()...)
	if err != nil {
		return nil, fmt.Errorf("runner %s: %w", address, err)
	}
	conn.Connect()
	return &Client{
		address: address, conn: conn, rpc: runnerpb.NewRunnerProtocolClient(conn), direct: direct.NewPool(opts.direct(address)),
		maxCall: opts.maxMessageBytes(), idle: make(chan struct{}),
	}, nil
}

// Address is what the client was made with.
func (c *Client) Address() string { return c.address }

// errClosed says that a client takes no more calls.
var errClosed = errors.New("it is not used any more")

// begin counts a call in, unless the client is closed.
func (c *Client) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.calls++
	return nil
}

// end counts a call out.
func (c *Client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls--
	if c.closed && c.calls == 0 {
		close(c.idle)
	}
}

// Close takes no more calls, lets those in progress finish until ctx ends, and
// disconnects. Calls that are cut off by that fail.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		if c.calls == 0 {
			close(c.idle)
		}
	}
	c.mu.Unlock()
	var late error
	select {
	case <-c.idle:
	case <-ctx.Done():
		late = fmt.Errorf("calls on runner %s were still in progress: %w", c.address, context.Cause(ctx))
	}
	c.disconnect.Do(func() {
		c.direct.Close()
		late = errors.Join(late, c.conn.Close())
	})
	return late
}

// Invoke executes a call on the runner. Errors that wrap ErrNotPlaced prove that
// it was not executed: the runner cannot be reached, or it refused the call; in
// the latter case the error is model.ErrServerBusy too. All other errors say
// nothing about that, except those of functions.
//
// A body that is held in memory is not changed, so that another attempt can be made
// with the call. Any other is closed if something of it may have been read, and left
// alone if not.
func (c *Client) Invoke(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
	if err := c.begin(); err != nil {
		return nil, fmt.Errorf("%w: runner %s: %w", invoke.ErrNotPlaced, c.address, err)
	}
	a, err := c.open(ctx, call)
	if err != nil {
		c.end()
		return nil, err
	}
	response, err := a.run()
	if err != nil {
		a.end()
		return nil, err
	}
	return response, nil
}
