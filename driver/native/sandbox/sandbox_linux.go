package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/driver/native/job"
)

// namespaces are those that every sandbox has of its own.
const namespaces = unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// Sandbox is one child process: it waits for a job, runs it, or has ended.
type Sandbox struct {
	PID    int
	Stdout *os.File // what the function prints; the reader closes it
	Stderr *os.File

	pidfd  *os.File
	users  *os.File // its user namespace; nil: the server's
	ids    IDs
	socket *net.UnixConn
	done   chan struct{} // closed when the process has ended; status is set before
	status Status

	closeOnce sync.Once
}

// Status is how a sandbox's process ended.
type Status struct {
	Code   int // exit code, or the number of the signal
	Signal bool
}

// Options of one sandbox.
type Options struct {
	Cgroup *os.File // directory of the group of version 2 that it begins in; nil: the server's
	IDs    IDs      // of the host, for the users in it; none: those of the host itself

	// Enter, if set, is called on the thread that starts the process, before, and what
	// it returns after that: the process begins with what a thread passes on.
	Enter func() (leave func() error)
}

// Spawn starts a sandbox. It is not ready yet: see Ready. The caller calls Kill and
// Close in the end.
func (s *Spawner) Spawn(opts Options) (*Sandbox, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a sandbox's socket: %w", err)
	}
	theirs := os.NewFile(uintptr(ends[1]), "socket")
	defer func() { _ = theirs.Close() }() // only a descriptor
	box := &Sandbox{done: make(chan struct{})}
	if box.socket, err = connOf(ends[0]); err != nil {
		return nil, err
	}
	var stdout, stderr *os.File
	if box.Stdout, stdout, err = os.Pipe(); err != nil {
		return nil, errors.Join(fmt.Errorf("make a sandbox's output: %w", err), box.socket.Close())
	}
	defer func() { _ = stdout.Close() }() // only a descriptor
	if box.Stderr, stderr, err = os.Pipe(); err != nil {
		return nil, errors.Join(fmt.Errorf("make a sandbox's output: %w", err), box.socket.Close(), box.Stdout.Close())
	}
	defer func() { _ = stderr.Close() }() // only a descriptor
	if err := box.begin(s, opts, theirs, stdout, stderr); err != nil {
		return nil, errors.Join(err, box.socket.Close(), box.Stdout.Close(), box.Stderr.Close())
	}
	go box.reap()
	return box, nil
}

func connOf(fd int) (*net.UnixConn, error) {
	file := os.NewFile(uintptr(fd), "socket")
	defer func() { _ = file.Close() }() // the connection has a copy
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("use a sandbox's socket: %w", err)
	}
	return conn.(*net.UnixConn), nil // as it was made
}

// initEnv is the environment of the first program, which the function does not
// get. Go's runtime would look at the server's control group to choose the number
// of its threads, and keep files of it open; one is enough to wait.
var initEnv = []string{"GODEBUG=containermaxprocs=0,updatemaxprocs=0", "GOMAXPROCS=1"}

// begin starts the process.
func (b *Sandbox) begin(s *Spawner, opts Options, socket, stdout, stderr *os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = null.Close() }() // only a descriptor
	pidfd := -1
	attr := &syscall.SysProcAttr{Cloneflags: namespaces, Setsid: true, PidFD: &pidfd}
	if opts.Cgroup != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(opts.Cgroup.Fd())
	}
	if opts.IDs.some() {
		opts.IDs.apply(attr)
	}
	err = s.run(func() (err error) {
		if opts.Enter != nil {
			leave := opts.Enter()
			defer func() { err = errors.Join(err, leave()) }()
		}
		process, err := os.StartProcess(programPath, s.args, &os.ProcAttr{
			Env: initEnv, Files: []*os.File{null, stdout, stderr, socket, s.program}, Sys: attr, Dir: "/",
		})
		if err != nil {
			if opts.IDs.some() {
				s.closeLeftPipes()
			}
			return err
		}
		b.PID = process.Pid
		return process.Release()
	})
	if err != nil && b.PID > 0 {
		err = errors.Join(err, unix.Close(pidfd), b.abandon())
	}
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("start a sandbox: %w: the native driver needs root, or set FN_DRIVER=docker", err)
	case err != nil:
		return fmt.Errorf("start a sandbox: %w", err)
	case pidfd < 0:
		return errors.Join(errors.New("start a sandbox: the kernel has no pidfd, Linux 5.10 or newer is needed"), b.abandon())
	}
	if err := unix.SetNonblock(pidfd, true); err != nil {
		return errors.Join(fmt.Errorf("watch a sandbox: %w", err), unix.Close(pidfd), b.abandon())
	}
	b.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	if opts.IDs.some() {
		b.ids = opts.IDs
		if b.users, err = openUsers(b.PID); err != nil {
			return errors.Join(err, b.pidfd.Close(), b.abandon())
		}
	}
	return nil
}

