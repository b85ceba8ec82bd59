package driver

import (
	"errors"
	"fmt"
	"syscall"
)

// ErrExhausted: the machine has none left of something that a container needs, such
// as processes, memory, open files, disk space or addresses. Nothing is left of the
// attempt, and the next one succeeds when somebody has given some back.
var ErrExhausted = errors.New("the machine has no room for another container")

// shortages are what the kernel says when it has none left of something, and what
// can be done about it. Source: errno(3), and clone(2), mkdir(2), inotify_add_watch(2)
// and cgroup-v2 of the kernel's documentation for what else some of them mean.
var shortages = []struct {
	errno  syscall.Errno
	remedy string
}{
	{syscall.EAGAIN, "the limit of processes or control groups is reached: run fewer instances, or raise kernel.pid_max, kernel.threads-max and the limits of the server's control group (pids.max, for systemd TasksMax)"},
	{syscall.ENOMEM, "the kernel has no memory for it: run fewer instances, or set FN_MAX_TOTAL_MEMORY_BYTES lower"},
	{syscall.EMFILE, "this server has as many files open as it may: raise its limit (ulimit -n, for systemd LimitNOFILE)"},
	{syscall.ENFILE, "the machine has as many files open as it may: raise fs.file-max"},
	{syscall.ENOSPC, "the disk is full, or a limit of the kernel is reached, such as those of namespaces (user.max_*_namespaces), mounts (fs.mount-max) or watches (fs.inotify.max_user_watches): free or raise what is named before"},
	{syscall.EDQUOT, "the disk quota is reached: free some space"},
}

// Exhausted adds ErrExhausted and what to do about it to an error of the operating
// system that says so. Other errors, and nil, are returned as they are.
func Exhausted(err error) error {
	if err == nil || errors.Is(err, ErrExhausted) {
		return err
	}
	for _, shortage := range shortages {
		if errors.Is(err, shortage.errno) {
			return fmt.Errorf("%w: %w; %s", ErrExhausted, err, shortage.remedy)
		}
	}
	return err
}
