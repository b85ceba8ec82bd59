//go:build linux

package seccomp

import (
	"errors"
	"fmt"
	"slices"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// rule is a rule of a profile that applies on a machine.
type rule struct {
	names      []string
	result     uint32      // what the filter returns, SECCOMP_RET_*
	conditions []condition // all of them must hold
}

// condition is a comparison of a system call's argument, whose 64 bits are
// taken as unsigned.
type condition struct {
	index int // of the argument, from 0
	op    specs.LinuxSeccompOperator
	value uint64 // to compare with; the mask of SCMP_CMP_MASKED_EQ
	two   uint64 // what SCMP_CMP_MASKED_EQ compares the masked argument with
}

// maxArguments is how many arguments of a call are in struct seccomp_data.
const maxArguments = 6

// selectRules returns the rules that apply to a process without capabilities,
// in the order of the profile, and what the filter returns if none matches.
//
// Conditions of one rule hold together, but runc takes several on the same
// argument for rules of their own, of which one is enough; profiles are written
// with that in mind.
func selectRules(profile *seccomp.Seccomp, arch string, version KernelVersion) (rules []rule, otherwise uint32, err error) {
	otherwise, err = resultOf(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return nil, 0, fmt.Errorf("default action: %w", err)
	}
	for _, call := range profile.Syscalls {
		if !applies(call, arch, version) {
			continue
		}
		names := call.Names
		result, err := resultOf(call.Action, call.ErrnoRet)
		if err != nil {
			return nil, 0, fmt.Errorf("rule for %v: %w", names, err)
		}
		conditions, repeated, err := conditionsOf(call.Args)
		if err != nil {
			return nil, 0, fmt.Errorf("rule for %v: %w", names, err)
		}
		if !repeated {
			rules = append(rules, rule{names, result, conditions})
			continue
		}
		for _, c := range conditions {
			rules = append(rules, rule{names, result, []condition{c}})
		}
	}
	return rules, otherwise, nil
}

// withCapabilities is the profile for a process that has some, written as one for
// a process that has none: rules that need what it has apply in any case, and those
// that are for processes without it never. Source of the meaning of both: Docker's
// setupSeccomp, which wants all that a rule includes and none that it excludes.
func withCapabilities(profile *seccomp.Seccomp, held []string) *seccomp.Seccomp {
	has := func(name string) bool { return slices.Contains(held, name) }
	changed := *profile
	changed.Syscalls = nil
	for _, call := range profile.Syscalls {
		if not := call.Excludes; not != nil && slices.ContainsFunc(not.Caps, has) {
			continue
		}
		if only := call.Includes; only != nil && len(only.Caps) > 0 && !slices.ContainsFunc(only.Caps, func(name string) bool { return !has(name) }) {
			included, same := *only, *call
			included.Caps, same.Includes = nil, &included
			call = &same
		}
		changed.Syscalls = append(changed.Syscalls, call)
	}
	return &changed
}

// applies reports whether a rule holds on a machine, for a process without
// capabilities. The architecture is the machine's own also for rules about
// calls of its others, such as x86 on amd64.
func applies(call *seccomp.Syscall, arch string, version KernelVersion) bool {
	if not := call.Excludes; not != nil {
		if slices.Contains(not.Arches, arch) || not.MinKernel != nil && version.atLeast(kernelOf(not.MinKernel)) {
			return false
		}
	}
	if only := call.Includes; only != nil {
		if len(only.Caps) > 0 ||
			len(only.Arches) > 0 && !slices.Contains(only.Arches, arch) ||
			only.MinKernel != nil && !version.atLeast(kernelOf(only.MinKernel)) {
			return false
		}
	}
	return true
}

func kernelOf(version *seccomp.KernelVersion) KernelVersion {
	return KernelVersion{Major: int(version.Kernel), Minor: int(version.Major)}
}

// conditionsOf translates the conditions of a rule, and reports whether two of
// them are on the same argument.
func conditionsOf(args []specs.LinuxSeccompArg) (conditions []condition, repeated bool, err error) {
	var seen [maxArguments]bool
	for _, arg := range args {
		if arg.Index >= maxArguments {
			return nil, false, fmt.Errorf("condition on argument %d: calls have arguments 0 to %d", arg.Index, maxArguments-1)
		}
		repeated = repeated || seen[arg.Index]
		seen[arg.Index] = true
		conditions = append(conditions, condition{int(arg.Index), arg.Op, arg.Value, arg.ValueTwo})
	}
	return conditions, repeated, nil
}

// resultOf is what a filter returns for an action: the action's code, and for
// some a number in the lower 16 bits.
func resultOf(action specs.LinuxSeccompAction, errnoRet *uint) (uint32, error) {
	data := uint32(unix.EPERM) // if the profile does not say
	if errnoRet != nil {
		if *errnoRet > unix.SECCOMP_RET_DATA {
			return 0, fmt.Errorf("error number %d: must be at most %d", *errnoRet, unix.SECCOMP_RET_DATA)
		}
		data = uint32(*errnoRet)
	}
	switch action {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | data, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | data, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActNotify:
		return 0, errors.New("action SCMP_ACT_NOTIFY needs a supervisor, which functions do not have")
	}
	return 0, fmt.Errorf("unknown action %q", action)
}
