package runnerrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// gatherBytes is the size up to which a request of known length is read before the
// call is executed: its function need not wait for it then.
const gatherBytes = 64 << 10

// breached is how a stream ends whose client does not keep to the protocol.
func breached(what string) error { return status.Error(codes.InvalidArgument, what) }

var errNoData = breached("a message that is no data came after the try")

// receiveBody reads the request's first pieces, and all of them if they are few, and
// makes the call's body of them.
func (x *engagement) receiveBody(call *invoke.Call) error {
	piece, last, err := x.receiveData()
	if err != nil {
		return err
	}
	gathered := piece
	if !last && call.ContentLength >= 0 && call.ContentLength <= gatherBytes {
		gathered = append(make([]byte, 0, call.ContentLength), piece...)
	}
	for !last && call.ContentLength >= 0 && call.ContentLength <= gatherBytes {
		if int64(len(gathered)) > call.ContentLength {
			return breached("the request's body is longer than its header says")
		}
		if piece, last, err = x.receiveData(); err != nil {
			return err
		}
		gathered = append(gathered, piece...)
	}
	if last {
		call.ContentLength, call.Body = int64(len(gathered)), http.NoBody
		if len(gathered) > 0 {
			call.Body = invoke.HoldBody(gathered)
		}
		return nil
	}
	x.request = &requestBody{
		x: x, piece: gathered, left: call.ContentLength, pieces: make(chan []byte), closed: make(chan struct{}),
	}
	x.request.count(len(gathered))
	call.Body = x.request
	return nil
}

// receiveData waits for the request's next piece.
func (x *engagement) receiveData() (piece []byte, last bool, err error) {
	piece, last, err = x.stream.receiveData()
	if errors.Is(err, io.EOF) {
		err = breached("the request ended without saying so")
	}
	return piece, last, err
}

// requestBody is a request that is read as the load balancer sends it, one piece
// at a time: what the function does not read, the load balancer does not send.
type requestBody struct {
	x      *engagement
	piece  []byte // what has come and was not read
	left   int64  // bytes that are still to come; negative: unknown
	pieces chan []byte
	err    error // why pieces was closed; set before

	complete atomic.Bool // all of it has come
	close    sync.Once
	closed   chan struct{}
}

var errClosedBody = errors.New("the request's body was closed")

// Read returns the request's bytes.
func (b *requestBody) Read(p []byte) (int, error) {
	for len(b.piece) == 0 {
		select {
		case <-b.closed:
			return 0, errClosedBody
		case piece, ok := <-b.pieces:
			if !ok {
				return 0, b.err
			}
			b.piece = piece
		}
	}
	n := copy(p, b.piece)
	b.piece = b.piece[n:]
	return n, nil
}

// Close makes a Read in progress and all later ones fail.
func (b *requestBody) Close() error {
	b.close.Do(func() { close(b.closed) })
	return nil
}

// count notes that so many bytes have come.
func (b *requestBody) count(n int) {
	if b.left >= 0 {
		if b.left -= int64(n); b.left == 0 {
			b.complete.Store(true)
		}
	}
}

// pump receives pieces until the last one, or until nobody wants them.
func (b *requestBody) pump() {
	defer close(b.pieces)
	for {
		piece, last, err := b.x.receiveData()
		if err != nil {
			b.err = b.x.noMoreData(err)
			return
		}
		b.count(len(piece))
		if last {
			b.complete.Store(true)
		}
		if len(piece) > 0 {
			select {
			case b.pieces <- piece:
			case <-b.closed:
				b.err = errClosedBody
				return
			}
		}
		if last {
			b.err = io.EOF
			return
		}
	}
}

// noMoreData says why no more of a request will come: the load balancer left, or
// does not keep to the protocol, which ends the call.
func (x *engagement) noMoreData(err error) error {
	if x.stream.context().Err() == nil && status.Code(err) == codes.InvalidArgument {
		x.breach.Store(&err)
		x.cancel(err)
	}
	return fmt.Errorf("%w: %w", model.ErrClientCanceled, err)
}

// isComplete reports whether the whole request has come.
func (x *engagement) isComplete() bool { return x.request == nil || x.request.complete.Load() }

// blame replaces an error that is only a consequence of a function that did not want
// its whole request. Source: the runner protocol.
func (x *engagement) blame(ctx context.Context, err error) error {
	if ctx.Err() == nil && !x.isComplete() && errors.Is(err, model.ErrFunctionResponse) {
		return fmt.Errorf("%w: %w", model.ErrFunctionClosedPipe, err)
	}
	return err
}
