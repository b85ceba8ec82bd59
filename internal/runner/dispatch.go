package runner

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/tinefn/tine/internal/pool"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// exchange is one call's use of one instance.
type exchange struct {
	runner   *Runner
	call     *invoke.Call
	lease    *pool.Lease
	session  *session
	output   *console // nil: nobody wants it
	turn     int      // of the call, in output
	sender   *sender  // nil: the whole request is sent
	admitted time.Time
	began    time.Time
	deadline time.Time
	timing   invoke.Timing

	started  bool        // the request may be on its way
	ended    atomic.Bool // the exchange ended the instance, also after its caller has left
	reported atomic.Bool
}

// errRetry says that the instance died at rest and nothing was sent, so that
// another one may serve the call.
var errRetry = errors.New("the instance was dead")

// dispatch sends the call to the leased instance and returns its answer. The
// lease is its own from here on: whatever happens, it is released or destroyed.
// It does not return errRetry if this is the last attempt.
//
// An instance survives a call that ended in an orderly way, also in a failure;
// it is destroyed when it may still be busy with the call or its connection
// broke.
func (r *Runner) dispatch(ctx context.Context, call *invoke.Call, lease *pool.Lease, admitted time.Time, last bool) (*invoke.Response, error) {
	x := &exchange{
		runner: r, call: call, lease: lease, session: lease.Session.(*session), admitted: admitted, began: time.Now(),
		timing: invoke.Timing{Cold: lease.Cold},
	}
	x.timing.Queued = x.began.Sub(admitted)
	if lease.Cold {
		launch := lease.Launch
		x.timing.Image, x.timing.Create, x.timing.Start, x.timing.Init = launch.Image, launch.Create, launch.Start, launch.Init
	}
	x.deadline = x.began.Add(time.Duration(call.Fn.Timeout) * time.Second)
	returned := false
	defer func() {
		if !returned {
			x.panicked()
		}
	}()
	response, err := x.run(ctx, last)
	returned = true
	return response, err
}

// run is the exchange up to the answer's header.
func (x *exchange) run(ctx context.Context, last bool) (*invoke.Response, error) {
	if err := x.send(ctx, last); err != nil {
		return nil, err
	}
	answer, err := x.awaitHeader(ctx)
	if err != nil {
		return nil, err
	}
	x.timing.FirstByte = time.Since(x.began)
	return x.judge(ctx, answer)
}

// errPanicked is what is reported of a call that ended in a panic.
var errPanicked = errors.New("a part of the call that is not the runner's panicked")

// panicked ends the instance while a panic goes up to whoever recovers from it.
func (x *exchange) panicked() {
	if !x.started {
		x.lease.Destroy(errPanicked.Error())
		return
	}
	_ = x.destroy(errPanicked.Error(), errPanicked)
}

// send hands the request to the function, on a fresh connection if the kept
// one turns out to be closed.
func (x *exchange) send(ctx context.Context, last bool) error {
	for {
		reused, err := x.session.connect(ctx, x.deadline)
		if err == nil {
			x.start()
			x.sender, err = x.session.send(x.call, x.deadline)
		}
		switch {
		case err == nil:
			return nil
		case reused && errors.Is(err, errNothingSent):
			x.session.disconnect()
		case !errors.Is(err, errNothingSent) && !errors.Is(err, errInstanceDead):
			return x.lost("sending the request failed", errors.Join(x.failure(err), x.call.Body.Close()))
		case !last:
			return x.giveUp(err)
		default:
			kind := model.ErrFunctionResponse
			if x.lease.Cold {
				kind = model.ErrContainerInitFailed
			}
			x.start()
			return x.lost("it does not accept connections", errors.Join(fmt.Errorf("%w: %w", kind, err), x.call.Body.Close()))
		}
	}
}

// giveUp ends an instance that took nothing of the call, so that another one
// can serve it.
func (x *exchange) giveUp(err error) error {
	if x.started {
		x.started = false
		x.runner.opts.Observer.Running(-1)
		x.endOutput()
	}
	x.lease.Lost("it does not accept connections")
	return fmt.Errorf("%w: %w", errRetry, err)
}

// start notes that the call begins to run.
func (x *exchange) start() {
	if x.started {
		return
	}
	x.started = true
	x.runner.opts.Observer.Running(+1)
	if output, ok := x.lease.Output.(*console); ok {
		x.output, x.turn = output, output.begin(x.call.ID)
	}
	if x.call.OnStart != nil {
		x.call.OnStart()
		x.call.OnStart = nil
	}
}

