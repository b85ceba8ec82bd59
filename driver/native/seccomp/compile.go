//go:build linux

package seccomp

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/moby/profiles/seccomp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Where struct seccomp_data of linux/seccomp.h has its fields, in bytes. An
// argument has 64 bits, of which BPF loads 32 at a time; all architectures of
// this package have the lower half first.
const (
	offsetNumber    = 0
	offsetArch      = 4
	offsetArguments = 16
	argumentSize    = 8
	offsetHigh      = 4 // of an argument's upper half
)

// unsupportedArch is for calls of an ABI that the profile does not name.
const unsupportedArch = unix.SECCOMP_RET_KILL_PROCESS

// compile makes the filter: it looks for the architecture, then with a binary
// search for the range that the call's number is in, whose calls are all
// treated in the same way, then at the arguments if rules have conditions.
func compile(profile *seccomp.Seccomp, arch string, version KernelVersion) ([]bpf.Instruction, error) {
	rules, otherwise, err := selectRules(profile, arch, version)
	if err != nil {
		return nil, err
	}
	abis, err := abisOf(arch)
	if err != nil {
		return nil, err
	}
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: offsetArch, Size: 4}}
	for len(abis) > 0 {
		// ABIs that the kernel reports as the same differ in their numbers.
		same := 1
		for same < len(abis) && abis[same].audit == abis[0].audit {
			same++
		}
		code := []bpf.Instruction{bpf.LoadAbsolute{Off: offsetNumber, Size: 4}}
		spans, err := spansOf(abis[:same], rules, otherwise)
		if err != nil {
			return nil, err
		}
		search, err := search(spans)
		if err != nil {
			return nil, err
		}
		code = append(code, search...)
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: abis[0].audit, SkipTrue: 1},
			bpf.Jump{Skip: uint32(len(code))})
		program = append(program, code...)
		abis = abis[same:]
	}
	return append(program, bpf.RetConstant{Val: unsupportedArch}), nil
}

// verdict is what happens to a call: the first branch whose conditions hold
// says it.
type verdict struct {
	branches  []branch
	otherwise uint32
}

type branch struct {
	conditions []condition
	result     uint32
}

// same reports whether two verdicts can share a range of numbers.
func (v verdict) same(other verdict) bool {
	return len(v.branches) == 0 && len(other.branches) == 0 && v.otherwise == other.otherwise
}

// span is a range of numbers that are treated in the same way, from one to the
// beginning of the next.
type span struct {
	from uint32
	verdict
}

// spansOf returns the ranges that all numbers fall into, in ascending order,
// for ABIs of which each has numbers above those of the one before.
func spansOf(abis []abi, rules []rule, otherwise uint32) ([]span, error) {
	var spans []span
	add := func(from uint32, v verdict) {
		if len(spans) == 0 || !spans[len(spans)-1].same(v) {
			spans = append(spans, span{from, v})
		}
	}
	for i, abi := range abis {
		first := uint32(0)
		if i > 0 {
			first = x32Bit
		}
		calls, newest, err := verdictsOf(abi, rules, otherwise)
		if err != nil {
			return nil, err
		}
		next := first // number that has no range yet
		for _, call := range calls {
			if call.from > next {
				add(next, verdict{otherwise: unnamed(next, newest, otherwise)})
			}
			add(call.from, call.verdict)
			next = call.from + 1
		}
		add(next, verdict{otherwise: unnamed(next, newest, otherwise)})
	}
	return spans, nil
}

// unnamed is what happens to a call that no rule names, given the newest that
// one names.
func unnamed(nr, newest, otherwise uint32) uint32 {
	if nr > newest && otherwise&unix.SECCOMP_RET_ACTION_FULL == unix.SECCOMP_RET_ERRNO {
		return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	return otherwise
}

// verdictsOf returns what happens to each call of an ABI that rules name, by
// ascending number, and the number of the newest one.
func verdictsOf(abi abi, rules []rule, otherwise uint32) (calls []span, newest uint32, err error) {
	numbers := make(map[string]uint32, len(abi.calls))
	for _, call := range abi.calls {
		numbers[call.name] = call.nr
	}
	type state struct {
		verdict
		decided bool // by a rule without conditions, so that those behind it do not matter
	}
	verdicts := map[uint32]*state{}
	for _, rule := range rules {
		for _, name := range rule.names {
			nr, ok := numbers[name]
			if !ok {
				continue // profiles name calls of all architectures
			}
			v := verdicts[nr]
			if v == nil {
				v = &state{verdict: verdict{otherwise: otherwise}}
				verdicts[nr] = v
			}
			switch {
			case v.decided:
			case rule.result == otherwise:
				// Says only that the call is known: runc leaves such rules out.
			case len(rule.conditions) == 0:
				v.otherwise, v.decided = rule.result, true
				// Branches that end where all others do are of no use, and
				// without any the call is in a range with its neighbours.
				if !slices.ContainsFunc(v.branches, func(b branch) bool { return b.result != rule.result }) {
					v.branches = nil
				}
			default:
				v.branches = append(v.branches, branch{rule.conditions, rule.result})
			}
			if nr < armPrivateBase || nr >= x32Bit {
				newest = max(newest, nr)
			}
		}
	}
	if len(verdicts) == 0 {
		return nil, 0, fmt.Errorf("the profile names no call of %s", abi.name)
	}
	for nr, v := range verdicts {
		calls = append(calls, span{nr, v.verdict})
	}
	slices.SortFunc(calls, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	return calls, newest, nil
}

// search is a binary search for the span of the number that is loaded, with
// what follows from it.
func search(spans []span) ([]bpf.Instruction, error) {
	if len(spans) == 1 {
		return decide(spans[0].verdict)
	}
	middle := len(spans) / 2
	below, err := search(spans[:middle])
	if err != nil {
		return nil, err
	}
	above, err := search(spans[middle:])
	if err != nil {
		return nil, err
	}
	var code []bpf.Instruction
	if from := spans[middle].from; len(below) <= math.MaxUint8 {
		code = append(code, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: from, SkipTrue: uint8(len(below))})
	} else { // conditional jumps are short
		code = append(code,
			bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: from, SkipFalse: 1},
			bpf.Jump{Skip: uint32(len(below))})
	}
	return append(append(code, below...), above...), nil
}
