//go:build linux

package seccomp

import (
	"fmt"
	"math"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
)

// decide is the code that comes to a verdict about a call whose number is
// known. It ends in a return on each way through it.
func decide(v verdict) ([]bpf.Instruction, error) {
	var code []bpf.Instruction
	for _, branch := range v.branches {
		// From the last condition to the first, as each has to know how far it
		// is to the next branch, where it goes if it does not hold.
		way := []bpf.Instruction{bpf.RetConstant{Val: branch.result}}
		for i := len(branch.conditions) - 1; i >= 0; i-- {
			test, err := branch.conditions[i].test(len(way))
			if err != nil {
				return nil, err
			}
			way = append(test, way...)
		}
		code = append(code, way...)
	}
	return append(code, bpf.RetConstant{Val: v.otherwise}), nil
}

// test is the code that goes on behind itself if the condition holds, and
// skips the given number of instructions if not.
//
// BPF compares 32 bits, so a comparison is one of the upper halves, and of the
// lower ones if those were equal.
func (c condition) test(skip int) ([]bpf.Instruction, error) {
	// The longest way is from the first comparison of four instructions.
	if skip+3 > math.MaxUint8 {
		return nil, fmt.Errorf("a rule with a condition on argument %d has too many conditions", c.index)
	}
	var (
		fail      = uint8(skip)
		high, low = uint32(c.value >> 32), uint32(c.value)
		offset    = uint32(offsetArguments + argumentSize*c.index)
		loadHigh  = bpf.LoadAbsolute{Off: offset + offsetHigh, Size: 4}
		loadLow   = bpf.LoadAbsolute{Off: offset, Size: 4}
	)
	switch c.op {
	case specs.OpEqualTo:
		return []bpf.Instruction{
			loadHigh,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: high, SkipFalse: fail + 2},
			loadLow,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: low, SkipFalse: fail},
		}, nil
	case specs.OpNotEqual:
		return []bpf.Instruction{
			loadHigh,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: high, SkipFalse: 2},
			loadLow,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: low, SkipTrue: fail},
		}, nil
	case specs.OpGreaterThan:
		return greater(loadHigh, loadLow, high, fail, bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: low, SkipFalse: fail}), nil
	case specs.OpGreaterEqual:
		return greater(loadHigh, loadLow, high, fail, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: low, SkipFalse: fail}), nil
	case specs.OpLessThan:
		return less(loadHigh, loadLow, high, fail, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: low, SkipTrue: fail}), nil
	case specs.OpLessEqual:
		return less(loadHigh, loadLow, high, fail, bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: low, SkipTrue: fail}), nil
	case specs.OpMaskedEqual:
		return []bpf.Instruction{
			loadHigh,
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: high},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(c.two >> 32), SkipFalse: fail + 3},
			loadLow,
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: low},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(c.two), SkipFalse: fail},
		}, nil
	}
	return nil, fmt.Errorf("unknown comparison %q of argument %d", c.op, c.index)
}

// greater holds if the upper half is greater, or equal and the last test of
// the lower half holds.
func greater(loadHigh, loadLow bpf.LoadAbsolute, high uint32, fail uint8, last bpf.JumpIf) []bpf.Instruction {
	return []bpf.Instruction{
		loadHigh,
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: high, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: high, SkipFalse: fail + 2},
		loadLow, last,
	}
}

// less holds if the upper half is less, or equal and the last test of the
// lower half holds.
func less(loadHigh, loadLow bpf.LoadAbsolute, high uint32, fail uint8, last bpf.JumpIf) []bpf.Instruction {
	return []bpf.Instruction{
		loadHigh,
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: high, SkipTrue: fail + 3},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: high, SkipFalse: 2},
		loadLow, last,
	}
}
