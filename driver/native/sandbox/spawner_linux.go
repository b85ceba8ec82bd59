// Package sandbox starts and ends sandboxes: child processes of the server in
// namespaces of their own, which wait for a job and then become a function.
//
// What a sandbox does until then is in package sandboxinit; the job, in package
// job. Who decides how many there are, and which function gets one, is the
// driver's pool.
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/tinefn/tine/internal/osthread"
)

// Spawner starts sandboxes. The kernel ends a sandbox when the thread ends that
// started it, so they are all started by one that lives as long as the Spawner.
// It is safe for concurrent use.
type Spawner struct {
	foreign map[pipeID]selfPipe // pipes that are not for closeLeftPipes
	program *os.File
	args    []string
	thread  *osthread.Thread
	once    sync.Once // for Close
}

// InitName is the program that a sandbox begins with, beside the server's own.
const InitName = "sandbox-init"

// SelfArg is the argument with which a server that has no such program beside it
// starts itself as one: it then calls sandboxinit.Main before all else.
const SelfArg = "tine-sandbox-init"

// FindInit returns the program that sandboxes begin with, and its arguments: the
// one beside this program, or else this program itself.
func FindInit() (program string, args []string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("find the sandbox's first program: %w", err)
	}
	beside := filepath.Join(filepath.Dir(self), InitName)
	if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
		return beside, []string{InitName}, nil
	}
	return self, []string{SelfArg}, nil
}

// programPath is the program as a sandbox executes it, from its fourth descriptor:
// the way to it on disk may be closed to who is root in a user namespace only.
const programPath = "/proc/self/fd/4"

// NewSpawner returns a Spawner of sandboxes that begin with a program. Close ends
// it, and all of its sandboxes.
func NewSpawner(path string, args []string) (*Spawner, error) {
	program, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("find the sandbox's first program: %w", err)
	}
	return &Spawner{program: program, args: args, foreign: selfPipes(), thread: osthread.Start()}, nil
}

// errClosed is for what comes after Close.
var errClosed = errors.New("no sandboxes are started any more")

// run does something on the thread.
func (s *Spawner) run(do func() error) (err error) {
	if !s.thread.Do(func() { err = do() }) {
		return errClosed
	}
	return err
}

// Close ends the thread. No Spawn may be under way.
func (s *Spawner) Close() {
	s.once.Do(func() {
		s.thread.Close()
		_ = s.program.Close() // only read
	})
}
