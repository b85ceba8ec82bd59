//go:build linux

package seccomp

import (
	"fmt"

	"golang.org/x/sys/unix"
)

//go:generate go run ./gensyscalls numbers.go

// number is a system call's number in an ABI.
type number struct {
	nr   uint32
	name string
}

// abi is a way in which processes call the kernel: the meaning of numbers. On
// one machine there are several.
type abi struct {
	name  string
	audit uint32 // AUDIT_ARCH_*, by which the kernel tells filters the architecture
	calls []number
}

// x32 is an ABI with pointers of 32 bits on amd64. The kernel reports it as
// amd64, and adds this to the number: __X32_SYSCALL_BIT of asm/unistd.h.
const x32Bit = 0x4000_0000

// abisOf returns the ABIs of a machine that the default profile allows: its
// own first, then those of older programs.
func abisOf(arch string) ([]abi, error) {
	switch arch {
	case "amd64":
		return []abi{
			{"amd64", unix.AUDIT_ARCH_X86_64, numbersAMD64},
			{"x32", unix.AUDIT_ARCH_X86_64, x32Numbers()},
			{"x86", unix.AUDIT_ARCH_I386, numbers386},
		}, nil
	case "arm64":
		return []abi{
			{"arm64", unix.AUDIT_ARCH_AARCH64, numbersARM64},
			{"arm", unix.AUDIT_ARCH_ARM, append(numbersARM[:len(numbersARM):len(numbersARM)], armPrivate...)},
		}, nil
	}
	return nil, fmt.Errorf("there are no tables of system calls for the architecture %s: only for amd64 and arm64", arch)
}

// x32Own are the calls that have a number of their own in x32, because they
// pass structures that contain pointers: the entries marked x32 in the
// kernel's arch/x86/entry/syscalls/syscall_64.tbl.
var x32Own = []number{
	{512, "rt_sigaction"},
	{513, "rt_sigreturn"},
	{514, "ioctl"},
	{515, "readv"},
	{516, "writev"},
	{517, "recvfrom"},
	{518, "sendmsg"},
	{519, "recvmsg"},
	{520, "execve"},
	{521, "ptrace"},
	{522, "rt_sigpending"},
	{523, "rt_sigtimedwait"},
	{524, "rt_sigqueueinfo"},
	{525, "sigaltstack"},
	{526, "timer_create"},
	{527, "mq_notify"},
	{528, "kexec_load"},
	{529, "waitid"},
	{530, "set_robust_list"},
	{531, "get_robust_list"},
	{532, "vmsplice"},
	{533, "move_pages"},
	{534, "preadv"},
	{535, "pwritev"},
	{536, "rt_tgsigqueueinfo"},
	{537, "recvmmsg"},
	{538, "sendmmsg"},
	{539, "process_vm_readv"},
	{540, "process_vm_writev"},
	{541, "setsockopt"},
	{542, "getsockopt"},
	{543, "io_setup"},
	{544, "io_submit"},
	{545, "execveat"},
	{546, "preadv2"},
	{547, "pwritev2"},
}

// x32Numbers are the numbers of amd64 and those that are x32's own. (A few
// calls of amd64 are not in x32 at all; the kernel answers ENOSYS, whatever
// the filter says.)
func x32Numbers() []number {
	own := map[string]bool{}
	calls := make([]number, 0, len(numbersAMD64)+len(x32Own))
	for _, n := range x32Own {
		own[n.name] = true
		calls = append(calls, number{n.nr | x32Bit, n.name})
	}
	for _, n := range numbersAMD64 {
		if !own[n.name] {
			calls = append(calls, number{n.nr | x32Bit, n.name})
		}
	}
	return calls
}

// armPrivateBase is where numbers begin that only 32 bit ARM has, and that say
// nothing about how new a call is.
const armPrivateBase = 0xf0000

// armPrivate are those of them that profiles name: arch/arm/include/uapi/asm/
// unistd.h of the kernel.
var armPrivate = []number{
	{armPrivateBase + 1, "breakpoint"},
	{armPrivateBase + 2, "cacheflush"},
	{armPrivateBase + 5, "set_tls"},
}
