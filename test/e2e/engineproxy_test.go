package e2e

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// What an engine does that does not work.
const (
	refuses = "refuses connections"
	hangs   = "hangs"
	errs    = "answers with errors"
)

// engineProxy stands between a server and the container engine, so that the
// engine can be taken away without ending it.
type engineProxy struct {
	t      *testing.T
	path   string // of its socket
	engine string // address of the real engine's socket
	wg     sync.WaitGroup

	mu       sync.Mutex // guards the rest
	listener net.Listener
	broken   string // one of the above; "": it works
	conns    map[net.Conn]struct{}
}

func newEngineProxy(t *testing.T) *engineProxy {
	t.Helper()
	engine, isUnix := strings.CutPrefix(os.Getenv("DOCKER_HOST"), "unix://")
	if os.Getenv("DOCKER_HOST") == "" {
		engine, isUnix = "/var/run/docker.sock", true
	}
	if !isUnix {
		t.Skip("the engine is not at a unix socket")
	}
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	p := &engineProxy{t: t, path: filepath.Join(dir, "engine.sock"), engine: engine, conns: map[net.Conn]struct{}{}}
	p.repair()
	t.Cleanup(func() {
		p.breakDown(refuses)
		p.wg.Wait()
		os.RemoveAll(dir)
	})
	return p
}

// breakDown takes the engine away. Connections that exist fall silent if it
// hangs and are cut otherwise.
func (p *engineProxy) breakDown(how string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = how
	if how == hangs {
		return
	}
	if how == refuses && p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	for conn := range p.conns {
		conn.Close()
	}
}

// repair makes the engine answer again. Connections that hung are cut.
func (p *engineProxy) repair() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = ""
	for conn := range p.conns {
		conn.Close()
	}
	if p.listener != nil {
		return
	}
	listener, err := net.Listen("unix", p.path)
	if err != nil {
		p.t.Fatal(err)
	}
	p.listener = listener
	p.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(conn) })
		}
	})
}

func (p *engineProxy) serve(conn net.Conn) {
	defer conn.Close()
	if p.state() == errs {
		answerWithError(conn)
		return
	}
	engine, err := net.Dial("unix", p.engine)
	if err != nil {
		return
	}
	defer engine.Close()
	p.mu.Lock()
	p.conns[conn], p.conns[engine] = struct{}{}, struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, conn)
		delete(p.conns, engine)
	}()
	p.wg.Go(func() {
		p.copy(engine, conn)
		if half, ok := engine.(*net.UnixConn); ok {
			_ = half.CloseWrite() // the other direction goes on
		}
	})
	p.copy(conn, engine)
}

func (p *engineProxy) state() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}

// answerWithError serves one request as an engine with a fault inside does.
func answerWithError(conn net.Conn) {
	request, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, request.Body) // the answer is the same
	_, _ = io.WriteString(conn, "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n"+
		"Content-Length: 32\r\nConnection: close\r\n\r\n{\"message\":\"layer store broken\"}")
}

// copy passes bytes on, and swallows them while the engine hangs.
func (p *engineProxy) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && p.state() != hangs {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				to.Close()
			}
			return
		}
	}
}
