package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Deadlines for the server to answer after its start, and to end when asked.
const (
	startDeadline = 30 * time.Second
	stopDeadline  = 45 * time.Second
)

// buildServer builds the server into a directory, and beside it the program that its
// sandboxes begin with, which the server would stand in for by itself.
func buildServer(ctx context.Context, dir string) (binary string, err error) {
	binary = filepath.Join(dir, "fnserver")
	if err := goBuild(ctx, nil, "-o", binary, "./cmd/fnserver"); err != nil {
		return "", err
	}
	return binary, goBuild(ctx, []string{"CGO_ENABLED=0"}, "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "sandbox-init"), "./cmd/sandbox-init")
}

func goBuild(ctx context.Context, environ []string, args ...string) error {
	build := exec.CommandContext(ctx, "go", append([]string{"build"}, args...)...)
	build.Env = append(os.Environ(), environ...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("go build %s: %w", args[len(args)-1], err)
	}
	return nil
}

// server is a running fnserver.
type server struct {
	url   string
	log   string // path of its log
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process ended; err is set before
	err   error
}

// startServer starts the binary, with images that it loads, and waits until it answers.
func startServer(ctx context.Context, binary, dir, images string, port int) (*server, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	port, err := freePort(port)
	if err != nil {
		return nil, err
	}
	s := &server{
		url: "http://127.0.0.1:" + strconv.Itoa(port), log: filepath.Join(dir, "fnserver.log"),
		ended: make(chan struct{}),
	}
	log, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()            //nolint:errcheck // the server has its own descriptor
	s.cmd = exec.Command(binary) // it is stopped in order, not killed with the context
	s.cmd.Env = append(os.Environ(),
		"FN_PORT="+strconv.Itoa(port),
		"FN_DB_URL=sqlite3://"+filepath.Join(dir, "fn.db"),
		"FN_IOFS_PATH="+filepath.Join(dir, "iofs"),
		"FN_STATE_DIR="+dir,
		"FN_DOCKER_LOAD_FILE="+images,
	)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	// A Ctrl-C at the terminal is for this program, which then stops the server.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.ended)
	}()
	if err := s.awaitReady(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// freePort returns port, or any free one if it is taken.
func freePort(port int) (int, error) {
	listener, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	if err != nil {
		if listener, err = net.Listen("tcp", ":0"); err != nil {
			return 0, err
		}
	}
	return listener.Addr().(*net.TCPAddr).Port, listener.Close()
}

func (s *server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/version", nil)
		if err != nil {
			return err
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			return response.Body.Close()
		}
		select {
		case <-s.ended:
			text, _ := os.ReadFile(s.log) // shown as far as it can be read
			return fmt.Errorf("the server did not start:\n%s", text)
		case <-ctx.Done():
			return fmt.Errorf("the server did not answer within %v, see %s", startDeadline, s.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop asks the server to end and waits until it has.
func (s *server) stop() error {
	// An error means that it has ended already.
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(stopDeadline):
		_ = s.cmd.Process.Kill() // as above
		<-s.ended
	}
	if s.err != nil {
		return fmt.Errorf("the server ended with %w, see %s", s.err, s.log)
	}
	return nil
}
