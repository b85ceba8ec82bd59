package registry

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

// A client that announces a body and sends none is cut, also where nobody wants the
// body, as net/http reads the rest of it before it answers.
func TestUnwantedBodyIsNotWaitedFor(t *testing.T) {
	_, host := serve(t, Options{BodyTimeout: 100 * time.Millisecond, Accept: users(t, "me:secret").Accept})
	for name, request := range map[string]string{
		"refused":     "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: %s\r\nContent-Length: 10\r\n\r\n",
		"no password": "PUT /v2/a/manifests/1 HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\n",
		"of a GET":    "GET /v2/ HTTP/1.1\r\nHost: %s\r\nContent-Length: 10\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", host) //nolint:noctx // of this machine
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(conn, request, host); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusUnauthorized {
				t.Errorf("got %s", response.Status)
			}
		})
	}
}
