package sandboxinit

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/driver/native/job"
)

// start runs the function's program: in the place of this process, or as its
// child.
func start(todo *job.Job, with files) error {
	dir := todo.Dir
	if dir == "" {
		dir = "/"
	}
	if err := unix.Chdir(dir); err != nil {
		return step(job.StepDirectory+dir, err)
	}
	if err := fence(todo, with.filter); err != nil {
		return err
	}
	program, err := find(todo.Args[0], todo.Env)
	if err != nil {
		return step(job.StepFind, err)
	}
	// Nothing that is open here is for the function, whatever its flags say.
	if err := unix.CloseRange(socket+1, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return step("close files", err)
	}
	if !todo.Init {
		err := unix.Exec(program, todo.Args, todo.Env) // the end of the socket tells of its success
		return step(job.StepExecute+program, err)
	}
	pid, err := syscall.ForkExec(program, todo.Args, &syscall.ProcAttr{Env: todo.Env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return step(job.StepExecute+program, err)
	}
	_ = unix.Close(socket) // likewise
	reap(pid)
	return nil
}

// errNoProgram is for a name that is in no directory of PATH.
var errNoProgram = errors.New("it is in no directory of PATH, or not executable")

// defaultPath is where programs are if the image does not say. Source: Docker's
// default for Linux.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// find returns the path of a program as a shell would.
func find(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil // exec knows what is wrong with it
	}
	list := defaultPath
	for _, variable := range env {
		if value, found := strings.CutPrefix(variable, "PATH="); found {
			list = value
		}
	}
	for _, dir := range filepath.SplitList(list) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() && unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, errNoProgram)
}

// passed are the signals that a child gets as well.
var passed = []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2}

// signalBase is added to the number of a signal that ended the program, for the
// exit code.
const signalBase = 128

// reap waits for all processes, as process 1 has to, until the program has ended,
// and ends like it.
func reap(program int) {
	signals := make(chan os.Signal, len(passed))
	signal.Notify(signals, passed...)
	go func() {
		for got := range signals {
			if number, ok := got.(syscall.Signal); ok {
				_ = unix.Kill(program, number)
			}
		}
	}()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			os.Exit(failed) // there is no child left, and the program was one
		case pid == program && status.Signaled():
			os.Exit(signalBase + int(status.Signal()))
		case pid == program && status.Exited():
			os.Exit(status.ExitStatus())
		}
	}
}
