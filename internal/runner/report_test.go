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
	"sync"
	"testing"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// witness remembers what it is told.
type witness struct {
	mu              sync.Mutex // guards the rest
	submitted       int
	queued, running int
	reports         []Report
}

func (w *witness) Submitted()         { w.mu.Lock(); defer w.mu.Unlock(); w.submitted++ }
func (w *witness) Queued(change int)  { w.mu.Lock(); defer w.mu.Unlock(); w.queued += change }
func (w *witness) Running(change int) { w.mu.Lock(); defer w.mu.Unlock(); w.running += change }
func (w *witness) Over(r *Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports = append(w.reports, *r)
}

// await returns the first reports, when there are so many.
func (w *witness) await(t *testing.T, count int) []Report {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		reports := slices.Clone(w.reports)
		w.mu.Unlock()
		if len(reports) >= count {
			return reports
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d reports, want %d", len(reports), count)
		}
	}
}

// observed is a bench whose function may print, and what an observer saw of it.
func observed(t *testing.T, function func(w http.ResponseWriter, r *http.Request, stderr io.Writer), change func(*fake.Script)) (*bench, *witness) {
	w := &witness{}
	b := newBenchOn(t, fake.New(fake.Options{Script: func(_ int, spec *driver.Spec) fake.Script {
		script := fake.Script{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { function(w, r, spec.Stderr) })}
		if change != nil {
			change(&script)
		}
		return script
	}}), func(o *Options) { o.Observer, o.LogOutput = w, true })
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.queued != 0 || w.running != 0 {
			t.Errorf("%d calls queued, %d running", w.queued, w.running)
		}
	})
	return b, w
}

func TestReportSaysWhereTheTimeWent(t *testing.T) {
	const nap = 100 * time.Millisecond
	b, w := observed(t, func(w http.ResponseWriter, r *http.Request, _ io.Writer) {
		time.Sleep(nap)
		w.(http.Flusher).Flush()
		time.Sleep(nap)
		fake.Echo(w, r)
	}, func(s *fake.Script) { s.CreateDelay, s.StartDelay, s.SocketDelay = nap, nap, nap })
	for range 2 {
		b.mustRun(t, newTestCall("x"))
	}
	reports := w.await(t, 2)
	for i, report := range reports {
		timing := report.Timing
		cold := i == 0
		if timing.Cold != cold || report.Err != nil || report.Ended != "" || report.InstanceID == "" {
			t.Errorf("%+v", report)
		}
		for name, part := range map[string]struct {
			took time.Duration
			long bool
		}{
			"create": {timing.Create, cold}, "start": {timing.Start, cold}, "init": {timing.Init, cold},
			"first byte": {timing.FirstByte, true}, "body": {timing.Body, true},
		} {
			if part.long != (part.took >= nap/2) || part.took > 10*nap { // a busy machine sees one step late, which shortens the next
				t.Errorf("call %d, %s: %v", i, name, part.took)
			}
		}
		if sum := timing.Queued + timing.Execution(); timing.Total < sum {
			t.Errorf("call %d: total %v of %v", i, timing.Total, sum)
		}
	}
}

func TestReportOfAFailedCall(t *testing.T) {
	for name, test := range map[string]struct {
		function func(w http.ResponseWriter, r *http.Request, stderr io.Writer)
		change   func(*fake.Script)
		limit    func(*invoke.Call)
		err      error
		ended    string
		output   []string
	}{
		"failed": {
			function: func(w http.ResponseWriter, _ *http.Request, stderr io.Writer) {
				fmt.Fprint(stderr, "first line\nsecond line\nno end")
				w.WriteHeader(502)
			},
			err: model.ErrFunctionFailed, output: []string{"first line", "second line"},
		},
		"crashed": {
			function: answerEcho, change: func(s *fake.Script) { s.CrashOnCall = true },
			err: model.ErrFunctionResponse, ended: "exit code 1",
		},
		"timed out": {
			function: func(_ http.ResponseWriter, r *http.Request, stderr io.Writer) {
				fmt.Fprint(stderr, "I am at it")
				<-r.Context().Done()
			},
			limit: func(c *invoke.Call) { c.Fn.Timeout = 1 },
			err:   model.ErrCallTimeout, ended: "ended by the server: Timed out", output: []string{"I am at it"},
		},
		"nonsense": {
			function: func(w http.ResponseWriter, _ *http.Request, _ io.Writer) { w.WriteHeader(418) },
			err:      model.ErrFunctionInvalidResponse, ended: "ended by the server: invalid function response: status 418",
		},
		"does not start": {
			function: answerEcho, change: func(s *fake.Script) {
				s.Exit = &driver.Exit{Code: 137, OutOfMemory: true}
				s.NeverSocket = true
			},
			err: model.ErrContainerInitFailed, ended: "out of memory, raise the function's memory",
		},
		"no socket": {
			function: answerEcho, change: func(s *fake.Script) { s.BadSocket = fake.DanglingLink },
			err: model.ErrContainerInitFailed, ended: "ended by the server: launch failed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, w := observed(t, test.function, test.change)
			call := newTestCall("x")
			if test.limit != nil {
				test.limit(call)
			}
			if _, _, err := b.run(t.Context(), call); !errors.Is(err, test.err) {
				t.Errorf("got %v", err)
			}
			report := w.await(t, 1)[0]
			if !errors.Is(report.Err, test.err) || report.Ended != test.ended || !slices.Equal(report.Output, test.output) {
				t.Errorf("%v, ended %q, output %q", report.Err, report.Ended, report.Output)
			}
			if report.Call != call || report.InstanceID == "" || report.Timing.Total == 0 {
				t.Errorf("%+v", report)
			}
		})
	}
}