// lost ends the instance because its connection broke, and the call with err.
func (x *exchange) lost(why string, err error) error {
	x.ended.Store(true)
	x.lease.Lost(why)
	x.over(err)
	return err
}

// destroy ends the instance, which works and must not, and the call with err.
func (x *exchange) destroy(why string, err error) error {
	x.ended.Store(true)
	x.lease.Destroy(why)
	x.over(err)
	return err
}

// awaitHeader reads the header of the answer. A function that sends an informational
// one first takes its time, however soon that came.
func (x *exchange) awaitHeader(ctx context.Context) (*http.Response, error) {
	answer, err := x.session.readHeader(x.runner.opts.MaxResponseHeaderBytes)
	switch {
	case err == nil && !isInformational(answer):
		return answer, nil
	case err == nil, errors.Is(err, errSilent) && x.session.in.hasty && errors.Is(err, os.ErrDeadlineExceeded):
		return x.watchForHeader(ctx)
	}
	return nil, x.broken(err)
}

// longAgo is a deadline that ends what is in progress.
var longAgo = time.Unix(1, 0)

// watchForHeader reads the header of an answer that takes its time. If the
// caller leaves meanwhile, the function is left to finish its work on its own,
// where that is possible.
func (x *exchange) watchForHeader(ctx context.Context) (*http.Response, error) {
	if err := x.session.in.takeTime(); err != nil {
		return nil, x.broken(err)
	}
	conn := x.session.conn
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		_ = conn.SetReadDeadline(longAgo) // reading ends
	})
	answer, err := x.session.readFinalHeader(x.runner.opts.MaxResponseHeaderBytes)
	if stop() {
		if err != nil {
			return nil, x.broken(err)
		}
		return answer, nil
	}
	// The caller left.
	<-interrupted
	left := canceled(ctx)
	if x.sender.finished() && (err == nil || errors.Is(err, errSilent)) {
		x.over(left)
		x.runner.inBackground(func() { x.finishAlone(answer) })
		return nil, left
	}
	x.session.disconnect()
	return nil, x.destroy("the caller left in the middle of the exchange", errors.Join(left, x.sender.stop()))
}

// canceled says why a caller left.
func canceled(ctx context.Context) error {
	if cause := context.Cause(ctx); model.Describe(cause).Kind != model.ErrInternal {
		return cause
	}
	return fmt.Errorf("%w: %w", model.ErrClientCanceled, context.Cause(ctx))
}

// finishAlone waits for a function whose caller left, so that its instance can
// serve others. The answer is nil if its header has not come yet.
func (x *exchange) finishAlone(answer *http.Response) {
	err := x.session.in.takeTime()
	if err == nil && answer == nil {
		answer, err = x.session.readFinalHeader(x.runner.opts.MaxResponseHeaderBytes)
	}
	if err != nil {
		_ = x.broken(err) // nobody is left to be told
		return
	}
	x.drain(answer)
}

// broken ends the instance after a failed read and says what the caller is told.
func (x *exchange) broken(err error) error {
	failure := x.failure(err)
	x.session.disconnect()
	if cause := x.sender.stop(); cause != nil {
		failure = cause // the request ended first, the answer broke for that
	}
	if errors.Is(failure, model.ErrFunctionResponse) {
		return x.lost(failure.Error(), failure)
	}
	return x.destroy(failure.Error(), failure)
}

// failure says what an error on the connection means.
func (x *exchange) failure(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(x.deadline):
		return model.ErrCallTimeout
	case errors.Is(err, model.ErrFunctionHeaderTooBig):
		return model.ErrFunctionHeaderTooBig
	}
	return fmt.Errorf("%w: %w", model.ErrFunctionResponse, err)
}

// judge decides by the status what the answer is worth.
func (x *exchange) judge(ctx context.Context, answer *http.Response) (*invoke.Response, error) {
	switch answer.StatusCode {
	case http.StatusOK:
		return x.respond(ctx, answer)
	case http.StatusBadGateway:
		return nil, x.discard(answer, model.ErrFunctionFailed)
	case http.StatusGatewayTimeout:
		return nil, x.discard(answer, model.ErrCallTimeout)
	}
	x.session.disconnect()
	err := fmt.Errorf("%w: status %d", model.ErrFunctionInvalidResponse, answer.StatusCode)
	return nil, x.destroy(err.Error(), errors.Join(err, x.sender.stop()))
}