// abandon ends a process that cannot be used.
func (b *Sandbox) abandon() error {
	if err := unix.Kill(b.PID, unix.SIGKILL); err != nil {
		return err
	}
	_, err := unix.Wait4(b.PID, nil, 0, nil)
	return err
}

// reap waits for the end of the process, without a thread that does.
func (b *Sandbox) reap() {
	defer close(b.done)
	conn, err := b.pidfd.SyscallConn()
	if err == nil {
		err = conn.Read(func(fd uintptr) bool {
			var info waitInfo
			switch err := waitid(int(fd), &info); {
			case errors.Is(err, unix.EAGAIN), err == nil && info.pid == 0:
				return false
			case err == nil:
				b.status = Status{Code: int(info.status), Signal: info.code != cldExited}
			}
			return true
		})
	}
	if err != nil { // cannot happen, as far as anybody knows
		_ = unix.Kill(b.PID, unix.SIGKILL)
		b.status = Status{Code: int(unix.SIGKILL), Signal: true}
	}
}

// Ready waits until the sandbox waits for a job.
func (b *Sandbox) Ready(ctx context.Context) error {
	answer, err := b.receive(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("prepare a sandbox: %w", err)
	case answer == job.Ready:
		return nil
	}
	return fmt.Errorf("prepare a sandbox: %w", failureOf(answer))
}

// Files come with a job. The caller closes them.
type Files struct {
	Root    *os.File // detached mount of the root file system
	Sockets *os.File // detached mount of the directory of sockets; nil: none
	Filter  *os.File // the seccomp program; nil: none
}

// Rlimit is a limit of a process, soft and hard.
type Rlimit struct {
	Resource int // as in setrlimit(2)
	Value    uint64
}

// Limit sets limits of the first process, which all others inherit. The server
// does, as the root of a user namespace may only lower them.
func (b *Sandbox) Limit(limits []Rlimit) error {
	for _, limit := range limits {
		if err := unix.Prlimit(b.PID, limit.Resource, &unix.Rlimit{Cur: limit.Value, Max: limit.Value}, nil); err != nil {
			return fmt.Errorf("set the limit of resource %d to %d: %w", limit.Resource, limit.Value, err)
		}
	}
	return nil
}

// giveOutput makes the function's user the owner of its output, so that it can open
// /dev/stdout, as programs do whose log is a file.
func (b *Sandbox) giveOutput(uid, gid uint32) error {
	for _, output := range []*os.File{b.Stdout, b.Stderr} {
		conn, err := output.SyscallConn()
		if err != nil {
			return err
		}
		var owned error
		err = conn.Control(func(fd uintptr) { owned = unix.Fchown(int(fd), b.ids.Host(uid), b.ids.Host(gid)) })
		if err := errors.Join(err, owned); err != nil {
			return fmt.Errorf("give the function its output: %w", err)
		}
	}
	return nil
}

// Run gives the sandbox a job and returns when the function's program runs. After
// an error the sandbox is of no use.
func (b *Sandbox) Run(ctx context.Context, todo *job.Job, files Files) error {
	if err := b.giveOutput(todo.UID, todo.GID); err != nil {
		return err
	}
	todo.HasSockets, todo.HasFilter = files.Sockets != nil, files.Filter != nil
	message, err := todo.Marshal()
	if err != nil {
		return err
	}
	fds := []int{int(files.Root.Fd())}
	for _, file := range []*os.File{files.Sockets, files.Filter} {
		if file != nil {
			fds = append(fds, int(file.Fd()))
		}
	}
	if err := b.socket.SetWriteDeadline(deadlineOf(ctx)); err != nil {
		return err
	}
	if _, _, err := b.socket.WriteMsgUnix(message, unix.UnixRights(fds...), nil); err != nil {
		return fmt.Errorf("give a sandbox its job: %w", err)
	}
	answer, err := b.receive(ctx)
	switch {
	case errors.Is(err, io.EOF):
		return nil // the program has taken its place
	case err != nil:
		return fmt.Errorf("start the function: %w", err)
	}
	return failureOf(answer)
}

