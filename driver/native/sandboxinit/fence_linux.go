package sandboxinit

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/driver/native/job"
)

// highestCapability is more than any kernel has.
const highestCapability = 63

// fence takes away from this process what the function is not to have. The order
// matters: each step needs a right that a later one takes.
func fence(todo *job.Job, filter int) error {
	if err := unix.Sethostname([]byte(todo.Host)); err != nil {
		return step("set the host name", err)
	}
	if err := limitFiles(todo.OpenFiles); err != nil {
		return step("set the limit of open files", err)
	}
	for number := range uintptr(highestCapability) {
		if todo.Capabilities&(1<<number) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, number, 0, 0, 0); err == unix.EINVAL {
			break // there are no more
		} else if err != nil {
			return step("drop capabilities", err)
		}
	}
	if todo.Capabilities != 0 { // they are to outlive the change of the user
		if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
			return step("keep capabilities", err)
		}
	}
	// These are for all threads.
	groups := make([]int, len(todo.Groups))
	for i, group := range todo.Groups {
		groups[i] = int(group)
	}
	if err := syscall.Setgroups(groups); err != nil {
		return step("set further groups", err)
	}
	if err := syscall.Setresgid(int(todo.GID), int(todo.GID), int(todo.GID)); err != nil {
		return step("set the group", err)
	}
	if err := syscall.Setresuid(int(todo.UID), int(todo.UID), int(todo.UID)); err != nil {
		return step("set the user", err)
	}
	if todo.HasFilter && todo.NewPrivs {
		// Without the ban on new privileges only who may administer installs one,
		// and the filter knows what follows. A change to another user than root has
		// left that right, but not in effect.
		if err := setCapabilities(todo.Capabilities | 1<<unix.CAP_SYS_ADMIN); err != nil {
			return step("set capabilities", err)
		}
		if err := install(filter); err != nil {
			return step("install the system call filter", err)
		}
	}
	if err := setCapabilities(todo.Capabilities); err != nil {
		return step("set capabilities", err)
	}
	if err := die(); err != nil { // the change of the user ended it
		return err
	}
	if !todo.NewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return step("forbid new privileges", err)
		}
	}
	if todo.HasFilter && !todo.NewPrivs {
		if err := install(filter); err != nil {
			return step("install the system call filter", err)
		}
	}
	return nil
}

// limitFiles sets the limit that the program has, which may be lower than what this
// process needed until now, and 0 for the one that the server has set. That one has to
// be set as well: Go's runtime raises its own at the start, and takes that back before
// it executes another program, unless the limit was set in between.
func limitFiles(most uint64) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if most > 0 {
		limit = unix.Rlimit{Cur: most, Max: most}
	}
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}

// setCapabilities leaves this thread exactly these.
func setCapabilities(set uint64) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	low, high := uint32(set), uint32(set>>32)
	data := [2]unix.CapUserData{
		{Effective: low, Permitted: low, Inheritable: 0},
		{Effective: high, Permitted: high, Inheritable: 0},
	}
	return unix.Capset(&header, &data[0])
}

// maxFilter is how many instructions the kernel takes: BPF_MAXINSNS.
const maxFilter = 4096

// install reads the filter and gives it to the kernel, for all threads.
func install(file int) error {
	code := make([]byte, maxFilter*unix.SizeofSockFilter+1)
	n, err := unix.Pread(file, code, 0)
	if err != nil {
		return err
	}
	if n == 0 || n%unix.SizeofSockFilter != 0 || n > maxFilter*unix.SizeofSockFilter {
		return fmt.Errorf("it has %d bytes", n)
	}
	program := unix.SockFprog{Len: uint16(n / unix.SizeofSockFilter), Filter: (*unix.SockFilter)(unsafe.Pointer(&code[0]))}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}
