package pool

import (
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/driver"
)

// closeCounter is an output that counts how often it was closed.
type closeCounter struct{ closed atomic.Int32 }

func (*closeCounter) Stdout() io.Writer { return io.Discard }
func (*closeCounter) Stderr() io.Writer { return io.Discard }
func (c *closeCounter) Close() error    { c.closed.Add(1); return nil }

func TestOutputIsClosedHoweverTheInstanceEnds(t *testing.T) {
	for name, spoil := range map[string]func(*engine){
		"never":                  func(*engine) {},
		"no container":           func(e *engine) { e.createErr = always(errBroken) },
		"no start":               func(e *engine) { e.script.StartErr = errBroken },
		"no socket":              func(e *engine) { e.script.NeverSocket = true },
		"exit before the socket": func(e *engine) { e.script.Exit = &driver.Exit{Code: 1} },
		"stuck at first":         func(e *engine) { e.script.RemoveFailures = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEngine()
				spoil(e)
				p := newPool(t, e, nil)
				var outputs []*closeCounter
				spec := fnSpec("a")
				spec.Output = func(string) Output {
					outputs = append(outputs, &closeCounter{})
					return outputs[len(outputs)-1]
				}
				if lease, err := p.Acquire(t.Context(), spec); err == nil {
					if outputs[0].closed.Load() != 0 {
						t.Error("closed while the function may print")
					}
					lease.Destroy("for the test")
				}
				time.Sleep(time.Minute) // the engine has to be asked again
				closePool(t, p, e)
				if len(outputs) != 1 || outputs[0].closed.Load() != 1 {
					t.Errorf("%d outputs, the first closed %d times", len(outputs), outputs[0].closed.Load())
				}
			})
		})
	}
}
