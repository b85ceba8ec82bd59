//go:build linux

package seccomp

import (
	"encoding/json"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

var (
	newKernel = KernelVersion{6, 18}
	oldKernel = KernelVersion{4, 4}
)

// Every call of every ABI, with each interesting value in each argument, gets
// what the profile says.
func TestDefaultProfileIsTranslatedFaithfully(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		for _, version := range []KernelVersion{newKernel, oldKernel} {
			t.Run(arch, func(t *testing.T) {
				profile := seccomp.DefaultProfile()
				values := interesting(profile)
				filter := newMachine(t, profile, arch, version)
				want := reference{profile, arch, version}
				abis, err := abisOf(arch)
				if err != nil {
					t.Fatal(err)
				}
				conditional := map[string]bool{}
				for _, rule := range profile.Syscalls {
					for _, name := range rule.Names {
						conditional[name] = conditional[name] || len(rule.Args) > 0
					}
				}
				for _, abi := range abis {
					names := map[uint32]string{}
					for _, n := range abi.calls {
						names[n.nr] = n.name
					}
					for _, nr := range interestingNumbers(abi) {
						check := func(c call) {
							if got, want := filter.run(c), want.result(abi, c); got != want {
								t.Errorf("%s call %d %s%x: got %#x, want %#x", abi.name, nr, names[nr], c.args, got, want)
							}
						}
						c := call{nr: nr, audit: abi.audit}
						check(c)
						if !conditional[names[nr]] {
							continue
						}
						for i := range c.args {
							for _, value := range values {
								c := c
								c.args[i] = value
								check(c)
							}
						}
					}
				}
			})
		}
	}
}

// What the sandbox rests on, in words.
func TestWhatFunctionsMayDo(t *testing.T) {
	const (
		allow  = unix.SECCOMP_RET_ALLOW
		eperm  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
		enosys = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	)
	tests := []struct {
		name string
		args [maxArguments]uint64
		want uint32
	}{
		{"read", [6]uint64{}, allow},
		{"socket", [6]uint64{unix.AF_UNIX, unix.SOCK_STREAM}, allow},
		{"socket", [6]uint64{unix.AF_INET6, unix.SOCK_STREAM}, allow},
		{"socket", [6]uint64{unix.AF_VSOCK, unix.SOCK_STREAM}, eperm},
		{"socket", [6]uint64{unix.AF_ALG, unix.SOCK_SEQPACKET}, eperm},
		{"socket", [6]uint64{1<<32 | unix.AF_UNIX}, eperm},
		{"clone", [6]uint64{unix.CLONE_VM | unix.CLONE_THREAD}, allow},
		{"clone", [6]uint64{uint64(unix.SIGCHLD)}, allow},
		{"clone", [6]uint64{unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}, eperm},
		{"clone", [6]uint64{unix.CLONE_NEWNS}, eperm},
		{"clone3", [6]uint64{}, enosys},
		{"unshare", [6]uint64{}, eperm},
		{"mount", [6]uint64{}, eperm},
		{"bpf", [6]uint64{}, eperm},
		{"kexec_load", [6]uint64{}, eperm},
		{"keyctl", [6]uint64{}, eperm},
		{"io_uring_setup", [6]uint64{}, eperm},
		{"perf_event_open", [6]uint64{}, eperm},
		{"ptrace", [6]uint64{}, allow}, // since Linux 4.8
		{"personality", [6]uint64{0xffffffff}, allow},
		{"personality", [6]uint64{0x40000}, eperm},
		{"listns", [6]uint64{}, enosys}, // newer than the profile
	}
	for _, arch := range []string{"amd64", "arm64"} {
		filter := newMachine(t, seccomp.DefaultProfile(), arch, newKernel)
		abis, err := abisOf(arch)
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range tests {
			i := slices.IndexFunc(abis[0].calls, func(n number) bool { return n.name == tt.name })
			if i < 0 {
				t.Fatalf("%s has no call %s", arch, tt.name)
			}
			if got := filter.run(call{abis[0].calls[i].nr, abis[0].audit, tt.args}); got != tt.want {
				t.Errorf("%s %s%x: got %#x, want %#x", arch, tt.name, tt.args, got, tt.want)
			}
		}
	}
}

