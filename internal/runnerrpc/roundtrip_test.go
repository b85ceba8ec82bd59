package runnerrpc

import (
	"strings"
	"testing"
)

func TestCallsGoToTheRunnerAndBack(t *testing.T) {
	_, address := serve(t, ServerOptions{Invoker: echo})
	client := dial(t, address, ClientOptions{})
	for _, size := range []int{0, 1, MaxFrameBytes - 1, MaxFrameBytes, MaxFrameBytes + 1, gatherBytes, gatherBytes + 1, 3 << 20} {
		text := strings.Repeat("0123456789abcdef", size/16+1)[:size]
		response, err := client.Invoke(t.Context(), newCall(text))
		if got := read(t, response, err); got != text {
			t.Errorf("%d bytes in memory: got %d bytes", size, len(got))
		}
		if response.ContentLength != int64(size) || response.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("%d bytes in memory: %d %v", size, response.ContentLength, response.Header)
		}
		response, err = client.Invoke(t.Context(), streamed(strings.NewReader(text)))
		if got := read(t, response, err); got != text {
			t.Errorf("%d bytes streamed: got %d bytes", size, len(got))
		}
	}
}
