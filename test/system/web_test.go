package system

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// answerDeadline is how long any request of a test may take.
const answerDeadline = 90 * time.Second

// web is an HTTP client on a host, which sends requests as they are: no redirects, no
// retries.
type web struct{ transport *http.Transport }

func newWeb(t *testing.T, from host) *web {
	t.Helper()
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	w := &web{&http.Transport{
		MaxIdleConnsPerHost: 256, DisableCompression: true,
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = from.in(func() error { conn, err = dialer.DialContext(ctx, network, address); return err })
			return conn, err
		},
	}}
	t.Cleanup(w.transport.CloseIdleConnections)
	return w
}

// answer is a response, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
	took   time.Duration
	at     time.Time // of its end
}

func (w *web) do(request *http.Request) (answer, error) {
	ctx, cancel := context.WithTimeout(request.Context(), answerDeadline)
	defer cancel()
	began := time.Now()
	response, err := w.transport.RoundTrip(request.WithContext(ctx))
	if err != nil {
		return answer{took: time.Since(began), at: time.Now()}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(body), time.Since(began), time.Now()}, err
}

func (w *web) request(t *testing.T, method, url, body string, header map[string]string) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	return request
}

// send sends a request and fails the test if there is no answer.
func (w *web) send(t *testing.T, method, url, body string, header map[string]string) answer {
	t.Helper()
	got, err := w.do(w.request(t, method, url, body, header))
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return got
}

// object is a JSON object.
type object = map[string]any

// wantError checks that an answer is the error that clients expect, byte by byte.
func (got answer) wantError(t *testing.T, status int, message string) {
	t.Helper()
	raw, err := json.Marshal(object{"message": message})
	if err != nil {
		t.Fatal(err)
	}
	if got.status != status || got.body != string(raw)+"\n" {
		t.Errorf("got %d %q, want %d %q", got.status, got.body, status, string(raw)+"\n")
	}
	if contentType := got.header.Get("Content-Type"); contentType != "application/json; charset=utf-8" {
		t.Errorf("content type %q", contentType)
	}
}

// seen is the JSON answer of the test function.
type seen struct {
	Request object
	Header  http.Header
	Config  map[string]string
	Data    map[string]string
	Trailer []string
}

func (got answer) seen(t *testing.T) (s seen) {
	t.Helper()
	if err := json.Unmarshal([]byte(got.body), &s); err != nil || got.status != 200 {
		t.Fatalf("got %d %.300q: %v", got.status, got.body, err)
	}
	return s
}

// mode selects a raw behaviour of the test function.
func mode(name string, parameters ...string) map[string]string {
	header := map[string]string{"Testfn-Mode": name}
	for i := 0; i < len(parameters); i += 2 {
		header["Testfn-"+parameters[i]] = parameters[i+1]
	}
	return header
}
