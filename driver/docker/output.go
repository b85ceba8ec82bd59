package docker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

// lastOutput is how long the rest of the output of a container that was killed
// may take to arrive.
const lastOutput = time.Second

// output copies a container's standard output and error to the spec's writers.
type output struct {
	conn net.Conn      // to the engine
	done chan struct{} // closed when the copying ended
}

// attach begins to copy. It has to happen before the start, so that nothing is
// missed: the engine keeps no log. The stream ends with the container's process
// or with finish.
func (c *engineContainer) attach(ctx context.Context) error {
	attached, err := c.driver.engine.ContainerAttach(ctx, c.ID(), client.ContainerAttachOptions{
		Stream: true, Stdout: c.spec.Stdout != nil, Stderr: c.spec.Stderr != nil,
	})
	if err != nil {
		return err
	}
	o := &output{conn: attached.Conn, done: make(chan struct{})}
	stream, err := smaller(attached.Reader, attached.Conn)
	if err != nil {
		attached.Close()
		return err
	}
	c.output.Store(o)
	stdout, stderr := lenientWriter{c.spec.Stdout}, lenientWriter{c.spec.Stderr}
	go func() { // Remove waits for it
		defer close(o.done)
		// An error means that the connection is gone and with it the rest.
		_ = demultiplex(stream, stdout, stderr)
	}()
	return nil
}

// streamBuffer is the size in bytes of the buffer that every running container has
// for its output.
const streamBuffer = 512

// smaller returns a reader of the connection, which begins with what a reader with
// a larger buffer has read already.
func smaller(read *bufio.Reader, conn net.Conn) (*bufio.Reader, error) {
	begun, err := read.Peek(read.Buffered())
	if err != nil || len(begun) == 0 {
		return bufio.NewReaderSize(conn, streamBuffer), err
	}
	return bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(begun)), conn), streamBuffer), nil
}

// finish ends the copying: at the end of the stream, or soon.
func (o *output) finish() {
	timer := time.NewTimer(lastOutput)
	defer timer.Stop()
	select {
	case <-o.done:
	case <-timer.C:
	}
	_ = o.conn.Close() // only a connection
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

// A frame of the engine's stream is the number of the output, three bytes of
// nothing, the length of what follows as a big-endian number, and that. See
// "Stream format" of the request "attach" in the API of the Docker Engine.
const (
	frameHeader = 8
	frameLength = 4 // where the length is
)

// demultiplex copies the frames to the writers, until the stream ends. Unlike
// stdcopy.StdCopy it has no buffer of its own, which would be the largest part
// of what a resting instance takes of the server's memory.
func demultiplex(stream *bufio.Reader, stdout, stderr io.Writer) error {
	for {
		header, err := stream.Peek(frameHeader)
		if err != nil {
			switch {
			case err != io.EOF:
				return err
			case len(header) > 0:
				return io.ErrUnexpectedEOF
			}
			return nil
		}
		output, left := stdcopy.StdType(header[0]), int64(binary.BigEndian.Uint32(header[frameLength:]))
		_, _ = stream.Discard(frameHeader) // what was peeked
		var to io.Writer
		switch output {
		case stdcopy.Stdin, stdcopy.Stdout: // as the documentation has it
			to = stdout
		case stdcopy.Stderr:
			to = stderr
		default: // stdcopy.Systemerr is the engine's own error
			message, _ := io.ReadAll(io.LimitReader(stream, min(left, maxSystemError)))
			return fmt.Errorf("the engine's stream of output %d: %q", output, message)
		}
		if err := relay(stream, left, to); err != nil {
			return err
		}
	}
}

// maxSystemError bounds in bytes what is read of an error in the stream.
const maxSystemError = 4 << 10

// relay passes on n bytes as they come, out of the reader's buffer.
func relay(stream *bufio.Reader, n int64, to io.Writer) error {
	for n > 0 {
		if _, err := stream.Peek(1); err != nil { // waits for more
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		chunk, _ := stream.Peek(int(min(n, int64(stream.Buffered()))))
		if _, err := to.Write(chunk); err != nil {
			return err
		}
		_, _ = stream.Discard(len(chunk))
		n -= int64(len(chunk))
	}
	return nil
}