// failureOf reads what a sandbox says when a step failed.
func failureOf(answer string) error {
	name, cause, found := strings.Cut(answer, "\x00")
	if !found {
		return fmt.Errorf("a sandbox says %q", answer)
	}
	return &job.Failure{Step: name, Cause: cause}
}

// maxAnswer is the length of an answer that is not cut.
const maxAnswer = 4 << 10

// receive waits for a message of the sandbox.
func (b *Sandbox) receive(ctx context.Context) (string, error) {
	stop := context.AfterFunc(ctx, func() { _ = b.socket.SetReadDeadline(past) })
	defer stop()
	if err := b.socket.SetReadDeadline(deadlineOf(ctx)); err != nil {
		return "", err
	}
	answer := make([]byte, maxAnswer)
	n, err := b.socket.Read(answer)
	switch {
	case ctx.Err() != nil && err != nil:
		return "", ctx.Err()
	case err == nil && n == 0:
		err = io.EOF
	}
	return string(answer[:n]), err
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// deadlineOf is the zero time for none.
func deadlineOf(ctx context.Context) time.Time {
	deadline, _ := ctx.Deadline()
	return deadline
}

// Signal sends a signal to the sandbox's first process.
func (b *Sandbox) Signal(signal syscall.Signal) error {
	conn, err := b.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), signal, nil, 0) })
	return errors.Join(err, sent)
}

// Kill ends the first process, with which the kernel ends all others in it. It may be
// repeated, also after Close.
func (b *Sandbox) Kill() error {
	select {
	case <-b.done:
		return nil
	default:
	}
	if err := b.Signal(unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// Done is closed when the first process has ended.
func (b *Sandbox) Done() <-chan struct{} { return b.done }

// Ended asks the kernel whether the first process has ended, of which Done tells a
// moment later.
func (b *Sandbox) Ended() bool {
	select {
	case <-b.done:
		return true
	default:
	}
	ready := 0
	conn, err := b.pidfd.SyscallConn()
	if err == nil {
		err = conn.Control(func(fd uintptr) {
			ready, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0) // it is alive after an error
		})
	}
	return err != nil || ready > 0 // an error is of one that was closed
}

// Status is how it ended. Call it after Done.
func (b *Sandbox) Status() Status { return b.status }

// How long a killed process may take to end. One that nothing holds takes
// milliseconds, or longer to give back much memory. One that waits for a disk, or is
// traced, may take for ever.
const (
	endPatience = 5 * time.Second // at most, whatever the context allows
	endGrace    = time.Second     // at least, also when the context has ended
)

// AwaitEnd waits until the first process has ended, as far as ctx and endPatience
// allow. The error says what it does instead.
func (b *Sandbox) AwaitEnd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	select {
	case <-b.done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-b.done:
		return nil
	case <-time.After(endGrace):
		return fmt.Errorf("process %d has not ended (%s): %w", b.PID, activity(b.PID), ctx.Err())
	}
}

// activity is what the kernel says about a process that does not end: its state, and
// the process that traces it, 0 for none.
func activity(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err.Error()
	}
	var told []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "State:") || strings.HasPrefix(line, "TracerPid:") {
			told = append(told, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(told, ", ")
}

// Close frees what the server has of a sandbox, but for its output, when it has
// ended: it waits for that like AwaitEnd. It may be repeated.
func (b *Sandbox) Close(ctx context.Context) error {
	err := b.AwaitEnd(ctx)
	if err != nil {
		return err
	}
	b.closeOnce.Do(func() {
		err = errors.Join(b.socket.Close(), b.pidfd.Close())
		if b.users != nil {
			err = errors.Join(err, b.users.Close())
		}
	})
	return err
}
