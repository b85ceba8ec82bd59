package runner

import (
	"errors"
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/model"
)

// TestSizesBeyondAllBoundsAreRefused has sizes that are more bytes than a number
// holds.
func TestSizesBeyondAllBoundsAreRefused(t *testing.T) {
	for name, memoryMiB := range map[string]uint64{
		"zero when it overflows": 1 << 44, "negative when it overflows": 1 << 43, "one when it overflows": 1<<44 + 1, "all": math.MaxUint64,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, fake.Echo, nil)
			call := newTestCall("")
			call.Fn.Memory = memoryMiB
			if _, _, err := b.run(t.Context(), call); !errors.Is(err, model.ErrTooBigForNode) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("temporary files", func(t *testing.T) {
		b := newBench(t, fake.Echo, func(o *Options) { o.Limits.TmpMiB = math.MaxInt64 >> 19 })
		if _, _, err := b.run(t.Context(), newTestCall("")); !errors.Is(err, model.ErrTooBigForNode) {
			t.Errorf("got %v", err)
		}
	})
}

// TestTimeoutCoversTheFunctionOnly has calls that wait for their instance longer
// than their function may take.
func TestTimeoutCoversTheFunctionOnly(t *testing.T) {
	const wait = 1100 * time.Millisecond // beyond the timeout, which is whole seconds
	run := func(t *testing.T, b *bench) {
		call := newTestCall("x")
		call.Fn.Timeout = 1
		if got := b.mustRun(t, call); got != "in time" {
			t.Errorf("the function sees the deadline %s", got)
		}
	}
	function := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := "in time"
		if deadline, err := time.Parse(time.RFC3339, r.Header.Get("Fn-Deadline")); err != nil || time.Until(deadline) < 0 {
			answer = r.Header.Get("Fn-Deadline")
		}
		_, _ = w.Write([]byte(answer))
	})
	t.Run("launch", func(t *testing.T) {
		t.Parallel()
		run(t, newBenchOn(t, fake.New(fake.Options{Script: func(int, *driver.Spec) fake.Script {
			return fake.Script{Handler: function, SocketDelay: wait}
		}}), nil))
	})
	t.Run("queue", func(t *testing.T) {
		t.Parallel()
		b := newBenchOn(t, fake.New(fake.Options{Handler: function}), nil)
		call := newTestCall("x")
		call.Fn.Timeout = 1
		call.Fn.Memory = 256 // the whole machine
		lease, err := b.pool.Acquire(t.Context(), b.specOf(call))
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(wait, lease.Release)
		if got := b.mustRun(t, call); got != "in time" {
			t.Errorf("the function sees the deadline %s", got)
		}
	})
}