func answerEcho(w http.ResponseWriter, r *http.Request, _ io.Writer) { fake.Echo(w, r) }

func TestReportHasTheOutputOfItsCallOnly(t *testing.T) {
	b, w := observed(t, func(w http.ResponseWriter, r *http.Request, stderr io.Writer) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(stderr, "about %s\n", body)
		w.WriteHeader(502)
	}, nil)
	for _, subject := range []string{"cats", "dogs"} {
		_, _, _ = b.run(t.Context(), newTestCall(subject))
		reports := w.await(t, len(w.reports)+1)
		if got := reports[len(reports)-1].Output; !slices.Equal(got, []string{"about " + subject}) {
			t.Errorf("%s: %q", subject, got)
		}
	}
}

func TestCallThatIsGivenUpIsReportedOnce(t *testing.T) {
	begun := make(chan struct{})
	b, w := observed(t, func(_ http.ResponseWriter, r *http.Request, _ io.Writer) {
		_, _ = io.Copy(io.Discard, r.Body)
		begun <- struct{}{}
		time.Sleep(50 * time.Millisecond)
	}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	if _, _, err := b.run(ctx, newTestCall("x")); model.Describe(err).Kind != model.ErrClientCanceled {
		t.Errorf("got %v", err)
	}
	w.await(t, 1)
	go func() { <-begun }()
	b.mustRun(t, newTestCall("x"))
	if reports := w.await(t, 2); len(reports) != 2 || !isCanceled(reports[0].Err) || reports[1].Err != nil {
		t.Errorf("%+v", reports)
	}
}

// The caller has gone, for a reason that is not its own, when what is left of its answer
// breaks in the background.
func TestAnswerThatBreaksAfterItsCallWasReported(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	b, w := observed(t, func(w http.ResponseWriter, _ *http.Request, _ io.Writer) {
		w.Header().Set("Content-Length", "10") // so few are held
		io.WriteString(w, "part")
		w.(http.Flusher).Flush()
		close(begun)
		<-goOn
		panic(http.ErrAbortHandler)
	}, nil)
	ctx, leave := context.WithCancelCause(t.Context())
	go func() {
		<-begun
		time.Sleep(20 * time.Millisecond) // the header is read, and more awaited
		leave(model.ErrServerBusy)
	}()
	if _, _, err := b.run(ctx, newTestCall("x")); !errors.Is(err, model.ErrServerBusy) {
		t.Errorf("got %v", err)
	}
	close(goOn)
	for deadline := time.Now().Add(5 * time.Second); b.pool.Stats().Busy > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the instance stays: %+v", b.pool.Stats())
		}
	}
	if reports := w.await(t, 1); len(reports) != 1 || !errors.Is(reports[0].Err, model.ErrServerBusy) {
		t.Errorf("%+v", reports)
	}
}

func TestCallWithoutAnInstanceIsReported(t *testing.T) {
	b, w := observed(t, answerEcho, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.engine.Down()
	_, _, _ = b.run(ctx, newTestCall("x"))
	_, _, err := b.run(t.Context(), newTestCall("x"))
	if !errors.Is(err, model.ErrServerBusy) {
		t.Errorf("got %v", err)
	}
	if reports := w.await(t, 2); !isCanceled(reports[0].Err) || !errors.Is(reports[1].Err, model.ErrServerBusy) {
		t.Errorf("%+v", reports)
	}
	b.engine.Up()
}

func TestFailedCallIsLoggedWithItsOutput(t *testing.T) {
	var log lockedLog
	b := newBenchOn(t, fake.New(fake.Options{Script: func(_ int, spec *driver.Spec) fake.Script {
		return fake.Script{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(spec.Stderr, "Traceback: it broke")
			w.WriteHeader(502)
		})}
	}}), func(o *Options) {
		o.LogOutput = true
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	})
	call := newTestCall("x")
	_, _, _ = b.run(t.Context(), call)
	for deadline := time.Now().Add(5 * time.Second); !strings.Contains(log.String(), "call failed"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is logged")
		}
	}
	for _, want := range []string{"level=INFO", "call_id=" + call.ID, `error="function failed"`, `output="Traceback: it broke"`, "total="} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%s is not in %s", want, log.String())
		}
	}
}

type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
