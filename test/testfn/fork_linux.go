package main

import "syscall"

// fork makes at most n processes that sleep, tells how many the kernel let it,
// and ends them. There is nothing but system calls in between: where no process
// can be made, the runtime cannot make a thread either, and would end.
func fork(n int) (made int) {
	pids := make([]uintptr, max(n, 0))
	for made < len(pids) {
		pid, _, failed := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
		if failed != 0 {
			break
		}
		if pid == 0 {
			for { // the new process
				_, _, _ = syscall.RawSyscall6(syscall.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
			}
		}
		pids[made] = pid
		made++
	}
	for _, pid := range pids[:made] {
		_, _, _ = syscall.RawSyscall(syscall.SYS_KILL, pid, uintptr(syscall.SIGKILL), 0)
		_, _, _ = syscall.RawSyscall6(syscall.SYS_WAIT4, pid, 0, 0, 0, 0, 0)
	}
	return made
}