func TestPtraceIsRefusedBeforeItWasSafe(t *testing.T) {
	filter := newMachine(t, seccomp.DefaultProfile(), "amd64", oldKernel)
	if got := filter.run(call{nr: 101, audit: unix.AUDIT_ARCH_X86_64}); got != unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM) {
		t.Errorf("got %#x", got)
	}
}

func TestCallOfAnotherArchitectureEndsTheProcess(t *testing.T) {
	tests := map[string][]uint32{
		"amd64": {unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_PPC64LE, 0},
		"arm64": {unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, 0},
	}
	for arch, others := range tests {
		filter := newMachine(t, seccomp.DefaultProfile(), arch, newKernel)
		for _, other := range others {
			if got := filter.run(call{audit: other}); got != unix.SECCOMP_RET_KILL_PROCESS {
				t.Errorf("%s: architecture %#x: got %#x", arch, other, got)
			}
		}
	}
}

// Any profile, not just the default one, means the same compiled.
func TestProfilesAreTranslatedFaithfully(t *testing.T) {
	operators := []specs.LinuxSeccompOperator{
		specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual,
	}
	value := rapid.OneOf(
		rapid.Uint64(), rapid.Uint64Range(0, 3), rapid.Uint64Range(math.MaxUint32-1, math.MaxUint32+2),
		rapid.SampledFrom([]uint64{1 << 32, 2 << 32, 1<<32 | 1, math.MaxUint64, 1 << 63}))
	arg := rapid.Custom(func(t *rapid.T) specs.LinuxSeccompArg {
		a := specs.LinuxSeccompArg{
			Index: rapid.UintRange(0, maxArguments-1).Draw(t, "index"),
			Op:    rapid.SampledFrom(operators).Draw(t, "op"),
			Value: value.Draw(t, "value"),
		}
		if a.Op == specs.OpMaskedEqual && rapid.Bool().Draw(t, "possible") {
			a.ValueTwo = a.Value & value.Draw(t, "two")
		}
		return a
	})
	names := []string{"read", "write", "open", "socket", "clone", "uretprobe", "removexattrat", "execve", "umount2", "set_tls", "nosuchcall"}
	errno := rapid.UintRange(0, math.MaxUint16)
	action := rapid.SampledFrom([]specs.LinuxSeccompAction{specs.ActAllow, specs.ActErrno, specs.ActLog, specs.ActKillProcess})
	rule := rapid.Custom(func(t *rapid.T) *seccomp.Syscall {
		call := &seccomp.Syscall{}
		call.Names = rapid.SliceOfN(rapid.SampledFrom(names), 1, 4).Draw(t, "names")
		call.Action = action.Draw(t, "action")
		call.Args = rapid.SliceOfN(arg, 0, 4).Draw(t, "args")
		if call.Action == specs.ActErrno && rapid.Bool().Draw(t, "with errno") {
			e := errno.Draw(t, "errno")
			call.ErrnoRet = &e
		}
		if rapid.Bool().Draw(t, "with filter") {
			call.Includes = &seccomp.Filter{
				Caps:      rapid.SliceOfN(rapid.Just("CAP_SYS_ADMIN"), 0, 1).Draw(t, "caps"),
				Arches:    rapid.SliceOfN(rapid.SampledFrom([]string{"amd64", "arm64"}), 0, 2).Draw(t, "arches"),
				MinKernel: &seccomp.KernelVersion{Kernel: 5, Major: rapid.Uint64Range(0, 20).Draw(t, "minor")},
			}
			call.Excludes = &seccomp.Filter{
				Caps:   rapid.SliceOfN(rapid.Just("CAP_SYS_ADMIN"), 0, 1).Draw(t, "not caps"),
				Arches: rapid.SliceOfN(rapid.SampledFrom([]string{"amd64", "arm64", "s390"}), 0, 1).Draw(t, "not arches"),
			}
		}
		return call
	})
	rapid.Check(t, func(t *rapid.T) {
		arch := rapid.SampledFrom([]string{"amd64", "arm64"}).Draw(t, "arch")
		profile := &seccomp.Seccomp{Syscalls: rapid.SliceOfN(rule, 1, 12).Draw(t, "rules")}
		always := &seccomp.Syscall{} // so that each ABI has something
		always.Names, always.Action = []string{"close"}, specs.ActAllow
		profile.Syscalls = append(profile.Syscalls, always)
		profile.DefaultAction = rapid.SampledFrom([]specs.LinuxSeccompAction{specs.ActErrno, specs.ActKillProcess}).Draw(t, "default")
		version := KernelVersion{5, rapid.IntRange(0, 20).Draw(t, "kernel")}
		filter := newMachine(t, profile, arch, version)
		want := reference{profile, arch, version}
		abis, _ := abisOf(arch)
		values := interesting(profile)
		for range 200 {
			abi := abis[rapid.IntRange(0, len(abis)-1).Draw(t, "abi")]
			c := call{nr: rapid.SampledFrom(interestingNumbers(abi)).Draw(t, "nr"), audit: abi.audit}
			if rapid.Bool().Draw(t, "a named one") {
				name := rapid.SampledFrom(names).Draw(t, "name")
				if i := slices.IndexFunc(abi.calls, func(n number) bool { return n.name == name }); i >= 0 {
					c.nr = abi.calls[i].nr
				}
			}
			for i := range c.args {
				c.args[i] = rapid.OneOf(rapid.SampledFrom(values), rapid.Uint64()).Draw(t, "arg")
			}
			if got, want := filter.run(c), want.result(abi, c); got != want {
				t.Fatalf("%s call %d%x: got %#x, want %#x", abi.name, c.nr, c.args, got, want)
			}
		}
	})
}

