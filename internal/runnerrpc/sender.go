package runnerrpc

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// waitBytes is the size of a body up to which whoever sends it can wait for that: so much
// may be under way to a runner that does not read it, because it has said no already.
const waitBytes = 64 << 10

// sendBody sends the request's body, a small one that is in memory here and now and any
// other on a goroutine of its own.
func (a *attempt) sendBody() error {
	var held []byte
	if body := a.call.Body; body != nil && body != http.NoBody {
		inMemory, ok := body.(*invoke.HeldBody)
		if !ok {
			a.sender = &sender{attempt: a, body: body, done: make(chan struct{})}
			go a.sender.run()
			return nil
		}
		if held = inMemory.Bytes(); len(held) > waitBytes {
			a.sender = &sender{attempt: a, body: invoke.HoldBody(held), done: make(chan struct{})}
			go a.sender.run()
			return nil
		}
	}
	for {
		n := min(len(held), MaxFrameBytes)
		last := n == len(held)
		if err := a.stream.sendData(held[:n], last); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return a.client.lost(a.ctx, err)
		}
		if last {
			a.stream.flushLater()
			return nil
		}
		held = held[n:]
	}
}

// sender sends a body as it is read.
type sender struct {
	attempt *attempt
	body    io.ReadCloser
	done    chan struct{}
	stopped atomic.Bool           // set before body is closed: errors mean nothing then
	failed  atomic.Pointer[error] // why the body could not be read; set before the stream is cancelled for that
}

func (s *sender) run() {
	defer close(s.done)
	stream := s.attempt.stream
	if _, held := s.body.(*invoke.HeldBody); !held && stream.flush() != nil {
		return // the runner can say no to the try while there is nothing of the body
	}
	buf := make([]byte, MaxFrameBytes)
	for {
		n, err := s.body.Read(buf)
		last := errors.Is(err, io.EOF)
		if err != nil && !last {
			if !s.stopped.Load() {
				err = bodyError(err)
				s.failed.Store(&err)
				s.attempt.cancel() // the function must not take a part for the whole
			}
			return
		}
		if n == 0 && !last {
			continue
		}
		if stream.sendData(buf[:n], last) != nil || stream.flush() != nil || last {
			return // receiving tells why
		}
	}
}

// bodyError says why a request's body could not be read: for a reason with a kind of
// its own, or because the client left.
func bodyError(err error) error {
	if model.Describe(err).Kind != model.ErrInternal {
		return err
	}
	return fmt.Errorf("%w: %w", model.ErrClientCanceled, err)
}

// failure is why the request could not be read, if that has ended it.
func (s *sender) failure() error {
	if s == nil {
		return nil
	}
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// stop ends the sending and waits for that: after it nobody reads the body. The
// stream must have been cancelled.
func (s *sender) stop() {
	if s == nil {
		return
	}
	s.stopped.Store(true)
	_ = s.body.Close() // what is left of it does not matter
	<-s.done
}
