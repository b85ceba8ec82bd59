package runnerrpc

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/tinefn/tine/model"
)

// A runner that has said no does not want the rest of the request, also if there is
// nothing of it yet.
func TestRefusalDoesNotWaitForTheRequestOnEachWay(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		_, client := w.connect(t, ServerOptions{Invoker: echo}) // which executes no detached calls
		ctx := within(t)
		body, end := io.Pipe()
		defer end.Close()
		call := newCall("")
		call.Body, call.ContentLength, call.Detached = body, -1, true
		refused := make(chan error, 1)
		go func() {
			_, err := client.Invoke(ctx, call)
			refused <- err
		}()
		if err := await(t, refused, "the refusal"); !errors.Is(err, model.ErrDetachedUnsupported) {
			t.Errorf("got %v", err)
		}
		if _, err := end.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the body is still read: %v", err)
		}
		works(ctx, t, client)
	})
}

// A refusal that has come before the last of the request was sent must be seen at once:
// nothing more comes.
func TestRefusalInTheMiddleOfASmallRequestIsSeenAtOnce(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		_, client := w.connect(t, ServerOptions{Invoker: echo})
		// A runner waits two seconds for its refusal to be read, and then leaves.
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		call := newCall(strings.Repeat("x", waitBytes))
		call.Detached = true
		if err := client.begin(); err != nil {
			t.Fatal(err)
		}
		a, err := client.open(ctx, call)
		if err != nil {
			t.Fatal(err)
		}
		defer a.end()
		piece := make([]byte, MaxFrameBytes)
		for range 2 { // which is more than waits for the rest
			a.stream.sendData(piece, false)
		}
		time.Sleep(50 * time.Millisecond) // the refusal comes
		a.stream.sendData(piece, true)
		a.stream.flushLater()
		if err := a.receive(); err != nil || a.received.kind != partEnding || a.received.ending.code != 501 {
			t.Errorf("got %+v, %v", a.received, err)
		}
	})
}
