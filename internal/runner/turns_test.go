package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/model"
)

// talkative is a bench whose function prints also when it has no call. What it
// prints is in the log.
func talkative(t *testing.T, function func(w http.ResponseWriter, r *http.Request, stderr io.Writer)) (b *bench, stderr func() io.Writer, log *lockedLog) {
	t.Helper()
	log = &lockedLog{}
	b = newBenchOn(t, fake.New(fake.Options{Script: func(_ int, spec *driver.Spec) fake.Script {
		return fake.Script{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { function(w, r, spec.Stderr) })}
	}}), func(o *Options) {
		o.LogOutput, o.Logger = true, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	return b, func() io.Writer { return b.engine.Containers()[0].Spec().Stderr }, log
}

// callOf is the call that the line in the log belongs to.
func callOf(t *testing.T, log *lockedLog, line string) string {
	t.Helper()
	for record := range strings.Lines(log.String()) {
		if !strings.Contains(record, "msg="+line) {
			continue
		}
		fields := strings.Fields(record)
		if i := slices.IndexFunc(fields, func(field string) bool { return strings.HasPrefix(field, "call_id=") }); i >= 0 {
			return strings.Trim(strings.TrimPrefix(fields[i], "call_id="), `"`)
		}
	}
	t.Errorf("%s is not in the log:\n%s", line, log)
	return ""
}

func TestWhatIsPrintedBetweenCallsBelongsToNone(t *testing.T) {
	for name, status := range map[string]int{"succeeded": http.StatusOK, "failed": http.StatusBadGateway} {
		t.Run(name, func(t *testing.T) {
			b, stderr, log := talkative(t, func(w http.ResponseWriter, _ *http.Request, stderr io.Writer) {
				fmt.Fprintln(stderr, "at-work")
				w.WriteHeader(status)
			})
			call := newTestCall("x")
			_, _, _ = b.run(t.Context(), call)
			awaitIdle(t, b.pool)
			time.Sleep(2 * outputPatience) // what is printed until then may be the call's
			fmt.Fprintln(stderr(), "at-rest")
			if got := callOf(t, log, "at-work"); got != call.ID {
				t.Errorf("what the call printed belongs to %q", got)
			}
			if got := callOf(t, log, "at-rest"); got != "" {
				t.Errorf("what was printed after the call belongs to %q", got)
			}
		})
	}
}

func TestWhatAnAbandonedCallPrintsBelongsToIt(t *testing.T) {
	entered, goOn := make(chan struct{}), make(chan struct{})
	b, _, log := talkative(t, func(_ http.ResponseWriter, r *http.Request, stderr io.Writer) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(entered)
		<-goOn
		fmt.Fprintln(stderr, "still-at-work")
	})
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-entered; leave() }()
	call := newTestCall("x")
	if _, _, err := b.run(ctx, call); model.Describe(err).Kind != model.ErrClientCanceled {
		t.Errorf("got %v", err)
	}
	time.Sleep(2 * outputPatience)
	close(goOn)
	awaitIdle(t, b.pool)
	if got := callOf(t, log, "still-at-work"); got != call.ID {
		t.Errorf("it belongs to %q", got)
	}
}

func TestCallThatIsGivenToAnotherInstanceLeavesNothingAtTheFirst(t *testing.T) {
	b, w := observed(t, func(w http.ResponseWriter, r *http.Request, _ io.Writer) { fake.Echo(w, r) }, nil)
	call := newTestCall("x")
	lease, err := b.pool.Acquire(t.Context(), b.specOf(call))
	if err != nil {
		t.Fatal(err)
	}
	x := &exchange{runner: b.Runner, call: call, lease: lease, session: lease.Session.(*session), began: time.Now()}
	x.start() // a connection that is closed before it takes a byte
	if err := x.giveUp(errNothingSent); !errors.Is(err, errRetry) {
		t.Errorf("got %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running != 0 || len(w.reports) != 0 {
		t.Errorf("%d calls running, %d reports", w.running, len(w.reports))
	}
}
