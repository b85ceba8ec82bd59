package runnerrpc

import (
	"io"
	"net/http"
)

// answer is the body of an answer that is read as the runner sends it. The call is
// over when it has returned an error or was closed. It is used by one goroutine at
// a time.
type answer struct {
	attempt *attempt
	frame   []byte // what has come and was not read
	err     error  // sticky; the attempt has ended when it is set
}

// Read returns the body's bytes, and the error that the call ended with.
func (b *answer) Read(p []byte) (int, error) {
	for len(b.frame) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		if err := b.next(); err != nil {
			b.err = err
			b.attempt.end()
		}
	}
	n := copy(p, b.frame)
	b.frame = b.frame[n:]
	return n, nil
}

// next waits for the next piece. The error is io.EOF if the call has succeeded.
func (b *answer) next() error {
	a := b.attempt
	if err := a.receive(); err != nil {
		return err
	}
	switch a.received.kind {
	case partData:
		b.frame = a.received.data
		return nil
	case partEnding:
		if err := a.finish(&a.received.ending); err != nil {
			return err
		}
		return io.EOF
	default:
		return a.client.breach("an answer begins in the middle of another")
	}
}

// Close gives up what was not read, and the call with it if it is not over.
func (b *answer) Close() error {
	if b.err == nil {
		b.err = http.ErrBodyReadAfterClose
		b.attempt.end()
	}
	b.frame = nil
	return nil
}
