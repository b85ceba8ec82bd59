package runnerrpc

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// frame is a message with a piece of a request, for one goroutine to send again and
// again: a message may be changed when sending it has returned.
type frame struct {
	message runnerpb.ClientMsg
	data    runnerpb.ClientMsg_Data
	piece   runnerpb.DataFrame
}

func newFrame() *frame {
	f := &frame{}
	f.data.Data = &f.piece
	f.message.Body = &f.data
	return f
}

// send sends a piece of the request. The error io.EOF means that the stream has
// ended, and that receiving tells why.
func (a *attempt) send(f *frame, piece []byte, last bool) error {
	f.piece.Data, f.piece.Eof = piece, last
	return a.stream.Send(&f.message)
}

// sendBody sends the request's body, one that is in memory here and now and any
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
		held = inMemory.Bytes()
	}
	f := newFrame()
	for {
		n := min(len(held), MaxFrameBytes)
		last := n == len(held)
		if err := a.send(f, held[:n], last); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return a.client.lost(a.ctx, err)
		}
		if last {
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
	f := newFrame()
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
		if s.attempt.send(f, buf[:n], last) != nil || last {
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
