package capacity

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func amounts(upTo int64) *rapid.Generator[Amount] {
	return rapid.Custom(func(t *rapid.T) Amount {
		return Amount{
			MemoryBytes: rapid.Int64Range(0, upTo).Draw(t, "memory"),
			MilliCPU:    rapid.Int64Range(0, upTo).Draw(t, "cpu"),
		}
	})
}

// The ledger agrees with a plain list of reservations, whatever is done to it
// in whatever order.
func TestLedgerAgreesWithListOfReservations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		upTo := rapid.SampledFrom([]int64{0, 1, 10, 1000, math.MaxInt64}).Draw(t, "scale")
		total := amounts(upTo).Draw(t, "total")
		ledger := NewLedger(total)
		var held []Amount
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				need := amounts(upTo).Draw(t, "need")
				missing := ledger.Missing(need)
				reserved := ledger.TryReserve(need)
				if reserved != (missing == Amount{}) {
					t.Fatalf("missing %+v, reserved %v", missing, reserved)
				}
				if reserved {
					held = append(held, need)
				}
				if reserved && !ledger.Fits(need) {
					t.Fatalf("%+v was reserved but could never fit %+v", need, total)
				}
				if !reserved && len(held) == 0 && ledger.Fits(need) {
					t.Fatalf("an empty ledger of %+v refuses %+v", total, need)
				}
			},
			"release": func(t *rapid.T) {
				if len(held) == 0 {
					t.Skip("nothing is held")
				}
				i := rapid.IntRange(0, len(held)-1).Draw(t, "which")
				ledger.Release(held[i])
				held = append(held[:i], held[i+1:]...)
			},
			"": func(t *rapid.T) {
				var sum Amount
				for _, need := range held {
					sum.MemoryBytes += need.MemoryBytes
					sum.MilliCPU += need.MilliCPU
				}
				used := ledger.Used()
				if used != sum {
					t.Fatalf("used %+v, held %+v", used, sum)
				}
				if used.MemoryBytes < 0 || used.MemoryBytes > total.MemoryBytes || used.MilliCPU < 0 || used.MilliCPU > total.MilliCPU {
					t.Fatalf("used %+v of %+v", used, total)
				}
				if ledger.Total() != total {
					t.Fatalf("the total became %+v", ledger.Total())
				}
			},
		})
	})
}

// Releasing exactly what is missing makes room, and releasing less does not.
func TestMissingIsExactlyWhatMustBeReleased(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := amounts(1000).Draw(t, "total")
		need := Amount{
			MemoryBytes: rapid.Int64Range(0, total.MemoryBytes).Draw(t, "memory"),
			MilliCPU:    rapid.Int64Range(0, total.MilliCPU).Draw(t, "cpu"),
		}
		ledger := NewLedger(total)
		ledger.TryReserve(total)
		missing := ledger.Missing(need)
		if missing.MemoryBytes > 0 {
			ledger.Release(Amount{MemoryBytes: missing.MemoryBytes - 1, MilliCPU: missing.MilliCPU})
			if ledger.TryReserve(need) {
				t.Fatalf("room for %+v with a byte too few", need)
			}
			missing = ledger.Missing(need)
		}
		ledger.Release(missing)
		if !ledger.TryReserve(need) {
			t.Fatalf("no room for %+v after releasing what was missing", need)
		}
	})
}

func TestZeroNeedFitsFullLedger(t *testing.T) {
	ledger := NewLedger(Amount{MemoryBytes: 10})
	if !ledger.TryReserve(Amount{MemoryBytes: 10}) {
		t.Fatal("the whole is not free")
	}
	if !ledger.Fits(Amount{}) || !ledger.TryReserve(Amount{}) {
		t.Error("a need of nothing was refused")
	}
	if ledger.TryReserve(Amount{MilliCPU: 1}) {
		t.Error("reserved processor time that there is none of")
	}
}

func TestProgrammingErrorsPanic(t *testing.T) {
	misuse := map[string]func(){
		"release more than reserved": func() {
			ledger := NewLedger(Amount{MemoryBytes: 10, MilliCPU: 10})
			ledger.TryReserve(Amount{MemoryBytes: 5, MilliCPU: 5})
			ledger.Release(Amount{MemoryBytes: 5, MilliCPU: 6})
		},
		"reserve a negative amount": func() { NewLedger(Amount{}).TryReserve(Amount{MemoryBytes: -1}) },
		"release a negative amount": func() { NewLedger(Amount{}).Release(Amount{MilliCPU: -1}) },
		"fit a negative amount":     func() { NewLedger(Amount{}).Fits(Amount{MilliCPU: math.MinInt64}) },
		"have a negative total":     func() { NewLedger(Amount{MemoryBytes: -1}) },
	}
	for name, do := range misuse {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			do()
		})
	}
}
