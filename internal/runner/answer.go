package runner

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// respond turns a function's successful answer into a response: taken off the
// instance at once if it is small, held back until its size is known to be
// legal if a limit asks for that, streamed otherwise.
func (x *exchange) respond(ctx context.Context, answer *http.Response) (*invoke.Response, error) {
	limit := x.runner.opts.MaxResponseBytes
	if limit > 0 && answer.ContentLength > limit {
		return nil, x.discard(answer, model.ErrFunctionResponseTooBig)
	}
	body := &answerBody{exchange: x, answer: answer, limit: limit}
	response := &invoke.Response{Header: answer.Header, Body: body, ContentLength: answer.ContentLength, Timing: &x.timing}
	whole := x.session.hasWholeBody(answer)
	if !whole && !x.mustHold(answer) {
		return response, nil
	}
	var held []byte
	var err error
	if whole {
		held, err = body.hold()
	} else {
		held, err = x.holdFor(ctx, body)
	}
	if err != nil {
		return nil, err
	}
	response.ContentLength = int64(len(held))
	response.Body = invoke.HoldBody(held)
	return response, nil
}

// holdFor holds a body that has not arrived yet. If the caller leaves, the
// function is left to finish it.
func (x *exchange) holdFor(ctx context.Context, body *answerBody) ([]byte, error) {
	type result struct {
		held []byte
		err  error
	}
	results := make(chan result, 1)
	x.runner.inBackground(func() {
		held, err := body.hold()
		results <- result{held, err}
	})
	select {
	case r := <-results:
		return r.held, r.err
	case <-ctx.Done():
		left := canceled(ctx)
		x.over(left)
		return nil, left
	}
}

// hold reads the body to its end.
func (b *answerBody) hold() ([]byte, error) {
	length := b.answer.ContentLength
	if length < 0 {
		return io.ReadAll(b)
	}
	held := make([]byte, length)
	if _, err := io.ReadFull(b, held); err != nil {
		return nil, err
	}
	if b.err == nil { // the end did not come along with the last byte
		if _, err := b.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	return held, nil
}

// mustHold reports whether the whole body is read before anything of it is
// passed on.
func (x *exchange) mustHold(answer *http.Response) bool {
	if answer.ContentLength >= 0 {
		return answer.ContentLength <= prefetchBytes
	}
	limit := x.runner.opts.MaxResponseBytes
	return limit > 0 && limit <= x.runner.opts.HoldBytes && !isEventStream(answer.Header)
}

// isEventStream recognizes answers that make no sense when held back.
func isEventStream(header http.Header) bool {
	mediaType, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	return err == nil && mediaType == "text/event-stream"
}

// answerBody streams an answer's body. Its instance is busy until the body has
// ended or Close was called. It is used by one goroutine at a time.
type answerBody struct {
	exchange *exchange
	answer   *http.Response
	limit    int64 // bytes; 0: none
	read     int64
	err      error // sticky; the exchange is over when it is set
}

// Read returns the body's bytes, and an error of a kind if it broke.
func (b *answerBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.answer.Body.Read(p)
	b.read += int64(n)
	switch {
	case b.limit > 0 && b.read > b.limit:
		n -= int(min(b.read-b.limit, int64(n)))
		b.err = b.exchange.discard(b.answer, model.ErrFunctionResponseTooBig)
	case err == io.EOF:
		b.exchange.finish(b.answer)
		b.err = io.EOF
	case err != nil:
		b.err = b.exchange.broken(err)
	}
	return n, b.err
}

// Close gives up the rest of the body. The instance is kept if the function
// has its whole request and ends its answer in time.
func (b *answerBody) Close() error {
	if b.err != nil {
		return nil
	}
	b.err = http.ErrBodyReadAfterClose
	x := b.exchange
	if !x.sender.finished() {
		x.session.disconnect()
		_ = x.sender.stop() // its caller left, for whatever reason
		_ = x.destroy("the caller left in the middle of the exchange", model.ErrClientCanceled)
		return nil
	}
	x.over(model.ErrClientCanceled)
	x.runner.inBackground(func() { x.drain(b.answer) })
	return nil
}

// discard reads an answer that nobody gets, so that the instance can serve the
// next call, and returns why.
func (x *exchange) discard(answer *http.Response, why error) error {
	x.over(why)
	if x.session.hasWholeBody(answer) {
		x.drain(answer)
		return why
	}
	_ = x.sender.stop() // the function does not need the rest to fail
	x.runner.inBackground(func() { x.drain(answer) })
	return why
}

// drain reads an answer to its end, within the call's deadline, and frees the
// instance.
func (x *exchange) drain(answer *http.Response) {
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		_ = x.broken(err) // the caller knows already what became of the call
		return
	}
	x.finish(answer)
}

// finish gives the instance back after a complete answer.
func (x *exchange) finish(answer *http.Response) {
	x.over(nil)
	if answer.Close || !x.sender.finished() {
		_ = x.sender.stop() // the answer is complete whatever became of the request
		x.session.disconnect()
	}
	x.session.used = time.Now()
	x.endOutput() // not before: the function may print for a call whose caller has left
	x.lease.Release()
}
