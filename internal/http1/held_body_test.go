package http1

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestHandlerMayKeepABody has handlers that pass the body on to somebody who
// reads it when the next request on the connection has come.
func TestHandlerMayKeepABody(t *testing.T) {
	bodies := make(chan io.Reader, 10)
	s := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { bodies <- r.Body }), nil)
	c := dial(t, s.address)
	c.send(post)
	c.read()
	other := strings.Replace(post, "hello", "world", 1)
	for range 3 {
		c.send(other)
		c.read()
	}
	for _, want := range []string{"hello", "world", "world", "world"} {
		if got, err := io.ReadAll(<-bodies); string(got) != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}
