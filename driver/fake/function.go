package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/tinefn/tine/driver"
)

// Names in a socket directory. Source: the function container contract.
const (
	socketName = "lsnr.sock"
	phonyName  = "phony" + socketName
)

// runFunction is the life of a process that serves calls.
func (c *Container) runFunction() {
	if c.script.NeverSocket || !c.sleep(c.script.SocketDelay) {
		<-c.process.Done()
		return
	}
	listener, err := c.makeSocket()
	if err != nil {
		fmt.Fprintln(orDiscard(c.spec.Stderr), err)
		c.end(driver.Exit{Code: 1}) // as function kits do
		return
	}
	if c.engine.opts.OnReady != nil {
		c.engine.opts.OnReady(c.spec)
	}
	if listener == nil {
		<-c.process.Done()
		return
	}
	c.serve(listener)
}

// serve answers calls until the process is killed, and then ends their
// connections.
func (c *Container) serve(listener net.Listener) {
	server := &http.Server{
		Handler:     http.HandlerFunc(c.answer),
		ErrorLog:    log.New(io.Discard, "", 0), // aborted answers are meant
		BaseContext: func(net.Listener) context.Context { return c.process },
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				c.wg.Add(1)
			case http.StateClosed, http.StateHijacked:
				c.wg.Done()
			default: // the connection lives on
			}
		},
	}
	c.wg.Go(func() {
		<-c.process.Done()
		_ = server.Close() // connections of a killed process end anyhow
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		c.end(driver.Exit{Code: 1})
	}
}

func (c *Container) answer(w http.ResponseWriter, r *http.Request) {
	if !c.awaitThaw() {
		panic(http.ErrAbortHandler)
	}
	if c.script.CrashOnCall {
		w.Header().Set("Content-Length", "2")
		_, _ = io.WriteString(w, "x") // half the answer; the connection ends anyhow
		_ = http.NewResponseController(w).Flush()
		c.end(driver.Exit{Code: 1})
		panic(http.ErrAbortHandler)
	}
	handler := c.script.Handler
	if handler == nil {
		handler = c.engine.opts.Handler
	}
	handler.ServeHTTP(w, r)
	if c.process.Err() != nil { // killed meanwhile: no answer leaves a dead process
		panic(http.ErrAbortHandler)
	}
}

// makeSocket makes what the script wants under the socket's name. There is no
// listener if nothing is to be served.
func (c *Container) makeSocket() (net.Listener, error) {
	dir := c.spec.SocketDir
	if dir == "" {
		return nil, nil
	}
	name := filepath.Join(dir, socketName)
	if c.engine.opts.NoSocket {
		return nil, os.WriteFile(name, nil, 0o666)
	}
	switch c.script.BadSocket {
	case PlainFile:
		return nil, os.WriteFile(name, nil, 0o666)
	case DanglingLink:
		return nil, os.Symlink("absent.sock", name)
	case ParentLink:
		return nil, os.Symlink("../"+socketName, name)
	case DirectSocket:
		return listen(dir, socketName)
	default: // a socket behind a link, below
	}
	listener, err := listen(dir, phonyName)
	if err != nil {
		return nil, err
	}
	target := phonyName
	if c.script.BadSocket == AbsoluteLink {
		target = filepath.Join(dir, phonyName)
	}
	if err := os.Symlink(target, name); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// listen makes a socket that everybody may connect to. In a container the
// directory has a short path; here it may be longer than a socket's address
// can be, so the socket is made by way of the open directory.
func listen(dir, name string) (_ net.Listener, err error) {
	opened, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	path := filepath.Join("/proc/self/fd", strconv.FormatUint(uint64(opened.Fd()), 10), name)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // the path ends with this function
	if err := os.Chmod(filepath.Join(dir, name), 0o666); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}
