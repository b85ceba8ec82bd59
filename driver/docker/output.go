package docker

import (
	"context"
	"io"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

// lastOutput is how long the rest of the output of a container that was killed
// may take to arrive.
const lastOutput = time.Second

// output copies a container's standard output and error to the spec's writers.
type output struct {
	stream client.HijackedResponse
	done   chan struct{} // closed when the copying ended
}

// attach begins to copy. It has to happen before the start, so that nothing is
// missed: the engine keeps no log. The stream ends with the container's process
// or with finish.
func (c *engineContainer) attach(ctx context.Context) error {
	attached, err := c.driver.engine.ContainerAttach(ctx, c.id, client.ContainerAttachOptions{
		Stream: true, Stdout: c.spec.Stdout != nil, Stderr: c.spec.Stderr != nil,
	})
	if err != nil {
		return err
	}
	o := &output{stream: attached.HijackedResponse, done: make(chan struct{})}
	c.output = o
	stdout, stderr := lenientWriter{c.spec.Stdout}, lenientWriter{c.spec.Stderr}
	go func() { // Remove waits for it
		defer close(o.done)
		// An error means that the connection is gone and with it the rest.
		_, _ = stdcopy.StdCopy(stdout, stderr, o.stream.Reader)
	}()
	return nil
}

// finish ends the copying: at the end of the stream, or soon.
func (o *output) finish() {
	timer := time.NewTimer(lastOutput)
	defer timer.Stop()
	select {
	case <-o.done:
	case <-timer.C:
	}
	o.stream.Close()
	<-o.done
}

// lenientWriter accepts everything: if the output were not read to its end,
// the container's process would block on it.
type lenientWriter struct{ to io.Writer }

func (w lenientWriter) Write(p []byte) (int, error) {
	if w.to != nil {
		_, _ = w.to.Write(p) // a sink that fails loses its data
	}
	return len(p), nil
}
