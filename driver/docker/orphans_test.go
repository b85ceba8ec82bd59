package docker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tinefn/tine/driver"
)

// The engine of these tests has one container, which carries the label "crashed".

// crashed returns an identity with the identifier of that container's driver,
// and the directory in which it is recorded.
func crashed(t *testing.T) (dead *identity, dir string) {
	t.Helper()
	dir = t.TempDir()
	dead = mustIdentity(t, dir)
	dead.id = "crashed"
	return dead, dir
}

func TestSweepIsRepeatedAndThenForgetsTheDead(t *testing.T) {
	var on onRequest
	removed := 0
	on.remove = func() { removed++ }
	d, _ := scripted(t, &on, Options{})
	dead, dir := crashed(t)
	d.dead = []*identity{dead}
	d.sweepAll([]time.Duration{time.Millisecond, time.Millisecond})
	if removed != 3 {
		t.Errorf("%d rounds, want 3", removed)
	}
	if got := deadIDs(t, dir); len(got) != 0 {
		t.Errorf("%q are still on record", got)
	}
}

// Servers with one tag remove each other's containers when they start, and not
// a while later.
func TestTagIsSweptOnce(t *testing.T) {
	var on onRequest
	removed := 0
	on.remove = func() { removed++ }
	d, _ := scripted(t, &on, Options{})
	d.opts.LabelTag = "tag"
	other := mustIdentity(t, t.TempDir())
	d.dead = []*identity{other} // so that there are further rounds
	d.sweepAll([]time.Duration{time.Millisecond, time.Millisecond})
	if removed != 1 {
		t.Errorf("removed in %d rounds, want 1", removed)
	}
	if other.lock != nil {
		t.Error("there were no further rounds")
	}
}

func TestSweepThatFailsLeavesTheRecordForTheNextStart(t *testing.T) {
	on := onRequest{refusal: func(request string) string {
		if request == testID {
			return "the container is stuck"
		}
		return ""
	}}
	var log bytes.Buffer
	d, _ := scripted(t, &on, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	dead, dir := crashed(t)
	d.dead = []*identity{dead}
	d.sweepAll(nil)
	for _, says := range []string{"level=WARN", "are left", testID, "stuck"} {
		if !strings.Contains(log.String(), says) {
			t.Errorf("the log does not say %q:\n%s", says, &log)
		}
	}
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if got := deadIDs(t, dir); len(got) != 1 {
		t.Errorf("on record are %q", got)
	}
}

func TestSweepWaitsForAnEngineThatDoesNotAnswer(t *testing.T) {
	e, opts := newCountingEngine(t)
	opts.CallTimeout = 50 * time.Millisecond
	d := e.open(t, opts)
	dead, _ := crashed(t)
	d.dead = []*identity{dead}
	e.hang("DELETE")
	done := make(chan struct{})
	go func() { d.sweepAll(nil); close(done) }()
	for deadline := time.Now().Add(10 * time.Second); dead.lock != nil; time.Sleep(10 * time.Millisecond) {
		if strings.Contains(strings.Join(e.take(), " "), "DELETE") {
			e.hang("nothing")
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is removed")
		}
	}
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the sweep does not end")
	}
	if dead.lock != nil {
		t.Error("the container is given up")
	}
}

func TestSweepTouchesNobodyElsesContainers(t *testing.T) {
	on := onRequest{remove: func() { t.Error("a container is removed") }}
	d, _ := scripted(t, &on, Options{})
	if err := d.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	d.dead = []*identity{{id: "another"}}
	if err := d.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	on.remove = nil
}

func TestRecordIsDeletedByACloseThatLeavesNothing(t *testing.T) {
	var on onRequest
	dir := t.TempDir()
	d, _ := scripted(t, &on, Options{StateDir: dir})
	startScripted(t, d)
	if err := d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := deadIDs(t, dir); len(got) != 0 {
		t.Errorf("on record are %q", got)
	}
}

func TestStateDirectoryMayBeDeletedWhileTheDriverRuns(t *testing.T) {
	dir := t.TempDir()
	d, _ := scripted(t, &onRequest{}, Options{StateDir: dir})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRecordIsKeptByACloseThatMayLeaveAContainer(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, e *countingEngine, d *Driver){
		"removal that is refused": func(t *testing.T, e *countingEngine, d *Driver) {
			t.Helper()
			startScripted(t, d)
			e.refuse("DELETE")
		},
		"creation without an answer": func(t *testing.T, e *countingEngine, d *Driver) {
			t.Helper()
			e.hang("POST create")
			e.refuse("DELETE c")
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := d.Create(ctx, &driver.Spec{ID: "c", Image: "i"}); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e, opts := newCountingEngine(t)
			opts.StateDir, opts.CallTimeout = t.TempDir(), 100*time.Millisecond
			d := e.open(t, opts)
			leave(t, e, d)
			_ = d.Close(t.Context()) // it says that something is left, if it knows
			if got := deadIDs(t, opts.StateDir); len(got) != 1 || got[0] != d.InstanceID() {
				t.Errorf("on record are %q, want %s", got, d.InstanceID())
			}
		})
	}
}

func TestStateDirectoryThatCannotBeWrittenIsWorthAWarning(t *testing.T) {
	var log bytes.Buffer
	d, _ := scripted(t, &onRequest{}, Options{StateDir: "/dev/null/state", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for _, says := range []string{"level=WARN", "FN_STATE_DIR", "/dev/null/state"} {
		if !strings.Contains(log.String(), says) {
			t.Errorf("the log does not say %q:\n%s", says, &log)
		}
	}
	if strings.Count(log.String(), "level=WARN") != 1 {
		t.Errorf("warned more than once:\n%s", &log)
	}
	if len(d.InstanceID()) != 2*identityBytes {
		t.Errorf("instance %q", d.InstanceID())
	}
}
