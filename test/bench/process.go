package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Bounds for a process to serve after its start, and to end when asked. A
// server with many containers takes a while to remove them.
const (
	startLimit = 20 * time.Second
	stopLimit  = 90 * time.Second
)

// process is a running child.
type process struct {
	name  string
	log   string // path of its output
	cmd   *exec.Cmd
	ended chan struct{} // closed when it ended; err is set before
	err   error
}

// startProcess starts a command whose output goes to the file log.
func startProcess(name, log string, cmd *exec.Cmd) (*process, error) {
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // the child has its own descriptor
	cmd.Stdout, cmd.Stderr = file, file
	// A Ctrl-C at the terminal is for this program, which ends its children in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, log: log, cmd: cmd, ended: make(chan struct{})}
	go func() { // stop waits for it
		p.err = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// await waits until the process is ready. If it ends before, the error shows
// what it said.
func (p *process) await(ctx context.Context, every time.Duration, ready func() (bool, error)) error {
	err := poll(ctx, every, startLimit, func() (bool, error) {
		select {
		case <-p.ended:
			return false, fmt.Errorf("it ended: %w", errors.Join(p.err, errEnded))
		default:
			return ready()
		}
	})
	if err != nil {
		return fmt.Errorf("%s does not serve: %w\n%s", p.name, err, p.lastOutput())
	}
	return nil
}

var errEnded = errors.New("process ended")

// outputShown is how much of a process's output goes into an error, in bytes.
const outputShown = 2000

func (p *process) lastOutput() []byte {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	return bytes.TrimSpace(text[max(0, len(text)-outputShown):])
}

// stop asks the process to end and waits until it has.
func (p *process) stop() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended by itself: %w\n%s", p.name, errors.Join(p.err, errEnded), p.lastOutput())
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended just now
	select {
	case <-p.ended:
	case <-time.After(stopLimit):
		_ = p.cmd.Process.Kill() // likewise
		<-p.ended
	}
	if p.err != nil {
		return fmt.Errorf("%s ended with %w\n%s", p.name, p.err, p.lastOutput())
	}
	return nil
}
