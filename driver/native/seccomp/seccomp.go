//go:build linux

package seccomp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/moby/profiles/seccomp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Options say for which machine a filter is. Their zero value is the machine
// that this process runs on.
type Options struct {
	Arch          string        // as GOARCH: amd64 or arm64; empty is this process's
	KernelVersion KernelVersion // zero is the running kernel's

	// Capabilities are those that the process has, such as CAP_SYS_CHROOT: with
	// some of them the profile allows more.
	Capabilities []string
}

// KernelVersion is the part of a kernel's version that profiles look at, such
// as 6.18.
type KernelVersion struct{ Major, Minor int }

// atLeast reports whether v is the other version or newer.
func (v KernelVersion) atLeast(other KernelVersion) bool {
	return v.Major > other.Major || v.Major == other.Major && v.Minor >= other.Minor
}

// Default compiles Docker's default profile for a process with the given
// capabilities. It takes a millisecond or two and gives the same program each
// time, so it is for once per server, not for each process.
//
// A call that no rule names gets EPERM, as the profile says. Beyond the
// profile, and like runc, calls that are newer than all that it names get
// ENOSYS, so that programs fall back to older ones instead of giving up.
// (Linux adds calls with ascending numbers, so newer are those whose number is
// greater than all that the profile names.) Unlike under runc, a call of an
// architecture that the profile does not name ends the whole process and not
// just the thread, as a process that lost a thread hangs.
//
// The compiled program needs no cache of its own: as it looks at nothing but
// the number and the architecture unless a rule has conditions on arguments,
// Linux 5.11 and newer find out once which calls it always allows, and do not
// run it for those.
func Default(options Options) (Program, error) {
	arch := options.Arch
	if arch == "" {
		arch = runtime.GOARCH
	}
	version := options.KernelVersion
	if version == (KernelVersion{}) {
		var err error
		if version, err = runningKernel(); err != nil {
			return nil, err
		}
	}
	profile := withCapabilities(seccomp.DefaultProfile(), options.Capabilities)
	program, err := compile(profile, arch, version)
	if err != nil {
		return nil, fmt.Errorf("compile the default seccomp profile for %s and Linux %d.%d: %w", arch, version.Major, version.Minor, err)
	}
	return encode(program)
}

// runningKernel asks uname(2).
func runningKernel() (KernelVersion, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return KernelVersion{}, fmt.Errorf("ask for the kernel's version: %w", err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	var version KernelVersion
	if _, err := fmt.Sscanf(release, "%d.%d", &version.Major, &version.Minor); err != nil {
		return KernelVersion{}, fmt.Errorf("read the kernel's version from its release %q: %w", release, err)
	}
	return version, nil
}

// Program is a filter as the kernel takes it: an array of struct sock_filter
// (linux/filter.h: u16 code, u8 jt, u8 jf, u32 k) in the machine's byte order.
//
// Who installs it points the filter field of a struct sock_fprog at it, with
// Len as its len, and calls seccomp(SECCOMP_SET_MODE_FILTER) after
// prctl(PR_SET_NO_NEW_PRIVS) or with CAP_SYS_ADMIN.
type Program []byte

const (
	instructionSize = 8 // bytes of a struct sock_filter

	// maxInstructions is the kernel's limit for one program, BPF_MAXINSNS of
	// linux/bpf_common.h.
	maxInstructions = 4096
)

// Len is the number of instructions.
func (p Program) Len() int { return len(p) / instructionSize }

// Memfd returns a file in memory with the program, which can be handed to a
// child process and mapped by it. It is sealed: nobody who has it can change
// it. It is closed on exec, unless it is one of exec.Cmd's ExtraFiles. The
// caller closes it.
func (p Program) Memfd() (*os.File, error) {
	const name = "seccomp-filter"
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make a memory file for the seccomp filter: %w", err)
	}
	file := os.NewFile(uintptr(fd), name)
	if _, err := file.WriteAt(p, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("write the seccomp filter to its memory file: %w", err), file.Close())
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, errors.Join(fmt.Errorf("seal the memory file of the seccomp filter: %w", err), file.Close())
	}
	return file, nil
}

// encode writes instructions in the kernel's form.
func encode(instructions []bpf.Instruction) (Program, error) {
	if len(instructions) > maxInstructions {
		return nil, fmt.Errorf("the seccomp filter has %d instructions, the kernel takes %d: the profile needs fewer rules", len(instructions), maxInstructions)
	}
	raw, err := bpf.Assemble(instructions)
	if err != nil {
		return nil, fmt.Errorf("assemble the seccomp filter: %w", err)
	}
	var program bytes.Buffer
	if err := binary.Write(&program, binary.NativeEndian, raw); err != nil {
		return nil, fmt.Errorf("encode the seccomp filter: %w", err)
	}
	return program.Bytes(), nil
}
