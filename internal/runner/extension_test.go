package runner

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

var errObjection = errors.New("for the test")

// TestCallThatMayNotStartCostsNoInstance: it is asked once an instance is held, and a
// refusal, or a panic, gives the instance back as it was.
func TestCallThatMayNotStartCostsNoInstance(t *testing.T) {
	var served atomic.Int32
	b := newBench(t, func(http.ResponseWriter, *http.Request) { served.Add(1) }, nil)
	asked := 0
	fn := newTestCall("x").Fn
	fn.Annotations = model.Annotations{model.AnnotationMaxCalls: json.RawMessage("1")} // which none of those is that are refused
	ask := func(answer func() error) *invoke.Call {
		call := newTestCall("x")
		call.Fn = fn
		call.BeforeStart = func() error {
			asked++
			if stats := b.pool.Stats(); stats.Busy != 1 {
				t.Errorf("no instance is held: %+v", stats)
			}
			return answer()
		}
		return call
	}
	for range 2 {
		if _, _, err := b.run(t.Context(), ask(func() error { return errObjection })); !errors.Is(err, errObjection) {
			t.Errorf("got %v", err)
		}
		awaitIdle(t, b.pool)
	}
	func() {
		defer func() { _ = recover() }()
		b.run(t.Context(), ask(func() error { panic("for the test") }))
		t.Error("no panic")
	}()
	awaitIdle(t, b.pool)
	if _, _, err := b.run(t.Context(), ask(func() error { return nil })); err != nil {
		t.Error(err)
	}
	if launches := b.engine.Calls(fake.OpCreate); launches != 1 || asked != 4 || served.Load() != 1 {
		t.Errorf("%d launches, asked %d times, served %d", launches, asked, served.Load())
	}
}

// TestCallIsAskedOnceAlsoIfAnInstanceIsDead: the next one gets it without asking.
func TestCallIsAskedOnceAlsoIfAnInstanceIsDead(t *testing.T) {
	b := newBenchOn(t, fake.New(fake.Options{Script: func(n int, _ *driver.Spec) fake.Script {
		if n > 0 {
			return fake.Script{}
		}
		return fake.Script{Main: func(ctx context.Context, p *fake.Process) int { // it accepts no connection
			listener, err := bindIn(p.Spec.SocketDir)
			if err == nil {
				err = errors.Join(listener.Close(), announce(p.Spec.SocketDir))
			}
			if err != nil {
				t.Error(err)
			}
			<-ctx.Done()
			return 0
		}}
	}}), nil)
	asked := 0
	call := newTestCall("x")
	call.BeforeStart = func() error { asked++; return nil }
	b.mustRun(t, call)
	if launches := b.engine.Calls(fake.OpCreate); asked != 1 || launches != 2 {
		t.Errorf("asked %d times, %d launches", asked, launches)
	}
}

func TestContainerGetsTheNewestExtensions(t *testing.T) {
	b := newBench(t, fake.Echo, nil)
	run := func(extensions map[string]string) {
		t.Helper()
		call := newTestCall("x")
		call.Extensions = extensions
		b.mustRun(t, call)
	}
	run(map[string]string{"tenant": "blue"})
	run(map[string]string{"tenant": "green"})
	if launches := b.engine.Calls(fake.OpCreate); launches != 1 {
		t.Fatalf("%d launches for extensions that the driver does not read", launches)
	}
	awaitIdle(t, b.pool)
	b.engine.Containers()[0].Kill(driver.Exit{Code: 1})
	b.awaitInstances(t, 0)
	run(map[string]string{"tenant": "black", invoke.ExtRegistryToken: "secret"})
	containers := b.engine.Containers()
	if got := containers[len(containers)-1].Spec().Extensions; len(containers) != 2 || len(got) != 1 || got["tenant"] != "black" {
		t.Errorf("%d containers, the last of %v", len(containers), got)
	}
}

// TestMinimumInstancesAreThoseThatCallsGet: what the overrider makes of calls.
func TestMinimumInstancesAreThoseThatCallsGet(t *testing.T) {
	var reject, panics atomic.Bool
	override := invoke.Overrider(func(r *http.Request, call *invoke.Call, _ map[string]string) (map[string]string, error) {
		switch {
		case panics.Load():
			panic("for the test")
		case reject.Load():
			return nil, errObjection
		}
		call.Container.MilliCPU = 100
		return map[string]string{"tenant": "blue"}, nil
	})
	b := newBench(t, fake.Echo, func(o *Options) {
		o.Override = override
		o.InstanceKey = func(extensions map[string]string) string { return extensions["tenant"] }
	})
	s := &shelf{apps: []*model.App{{ID: "a"}}}
	s.set("fn", "a", 1)
	standby := newStandby(t, b, s)
	b.awaitInstances(t, 1)
	if spec := b.engine.Containers()[0].Spec(); spec.Limits.MilliCPU != 100 || spec.Extensions["tenant"] != "blue" {
		t.Errorf("kept %+v", spec)
	}
	fn, err := s.FnByID(t.Context(), "fn")
	if err != nil {
		t.Fatal(err)
	}
	call := newTestCall("x")
	call.App, call.Fn = s.apps[0], fn
	if err := override.Apply(nil, call); err != nil {
		t.Fatal(err)
	}
	b.mustRun(t, call)
	if launches := b.engine.Calls(fake.OpCreate); launches != 1 {
		t.Errorf("the call did not get the instance that was kept: %d launches", launches)
	}
	for _, refuses := range []*atomic.Bool{&reject, &panics} {
		refuses.Store(true)
		s.set("fn", "a", 1)
		standby.FnChanged("fn")
		b.awaitInstances(t, 0)
		refuses.Store(false)
		s.set("fn", "a", 1)
		standby.FnChanged("fn")
		b.awaitInstances(t, 1)
	}
	if slices.ContainsFunc(b.engine.Containers(), func(c *fake.Container) bool { return c.Spec().Extensions["tenant"] != "blue" }) {
		t.Error("a container was made without the overrider's consent")
	}
}
