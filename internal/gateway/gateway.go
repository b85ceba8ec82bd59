// Package gateway turns HTTP requests into calls and the functions' answers
// into HTTP responses: POST /invoke/{fn_id} and /t/{app_name}/{source}.
//
// Read invoke.go first: the way of a direct invocation. trigger.go adds the
// encapsulation of HTTP in a call, detached.go calls that nobody waits for,
// and response.go sends an answer to the client.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tinefn/tine/internal/catalog"
	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/invoke"
)

// Options configures a [Gateway].
type Options struct {
	Catalog *catalog.Catalog
	Invoker invoke.Invoker
	Logger  *slog.Logger

	MaxDetachedBytes int64 // of a detached call's body, which is held in memory

	Override   invoke.Overrider // of every call, before anything else happens to it; nil: none
	NoInvoke   bool             // no route for direct invocations
	NoTriggers bool             // none for HTTP triggers

	Forwards bool // calls are executed on other nodes

	// Trace, if set, returns the context for looking a request's target up, from
	// that of the request and its header.
	Trace func(context.Context, http.Header) context.Context
}

// Gateway serves invocations. Close ends it.
type Gateway struct {
	opts Options

	mu       sync.Mutex         // guards closed
	closed   bool               // no more detached calls
	detached sync.WaitGroup     // calls that nobody waits for
	ctx      context.Context    // of those calls
	cancel   context.CancelFunc // ends them
}

// New returns a gateway.
func New(opts Options) *Gateway {
	ctx, cancel := context.WithCancel(context.Background())
	return &Gateway{opts: opts, ctx: ctx, cancel: cancel}
}

// Register adds the gateway's routes.
func (g *Gateway) Register(router *edge.Router) {
	if !g.opts.NoInvoke {
		router.Handle(http.MethodPost, "/invoke/{fn_id}", g.invoke)
	}
	if !g.opts.NoTriggers {
		router.Handle("*", "/t/{app_name}", g.trigger)
		router.Handle("*", "/t/{app_name}/*", g.trigger)
	}
}

// lookUp is the context in which a request's target is looked up.
func (g *Gateway) lookUp(r *http.Request) context.Context {
	if g.opts.Trace == nil {
		return r.Context()
	}
	return g.opts.Trace(r.Context(), r.Header)
}

// goDetached runs f on a goroutine that Close waits for. After Close has begun
// it returns false and does nothing.
func (g *Gateway) goDetached(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.detached.Go(f)
	}
	return !g.closed
}

// Close refuses new detached calls, waits for those in progress until ctx
// ends, and gives the rest up.
func (g *Gateway) Close(ctx context.Context) error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		g.detached.Wait()
		close(ended)
	}()
	defer g.cancel()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		g.cancel()
		<-ended
		return errors.New("detached calls were still running when the shutdown deadline passed")
	}
}

// clientBody is a request's body that can be given up from another goroutine:
// closing the server's own body would wait for a read in progress. It can be
// read on while the response is being written, because a function may answer
// before it has seen all of its request.
type clientBody struct {
	read   func([]byte) (int, error)
	conn   *http.ResponseController
	client context.Context // ends when the client leaves, and when reading fails
	begun  atomic.Bool
	ended  atomic.Bool // read has returned an error, usually io.EOF
	gaveUp atomic.Bool // it was closed before its end, and before the client left
}

func newClientBody(w http.ResponseWriter, r *http.Request) *clientBody {
	return &clientBody{read: r.Body.Read, conn: http.NewResponseController(w), client: r.Context()}
}

func (b *clientBody) Read(p []byte) (int, error) {
	// Not before: a server that reads both ways at once leaves the rest of the
	// body to whoever has read the beginning.
	if !b.begun.Swap(true) {
		if err := ignoreUnsupported(b.conn.EnableFullDuplex()); err != nil {
			return 0, err
		}
	}
	n, err := b.read(p)
	if err != nil {
		b.ended.Store(true)
	}
	return n, err
}

// Close makes a Read in progress and all later ones fail. It leaves a body
// alone that was read to its end: the connection may carry another request.
func (b *clientBody) Close() error {
	if b.ended.Load() {
		return nil
	}
	if b.client.Err() == nil {
		b.gaveUp.Store(true)
	}
	return ignoreUnsupported(b.conn.SetReadDeadline(longAgo))
}

// blame is the error of a call that may look as if the client had left, because its body
// was given up.
func (b *clientBody) blame(err error) error {
	if b != nil && b.gaveUp.Load() {
		return edge.ClientIsThere(err)
	}
	return err
}

// longAgo is a deadline that ends what is in progress.
var longAgo = time.Unix(1, 0)

// settle prepares for a response: if a part of the body is not read by then, the
// connection cannot carry another request.
func (b *clientBody) settle(w http.ResponseWriter) {
	if b != nil && b.begun.Load() && !b.ended.Load() {
		w.Header().Set("Connection", "close")
	}
}

// ignoreUnsupported drops the error of writers that have no connection.
func ignoreUnsupported(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}
