// Package sandboxinit is the first process of a sandbox. It prepares what does
// not depend on the function, waits for a job, and becomes the function's program.
//
// It uses nothing but the standard library and x/sys, so that it starts fast and
// takes little memory while it waits. It is run by cmd/sandbox-init, or by a
// server that finds no such program beside it and starts itself once more.
//
//	namespaces (made by the clone) ─► prepare.go ─► "ready" ─► job ─► enter.go
//	    ─► fence.go ─► exec, or reap.go
//
// Every error goes to the server over the socket, as the step and its cause.
package sandboxinit

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/driver/native/job"
)

// The descriptors that a sandbox begins with, beside the function's standard ones:
// the socket to the server, and this program, from which it was executed.
const (
	socket  = 3
	program = 4
)

// processName is what is seen of a sandbox that waits.
const processName = "sandbox-init"

// failed is the exit code of a sandbox that could not run its job. The server
// has been told why.
const failed = 125

// Main is the program. It does not return.
func Main() {
	// What follows is about one thread: its capabilities, its signal at the death of
	// the server, and the program that takes its place.
	runtime.LockOSThread()
	unix.CloseOnExec(socket)
	_ = unix.Close(program)
	if err := run(); err != nil {
		report(err)
		os.Exit(failed)
	}
	os.Exit(0)
}

// step names a step that failed.
func step(name string, err error) error {
	if err == nil {
		return nil
	}
	return &job.Failure{Step: name, Cause: err.Error()}
}

func report(err error) {
	text := err.Error()
	if failure, ok := errors.AsType[*job.Failure](err); ok {
		text = failure.Step + "\x00" + failure.Cause
	}
	_, _ = unix.Write(socket, []byte(text)) // without the server there is nobody to tell
}

func run() error {
	if err := die(); err != nil {
		return err
	}
	name, _ := unix.BytePtrFromString(processName) // which has no zero in it
	if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0); err != nil {
		return step("set the process's name", err)
	}
	made, err := prepare()
	if err != nil {
		return err
	}
	if _, err := unix.Write(socket, []byte(job.Ready)); err != nil {
		return step("say that it waits", err)
	}
	todo, files, err := receive()
	if err != nil || todo == nil {
		return err
	}
	if err := made.enter(todo, files); err != nil {
		return err
	}
	return start(todo, files)
}

// die makes the kernel end this process when the thread that started it does, and
// makes sure that it has not ended before. A change of the user ends that.
func die() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return step("die with the server", err)
	}
	return nil
}

// files are what comes with a job. Those that it has none of are -1.
type files struct{ root, sockets, filter int }

// maxFiles is how many files come with a job at most.
const maxFiles = 3

// receive waits for a job. It is nil if the server has none any more.
func receive() (*job.Job, files, error) {
	message := make([]byte, job.MaxBytes)
	control := make([]byte, unix.CmsgSpace(maxFiles*4))
	n, controlled, flags, _, err := unix.Recvmsg(socket, message, control, unix.MSG_CMSG_CLOEXEC)
	for errors.Is(err, unix.EINTR) {
		n, controlled, flags, _, err = unix.Recvmsg(socket, message, control, unix.MSG_CMSG_CLOEXEC)
	}
	none := files{-1, -1, -1}
	switch {
	case err != nil:
		return nil, none, step("wait for a job", err)
	case n == 0:
		return nil, none, nil
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		return nil, none, step("read the job", errors.New("it is cut off"))
	}
	todo, err := job.Unmarshal(message[:n])
	if err != nil {
		return nil, none, step("read the job", err)
	}
	came, err := received(control[:controlled])
	if err != nil {
		return nil, none, step("read the job's files", err)
	}
	got := none
	for _, file := range []struct {
		given bool
		to    *int
	}{{true, &got.root}, {todo.HasSockets, &got.sockets}, {todo.HasFilter, &got.filter}} {
		if !file.given {
			continue
		}
		if len(came) == 0 {
			return nil, none, step("read the job's files", errors.New("one is missing"))
		}
		*file.to, came = came[0], came[1:]
	}
	if len(came) > 0 {
		return nil, none, step("read the job's files", fmt.Errorf("there are %d too many", len(came)))
	}
	return todo, got, nil
}

// received lists the descriptors in a control message.
func received(control []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	var all []int
	for _, message := range messages {
		some, err := unix.ParseUnixRights(&message)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}