// The selection of rules for the running machine is that of the library that
// Docker uses, whatever the process may do.
func TestSelectedRulesAreDockers(t *testing.T) {
	version, err := runningKernel()
	if err != nil {
		t.Fatal(err)
	}
	var docker *specs.LinuxSeccomp
	for _, held := range [][]string{{"CAP_SYS_CHROOT"}, {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE"}, {"CAP_CHOWN"}, nil} {
		spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: held}}}
		if docker, err = seccomp.GetDefaultProfile(spec); err != nil {
			t.Fatal(err)
		}
		own := withCapabilities(seccomp.DefaultProfile(), held)
		var got []specs.LinuxSyscall
		for _, rule := range own.Syscalls {
			if applies(rule, runtime.GOARCH, version) {
				got = append(got, rule.LinuxSyscall)
			}
		}
		if diff := cmp.Diff(docker.Syscalls, got); diff != "" {
			t.Errorf("with %q -docker +own\n%s", held, diff)
		}
	}
	abis, err := abisOf(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	if len(abis) != len(docker.Architectures) {
		t.Errorf("ABIs are %d, Docker's are %v", len(abis), docker.Architectures)
	}
}

// A call whose name is misspelled in a table would be refused in silence.
func TestCallsOfTheProfileAreKnown(t *testing.T) {
	known := map[string]bool{}
	for _, arch := range []string{"amd64", "arm64"} {
		abis, _ := abisOf(arch)
		for _, abi := range abis {
			for _, n := range abi.calls {
				known[n.name] = true
			}
		}
	}
	var unknown []string
	for _, rule := range seccomp.DefaultProfile().Syscalls {
		if rule.Includes != nil && len(rule.Includes.Arches) > 0 {
			continue
		}
		for _, name := range rule.Names {
			if !known[name] {
				unknown = append(unknown, name)
			}
		}
	}
	if diff := cmp.Diff([]string{"riscv_hwprobe"}, unknown); diff != "" { // only RISC-V has it
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestProfilesThatCannotBeTranslated(t *testing.T) {
	tests := map[string]struct{ profile, arch, want string }{
		"action":       {`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_PERHAPS"}]}`, "amd64", `unknown action "SCMP_ACT_PERHAPS"`},
		"notify":       {`{"defaultAction":"SCMP_ACT_NOTIFY","syscalls":[]}`, "amd64", "needs a supervisor"},
		"comparison":   {`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"op":"SCMP_CMP_ODD"}]}]}`, "amd64", `unknown comparison "SCMP_CMP_ODD"`},
		"argument":     {`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":6,"op":"SCMP_CMP_EQ"}]}]}`, "amd64", "arguments 0 to 5"},
		"errno":        {`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":65536,"syscalls":[]}`, "amd64", "at most 65535"},
		"architecture": {`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[]}`, "riscv64", "only for amd64 and arm64"},
		"no call":      {`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[]}`, "arm64", "names no call of arm64"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var profile seccomp.Seccomp
			if err := json.Unmarshal([]byte(tt.profile), &profile); err != nil {
				t.Fatal(err)
			}
			if _, err := compile(&profile, tt.arch, newKernel); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}
