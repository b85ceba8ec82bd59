package invoke_test

import (
	"errors"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

func newCall() *invoke.Call {
	return &invoke.Call{
		ID: "c", App: &model.App{ID: "a", Name: "app", Config: model.Config{"k": "v"}},
		Fn:      &model.Fn{ID: "f", AppID: "a", Image: "image", Memory: 64, Timeout: 5, IdleTimeout: 30, Config: model.Config{"k": "v"}},
		Trigger: &model.Trigger{ID: "t"}, Header: http.Header{}, Extensions: map[string]string{"found": "1"},
	}
}

func TestOverriderChangesCopies(t *testing.T) {
	call, request := newCall(), &http.Request{}
	app, fn, trigger := call.App, call.Fn, call.Trigger
	override := invoke.Overrider(func(r *http.Request, call *invoke.Call, extensions map[string]string) (map[string]string, error) {
		if r != request || !maps.Equal(extensions, map[string]string{"found": "1"}) {
			t.Errorf("got %p, %v", r, extensions)
		}
		call.Fn.Memory, call.Fn.Config["k"], call.App.Config["k"], call.Container.MilliCPU = 128, "w", "w", 500
		return map[string]string{"given": "2"}, nil
	})
	if err := override.Apply(request, call); err != nil {
		t.Fatal(err)
	}
	if call.Fn.Memory != 128 || call.Fn.Config["k"] != "w" || call.App.Config["k"] != "w" || call.Container.MilliCPU != 500 {
		t.Errorf("the call has %+v, %+v", call.Fn, call.App)
	}
	if fn.Memory != 64 || fn.Config["k"] != "v" || app.Config["k"] != "v" {
		t.Errorf("what others share has changed: %+v, %+v", fn, app)
	}
	if !maps.Equal(call.Extensions, map[string]string{"given": "2"}) {
		t.Errorf("extensions %v", call.Extensions)
	}
	if call.Trigger != trigger {
		t.Error("what was not changed is another object")
	}
}

func TestOverriderThatChangesNothingLeavesTheObjects(t *testing.T) {
	call := newCall()
	app, fn, trigger := call.App, call.Fn, call.Trigger
	override := invoke.Overrider(func(_ *http.Request, _ *invoke.Call, extensions map[string]string) (map[string]string, error) {
		return extensions, nil
	})
	if err := override.Apply(nil, call); err != nil || call.App != app || call.Fn != fn || call.Trigger != trigger || call.Extensions["found"] != "1" {
		t.Errorf("%+v, %v", call, err)
	}
	if err := invoke.Overrider(nil).Apply(nil, call); err != nil || call.App != app {
		t.Errorf("no overrider: %v", err)
	}
	direct := newCall()
	direct.Trigger = nil
	if err := override.Apply(nil, direct); err != nil || direct.Trigger != nil {
		t.Errorf("without a trigger: %v, %v", direct.Trigger, err)
	}
}

// A slot names instances by a definition that the overrider may have changed.
func TestOverriddenCallsShareNoSlotWithOthers(t *testing.T) {
	slot := func(change func(*invoke.Call)) string {
		t.Helper()
		call := newCall()
		call.Slot = "s"
		err := invoke.Overrider(func(_ *http.Request, c *invoke.Call, e map[string]string) (map[string]string, error) {
			change(c)
			return e, nil
		}).Apply(nil, call)
		if err != nil {
			t.Fatal(err)
		}
		return call.Slot
	}
	more, again := slot(func(c *invoke.Call) { c.Fn.Memory = 256 }), slot(func(c *invoke.Call) { c.Fn.Memory = 256 })
	others := []string{slot(func(c *invoke.Call) { c.Fn.Memory = 512 }), slot(func(c *invoke.Call) { c.Container.MilliCPU = 1 }), slot(func(c *invoke.Call) { c.App.Name = "x" })}
	if unchanged := slot(func(*invoke.Call) {}); unchanged != "s" || more != again || more == unchanged {
		t.Errorf("unchanged %q, changed %q, again %q", unchanged, more, again)
	}
	for _, other := range others {
		if other == more || other == "s" {
			t.Errorf("%q is shared", other)
		}
	}
}

func TestOverriderRejectsCalls(t *testing.T) {
	want := &model.Error{Kind: model.ErrFnInvalidName, Status: http.StatusPaymentRequired, Message: "no credit"}
	err := invoke.Overrider(func(*http.Request, *invoke.Call, map[string]string) (map[string]string, error) { return nil, want }).Apply(nil, newCall())
	if got := model.Describe(err); !errors.Is(err, error(want)) || got.Status != 402 || got.Text != "no credit" {
		t.Errorf("got %v, %+v", err, got)
	}
}

func TestCallThatNoRunnerCouldExecuteIsTheProgramsFault(t *testing.T) {
	for name, change := range map[string]func(*invoke.Call){
		"memory is 0 MiB":         func(c *invoke.Call) { c.Fn.Memory = 0 },
		"timeout is 0 s":          func(c *invoke.Call) { c.Fn.Timeout = 0 },
		"idle timeout is -1 s":    func(c *invoke.Call) { c.Fn.IdleTimeout = -1 },
		"image has no name":       func(c *invoke.Call) { c.Fn.Image = "" },
		"time is -1 milli-CPU":    func(c *invoke.Call) { c.Container.MilliCPU = -1 },
		"/tmp is -1 MiB":          func(c *invoke.Call) { c.Container.TmpMiB = -1 },
		"the function is missing": func(c *invoke.Call) { c.Fn = nil },
	} {
		err := invoke.Overrider(func(_ *http.Request, c *invoke.Call, _ map[string]string) (map[string]string, error) {
			change(c)
			return nil, nil
		}).Apply(nil, newCall())
		if err == nil || !strings.Contains(err.Error(), name) || model.Describe(err).Kind != model.ErrInternal {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func BenchmarkOverriderThatChangesNothing(b *testing.B) {
	call := newCall()
	override := invoke.Overrider(func(_ *http.Request, _ *invoke.Call, e map[string]string) (map[string]string, error) { return e, nil })
	b.ReportAllocs()
	for b.Loop() {
		if err := override.Apply(nil, call); err != nil {
			b.Fatal(err)
		}
	}
}
