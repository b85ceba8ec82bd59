//go:build linux

package seccomp

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// call is what a filter decides about.
type call struct {
	nr    uint32
	audit uint32
	args  [maxArguments]uint64
}

// packet is struct seccomp_data with each word in the order of networks, which
// is how the machine of package bpf loads words.
func (c call) packet() []byte {
	packet := binary.BigEndian.AppendUint32(nil, c.nr)
	packet = binary.BigEndian.AppendUint32(packet, c.audit)
	packet = append(packet, make([]byte, 8)...) // the instruction pointer
	for _, arg := range c.args {
		packet = binary.BigEndian.AppendUint32(packet, uint32(arg))
		packet = binary.BigEndian.AppendUint32(packet, uint32(arg>>32))
	}
	return packet
}

// machine runs a filter.
type machine struct{ vm *bpf.VM }

func newMachine(t interface{ Fatal(...any) }, profile *seccomp.Seccomp, arch string, version KernelVersion) machine {
	program, err := compile(profile, arch, version)
	if err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return machine{vm}
}

func (m machine) run(c call) uint32 {
	result, err := m.vm.Run(c.packet())
	if err != nil {
		panic(err)
	}
	return uint32(result)
}

// reference says what a profile means, by reading it.
type reference struct {
	profile *seccomp.Seccomp
	arch    string
	version KernelVersion
}

// result is what a filter has to return for a call.
func (r reference) result(abi abi, c call) uint32 {
	var names []string
	numbers := map[string]uint32{}
	for _, n := range abi.calls {
		numbers[n.name] = n.nr
		if n.nr == c.nr {
			names = append(names, n.name)
		}
	}
	otherwise := asResult(r.profile.DefaultAction, r.profile.DefaultErrnoRet)
	newest := uint32(0)
	for _, rule := range r.profile.Syscalls {
		if !r.holds(rule) {
			continue
		}
		for _, name := range rule.Names {
			if nr, ok := numbers[name]; ok && (nr < armPrivateBase || nr >= x32Bit) {
				newest = max(newest, nr)
			}
		}
	}
	for _, rule := range r.profile.Syscalls {
		if !r.holds(rule) || !slices.ContainsFunc(rule.Names, func(name string) bool { return slices.Contains(names, name) }) {
			continue
		}
		if asResult(rule.Action, rule.ErrnoRet) != otherwise && matches(rule.Args, c.args) {
			return asResult(rule.Action, rule.ErrnoRet)
		}
	}
	isNamed := false
	for _, rule := range r.profile.Syscalls {
		isNamed = isNamed || r.holds(rule) && slices.ContainsFunc(rule.Names, func(name string) bool { return slices.Contains(names, name) })
	}
	if c.nr > newest && !isNamed && r.profile.DefaultAction == specs.ActErrno {
		return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	return otherwise
}

func (r reference) holds(rule *seccomp.Syscall) bool {
	reached := func(k *seccomp.KernelVersion) bool {
		return r.version.Major*1000+r.version.Minor >= int(k.Kernel)*1000+int(k.Major)
	}
	if x := rule.Excludes; x != nil && (slices.Contains(x.Arches, r.arch) || x.MinKernel != nil && reached(x.MinKernel)) {
		return false
	}
	i := rule.Includes
	return i == nil || len(i.Caps) == 0 &&
		(len(i.Arches) == 0 || slices.Contains(i.Arches, r.arch)) && (i.MinKernel == nil || reached(i.MinKernel))
}

func matches(conditions []specs.LinuxSeccompArg, args [maxArguments]uint64) bool {
	any := map[uint]bool{}
	for _, c := range conditions {
		if any[c.Index] { // several on one argument: one is enough
			return slices.ContainsFunc(conditions, func(c specs.LinuxSeccompArg) bool { return compare(c, args[c.Index]) })
		}
		any[c.Index] = true
	}
	return !slices.ContainsFunc(conditions, func(c specs.LinuxSeccompArg) bool { return !compare(c, args[c.Index]) })
}

func compare(c specs.LinuxSeccompArg, arg uint64) bool {
	switch c.Op {
	case specs.OpNotEqual:
		return arg != c.Value
	case specs.OpLessThan:
		return arg < c.Value
	case specs.OpLessEqual:
		return arg <= c.Value
	case specs.OpEqualTo:
		return arg == c.Value
	case specs.OpGreaterEqual:
		return arg >= c.Value
	case specs.OpGreaterThan:
		return arg > c.Value
	case specs.OpMaskedEqual:
		return arg&c.Value == c.ValueTwo
	}
	panic(c.Op)
}

func asResult(action specs.LinuxSeccompAction, errno *uint) uint32 {
	switch action {
	case specs.ActAllow:
		return 0x7fff0000
	case specs.ActLog:
		return 0x7ffc0000
	case specs.ActKillProcess:
		return 0x80000000
	case specs.ActErrno:
		if errno == nil {
			return 0x00050001
		}
		return 0x00050000 | uint32(*errno)
	}
	panic(fmt.Sprint("no result for ", action))
}

// interesting are the values around those that a profile compares with.
func interesting(profile *seccomp.Seccomp) []uint64 {
	values := map[uint64]bool{}
	add := func(v uint64) {
		for _, near := range []uint64{v - 1, v, v + 1, v | 1<<32, v << 32, v | math.MaxUint32<<32, uint64(uint32(v))} {
			values[near] = true
		}
	}
	for _, rule := range profile.Syscalls {
		for _, arg := range rule.Args {
			add(arg.Value)
			add(arg.ValueTwo)
		}
	}
	for bit := range 64 {
		values[1<<bit] = true
	}
	for small := range uint64(64) {
		values[small] = true
	}
	var all []uint64
	for v := range values {
		all = append(all, v)
	}
	slices.Sort(all)
	return all
}

// interestingNumbers are all that an ABI knows, and some that it does not.
func interestingNumbers(abi abi) []uint32 {
	base := abi.calls[0].nr & x32Bit
	var numbers []uint32
	for nr := range uint32(600) {
		numbers = append(numbers, base|nr)
	}
	for nr := range uint32(8) {
		numbers = append(numbers, base|(armPrivateBase+nr))
	}
	if base != 0 {
		return append(numbers, math.MaxUint32)
	}
	return append(numbers, x32Bit-1)
}
