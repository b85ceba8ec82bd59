package runner

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/internal/capacity"
)

// TestPanicLosesNoInstance has a call whose own parts panic, as those of a
// program that embeds a node may. The HTTP server recovers from that, so nothing
// may be left as it was in the middle of the call.
func TestPanicLosesNoInstance(t *testing.T) {
	b, w := observed(t, func(w http.ResponseWriter, r *http.Request, _ io.Writer) { fake.Echo(w, r) }, nil)
	call := newTestCall("x")
	call.OnStart = func() { panic("for the test") }
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is lost")
			}
		}()
		_, _, _ = b.run(t.Context(), call)
	}()
	w.mu.Lock()
	if w.queued != 0 || w.running != 0 {
		t.Errorf("%d calls queued, %d running", w.queued, w.running)
	}
	w.mu.Unlock()
	for deadline := time.Now().Add(5 * time.Second); b.pool.Stats().Used != (capacity.Amount{}); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("its instance is held for ever: %+v", b.pool.Stats())
		}
	}
	b.wantContainers(t, 2)
	if reports := w.await(t, 2); reports[0].Err == nil {
		t.Error("it is reported as a success")
	}
}
