//go:build linux

package seccomp

import (
	"math/bits"
	"testing"

	"github.com/moby/profiles/seccomp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The kernel finds out which calls are always allowed, if it gets to the
// result with the instructions that seccomp_is_const_allow in kernel/seccomp.c
// knows, and none of an argument.
func TestTheKernelCanRememberWhatIsAlwaysAllowed(t *testing.T) {
	program, err := compile(seccomp.DefaultProfile(), "amd64", newKernel)
	if err != nil {
		t.Fatal(err)
	}
	// The longest way to the result, in instructions, without arguments.
	most, sum := 0, 0
	for _, n := range numbersAMD64 {
		steps := walk(t, program, call{nr: n.nr, audit: unix.AUDIT_ARCH_X86_64})
		most, sum = max(most, steps), sum+steps
	}
	t.Logf("%d instructions; a call of amd64 takes %d at most, %.1f on average", len(program), most, float64(sum)/float64(len(numbersAMD64)))
	if most > 3*bits.Len(uint(len(numbersAMD64))) {
		t.Errorf("a call takes %d instructions", most)
	}
}

// walk counts the instructions until the result or the first look at an
// argument.
func walk(t *testing.T, program []bpf.Instruction, c call) (steps int) {
	var a uint32
	for i := 0; ; i++ {
		steps++
		switch in := program[i].(type) {
		case bpf.LoadAbsolute:
			switch in.Off {
			case offsetNumber:
				a = c.nr
			case offsetArch:
				a = c.audit
			default:
				return steps
			}
		case bpf.Jump:
			i += int(in.Skip)
		case bpf.JumpIf:
			holds := false
			switch in.Cond {
			case bpf.JumpEqual:
				holds = a == in.Val
			case bpf.JumpGreaterOrEqual:
				holds = a >= in.Val
			default:
				t.Fatalf("instruction %d: %v", i, in)
			}
			if holds {
				i += int(in.SkipTrue)
			} else {
				i += int(in.SkipFalse)
			}
		case bpf.RetConstant:
			return steps
		default:
			t.Fatalf("instruction %d: %v", i, in)
		}
	}
}

func BenchmarkDefault(b *testing.B) {
	for b.Loop() {
		if _, err := Default(Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
