package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/tinefn/tine/internal/sockdir"
)

// plain starts the test function as a process of this machine, with nothing around it:
// the floor of what a cold call can take. There is no server, no isolation, no limit, and
// no image; the process's socket is waited for in the way in which the server waits.
type plain struct {
	program string
	sockets *sockdir.Manager
}

func (b *bench) openPlain() (*plain, error) {
	dir, err := b.makeDir()
	if err != nil {
		return nil, err
	}
	sockets, err := sockdir.New(sockdir.Options{Root: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	return &plain{b.function, sockets}, nil
}

func (p *plain) close() error { return p.sockets.Close() }

// plainHeader is what a function expects of a call, beside that of row cold.
const plainHeader = echoHeader + "Fn-Call-Id: bench\r\nFn-Deadline: 2100-01-01T00:00:00Z\r\n"

// start starts a process and calls it once. The time is from before the start until the
// answer is there.
func (p *plain) start(ctx context.Context) (took time.Duration, err error) {
	dir, err := p.sockets.Create()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, dir.Remove()) }()
	socket := filepath.Join(dir.EnginePath(), sockdir.SocketName)
	cmd := exec.CommandContext(ctx, p.program)
	cmd.Env = append(os.Environ(), "FN_FORMAT=http-stream", "FN_LISTENER=unix:"+socket)
	request := buildRequest("POST", "/call", plainHeader, echoBody)
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		_ = cmd.Process.Kill() // it is our child until Wait
		_ = cmd.Wait()         // it was killed
	}()
	select {
	case <-dir.Ready():
	case <-time.After(startLimit):
		return 0, fmt.Errorf("%s made no socket in %v", p.program, startLimit)
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	caller := newCaller(socket)
	defer caller.close()
	got, err := caller.do(ctx, request, nil)
	took = time.Since(began)
	if err == nil && (got.status != 200 || got.size != int64(len(echoBody))) {
		err = fmt.Errorf("the process answered %d with %d bytes", got.status, got.size)
	}
	return took, err
}
