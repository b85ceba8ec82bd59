package system

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"
)

// stream is an answer that is still being made.
type stream struct {
	out    io.ReadCloser
	cancel context.CancelFunc
}

// openAnswer calls a function that writes so many pieces of 100 bytes, one in 200 ms.
func (c *cluster) openAnswer(fnID, count, size string) *stream {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), answerDeadline)
	c.t.Cleanup(cancel)
	request := c.web.request(c.t, "POST", c.lb.url("/invoke/"+fnID), "", mode("chunks", "Count", count, "Size", size, "Interval-Ms", "200"))
	response, err := c.web.transport.RoundTrip(request.WithContext(ctx))
	if err != nil {
		c.t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		c.t.Fatalf("got %d", response.StatusCode)
	}
	return &stream{out: response.Body, cancel: cancel}
}

// read expects so many bytes.
func (s *stream) read(t *testing.T, bytes int) {
	t.Helper()
	read := make(chan error, 1)
	go func() { _, err := io.ReadFull(s.out, make([]byte, bytes)); read <- err }()
	select {
	case err := <-read:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		s.cancel()
		t.Fatalf("%d bytes do not come before the answer ends", bytes)
	}
}

func (s *stream) wantEnd(t *testing.T) {
	t.Helper()
	if rest, err := io.ReadAll(s.out); err != nil || len(rest) > 0 {
		t.Errorf("at the end: %q, %v", rest, err)
	}
	s.out.Close()
}

// leave ends the connection in the middle.
func (s *stream) leave() {
	s.cancel()
	s.out.Close()
}
