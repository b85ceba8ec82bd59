package docker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver/docker"
	"github.com/tinefn/tine/test/image"
)

// recordingFile is what an engine of version 1.41 of the API answered to the
// life of versions_test.go. To make it anew, if the driver asks for something
// else, with such an engine at DOCKER_HOST:
//
//	TINE_RECORD=1 go test -run TestRecordAnEngine ./driver/docker
const recordingFile = "testdata/engine-1.41.json"

// recording is a conversation with an engine.
type recording struct {
	APIVersion string
	Exchanges  []exchange
}

// exchange is a request and its answer. Of the answer to "info" there is only
// what does not describe the machine.
type exchange struct {
	Method, Path string // without a version
	Name         string `json:",omitempty"` // of the container to make
	Status       int
	Type         string          `json:",omitempty"` // of the content
	JSON         json.RawMessage `json:",omitempty"` // the answer, if it is one value
	Text         string          `json:",omitempty"` // else
}

// recorder passes requests on to the engine.
type recorder struct {
	t       *testing.T
	replace *strings.Replacer // of what is different each time
	engine  http.Client
	wg      sync.WaitGroup // hijacked connections

	mu sync.Mutex // guards got
	recording
}

func dialEngine() (net.Conn, error) {
	address := strings.TrimPrefix(engineHost(), "unix://")
	if address == "" {
		address = "/var/run/docker.sock"
	}
	return net.Dial("unix", address)
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if strings.HasSuffix(request.URL.Path, "/attach") {
		r.attach(w, request)
		return
	}
	out, err := http.NewRequestWithContext(request.Context(), request.Method, "http://engine"+request.URL.RequestURI(), request.Body)
	if err != nil {
		r.t.Error(err)
		return
	}
	out.Header = request.Header.Clone()
	answer, err := r.engine.Do(out)
	if err != nil {
		r.t.Error(err)
		return
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Error(err)
	}
	version := answer.Header.Get("Api-Version")
	w.Header().Set("Api-Version", version)
	r.add(w, request, answer, body)
	w.WriteHeader(answer.StatusCode)
	_, _ = w.Write(body)
	r.mu.Lock()
	r.APIVersion = version
	r.mu.Unlock()
}

func (r *recorder) add(w http.ResponseWriter, request *http.Request, answer *http.Response, body []byte) {
	w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
	e := exchange{
		Method: request.Method, Path: r.replace.Replace(withoutVersion(request.URL.Path)), Name: request.URL.Query().Get("name"),
		Status: answer.StatusCode, Type: answer.Header.Get("Content-Type"),
	}
	text := r.replace.Replace(string(body))
	if json.Valid([]byte(text)) {
		e.JSON = json.RawMessage(text)
	} else {
		e.Text = text
	}
	if e.Path == "/info" {
		e.JSON = onlyFields(r.t, e.JSON, "ServerVersion", "CgroupDriver", "CgroupVersion", "Warnings")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Exchanges = append(r.Exchanges, e)
}

// attach passes a connection on that becomes a stream.
func (r *recorder) attach(w http.ResponseWriter, request *http.Request) {
	r.wg.Add(1)
	defer r.wg.Done()
	engine, err := dialEngine()
	if err != nil {
		r.t.Error(err)
		return
	}
	defer engine.Close()
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		r.t.Error(err)
		return
	}
	defer conn.Close()
	go func() { // ends with conn
		_ = request.Write(engine)
		_, _ = io.Copy(io.Discard, conn)
		_ = engine.Close()
	}()
	var all bytes.Buffer
	if _, err := io.Copy(io.MultiWriter(conn, &all), engine); err != nil && !errors.Is(err, net.ErrClosed) {
		r.t.Error(err)
	}
	head, stream, _ := strings.Cut(all.String(), "\r\n\r\n")
	answer := &http.Response{StatusCode: http.StatusSwitchingProtocols, Header: http.Header{}}
	for line := range strings.SplitSeq(head, "\r\n") {
		if name, value, found := strings.Cut(line, ": "); found {
			answer.Header.Set(name, value)
		}
	}
	if !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		r.t.Errorf("attach: %s", head)
	}
	r.add(w, request, answer, []byte(stream))
}

// withoutVersion takes the first part of a path away if it is a version.
func withoutVersion(path string) string {
	if version, rest, found := strings.Cut(strings.TrimPrefix(path, "/"), "/"); found && strings.HasPrefix(version, "v1.") {
		return "/" + rest
	}
	return path
}

func onlyFields(t *testing.T, object json.RawMessage, names ...string) json.RawMessage {
	t.Helper()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(object, &fields); err != nil {
		t.Fatal(err)
	}
	for name := range fields {
		if !slices.Contains(names, name) {
			delete(fields, name)
		}
	}
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// listenUnix serves on a socket until the test ends, and returns its address.
func listenUnix(t *testing.T, handler http.Handler) (host string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "engine") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		wg.Wait()
		_ = os.RemoveAll(dir)
	})
	return "unix://" + filepath.Join(dir, "s")
}

func TestRecordAnEngine(t *testing.T) {
	if os.Getenv("TINE_RECORD") == "" {
		t.Skip("makes " + recordingFile + " if TINE_RECORD is set")
	}
	local := image.TestFn(t)
	address := image.Registry(t)
	ref := address + "/tine-test/life:1"
	engine := engineClient(t)
	if _, err := engine.ImageTag(t.Context(), client.ImageTagOptions{Source: local, Target: ref}); err != nil {
		t.Fatal(err)
	}
	push, err := engine.ImagePush(t.Context(), ref, client.ImagePushOptions{RegistryAuth: "e30="})
	if err == nil {
		err = push.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	image.Untag(t, ref)
	defer image.Untag(t, ref)
	sockets := t.TempDir()
	r := &recorder{
		t: t, replace: strings.NewReplacer(address, "registry.example", sockets, "/sockets"),
		engine: http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return dialEngine() }}},
	}
	live(t, docker.Options{Host: listenUnix(t, r)}, ref, sockets)
	r.wg.Wait()
	text, err := json.MarshalIndent(r.recording, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(recordingFile, append(text, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}
