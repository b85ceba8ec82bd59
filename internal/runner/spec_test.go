package runner

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"
	"weak"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/internal/pool"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// definedCall is a call of a function of which everything is defined.
func definedCall() *invoke.Call {
	call := newTestCall("")
	syslog := "tcp://logs:514"
	call.App.SyslogURL = &syslog
	call.App.Config, call.Fn.Config = model.Config{"A": "app"}, model.Config{"F": "fn"}
	call.App.Annotations = model.Annotations{"of-app": json.RawMessage(`1`)}
	call.Fn.Annotations = model.Annotations{"of-fn": json.RawMessage(`1`)}
	call.Extensions = map[string]string{"e": "1"}
	return call
}

// TestDifferentDefinitionsShareNoInstance changes one thing at a time: an
// instance that was launched before must not serve the call.
func TestDifferentDefinitionsShareNoInstance(t *testing.T) {
	r := New(Options{InstanceKey: func(extensions map[string]string) string { return extensions["e"] }})
	key := func(call *invoke.Call) string { return r.specOf(call).Key }
	of := key(definedCall())
	if again := key(definedCall()); again != of {
		t.Fatal("equal definitions differ")
	}
	for name, change := range map[string]func(*invoke.Call){
		"image":                 func(c *invoke.Call) { c.Fn.Image = "other" },
		"memory":                func(c *invoke.Call) { c.Fn.Memory++ },
		"timeout":               func(c *invoke.Call) { c.Fn.Timeout++ },
		"idle timeout":          func(c *invoke.Call) { c.Fn.IdleTimeout++ },
		"function":              func(c *invoke.Call) { c.Fn.ID = "other" },
		"function's name":       func(c *invoke.Call) { c.Fn.Name = "other" },
		"app":                   func(c *invoke.Call) { c.Fn.AppID = "other" },
		"app's name":            func(c *invoke.Call) { c.App.Name = "other" },
		"app's config":          func(c *invoke.Call) { c.App.Config = model.Config{"A": "other"} },
		"function's config":     func(c *invoke.Call) { c.Fn.Config = model.Config{"F": "other"} },
		"config moved":          func(c *invoke.Call) { c.App.Config, c.Fn.Config = c.Fn.Config, c.App.Config },
		"app's annotation":      func(c *invoke.Call) { c.App.Annotations = model.Annotations{"of-app": json.RawMessage(`2`)} },
		"function's annotation": func(c *invoke.Call) { c.Fn.Annotations = model.Annotations{"of-fn": json.RawMessage(`2`)} },
		"syslog":                func(c *invoke.Call) { *c.App.SyslogURL = "tcp://other:514" },
		"no syslog":             func(c *invoke.Call) { c.App.SyslogURL = nil },
		"extension":             func(c *invoke.Call) { c.Extensions["e"] = "2" },
		"no extension":          func(c *invoke.Call) { c.Extensions = nil },
		"size of /tmp":          func(c *invoke.Call) { c.Container.TmpMiB = 1 },
		"processor time":        func(c *invoke.Call) { c.Container.MilliCPU = 1 },
		"no network":            func(c *invoke.Call) { c.Container.NoNetwork = true },
		"slot":                  func(c *invoke.Call) { c.Slot = "s" },
		"name in the config":    func(c *invoke.Call) { c.Fn.Config = model.Config{"FF": "n"} }, // the same letters
	} {
		call := definedCall()
		change(call)
		if key(call) == of {
			t.Errorf("%s: it would be served by an instance of before", name)
		}
	}
}

// TestExtensionsThatNobodyReadsDoNotSplitInstances: the driver reads "e" alone.
func TestExtensionsThatNobodyReadsDoNotSplitInstances(t *testing.T) {
	plain, reader := New(Options{}), New(Options{InstanceKey: func(extensions map[string]string) string { return extensions["e"] }})
	of := plain.specOf(newTestCall("")).Key
	for name, extensions := range map[string]map[string]string{
		"one": {"e": "1"}, "another": {"f": "1"}, "a token": {invoke.ExtRegistryToken: "t"}, "empty": {"e": ""},
	} {
		call := newTestCall("")
		call.Extensions = extensions
		if spec := plain.specOf(call); spec.Key != of {
			t.Errorf("%s: another key for a driver that reads none", name)
		}
		if got, splits := reader.specOf(call).Key != of, extensions["e"] != ""; got != splits {
			t.Errorf("%s: another key for a driver that reads one: %v", name, got)
		}
	}
}

func TestCallSaysWhatItsContainerGetsBesideTheDefinition(t *testing.T) {
	r := New(Options{Limits: driver.Limits{TmpMiB: 7, MilliCPU: 8, Processes: 9}})
	plain := definedCall()
	plain.Extensions = nil
	if got := r.specOf(plain); got.Container.Limits.TmpMiB != 7 || got.Container.Limits.MilliCPU != 8 || got.Container.Security.NoNetwork {
		t.Errorf("of the node: got %+v", got.Container)
	}
	special := definedCall()
	special.Extensions = nil
	special.Container = invoke.Container{TmpMiB: 64, MilliCPU: 250, NoNetwork: true}
	got := r.specOf(special)
	if l := got.Container.Limits; l.TmpMiB != 64 || l.MilliCPU != 250 || l.Processes != 9 || !got.Container.Security.NoNetwork {
		t.Errorf("got %+v", got.Container)
	}
	if got.Need.MilliCPU != 250 || got.Need.MemoryBytes != bytesOf(special.Fn.Memory)+64*mebibyte {
		t.Errorf("it reserves %+v", got.Need)
	}
	if again := r.specOf(plain); again.Container.Limits.TmpMiB != 7 {
		t.Error("what one call got is remembered for others")
	}
}

// Whoever names the instances that may serve a call does so within its function.
func TestSlotReplacesTheDefinition(t *testing.T) {
	r := New(Options{})
	slot := func(fn, slot, image string) string {
		call := definedCall()
		call.Fn.ID, call.Slot, call.Fn.Image = fn, slot, image
		return r.specOf(call).Key
	}
	if slot("f", "s", "a") != slot("f", "s", "b") {
		t.Error("the definition counts")
	}
	if slot("f", "s", "a") == slot("g", "s", "a") || slot("f", "s", "a") == slot("f", "t", "a") {
		t.Error("function or slot do not count")
	}
}

func TestRuntimeMustBeAllowed(t *testing.T) {
	b := newBench(t, fake.Echo, func(o *Options) { o.Runtimes = []string{"runc", "crun"} })
	for name, ok := range map[string]bool{"crun": true, "runsc": false} {
		call := newTestCall("")
		call.Fn.Annotations = model.Annotations{model.AnnotationRuntime: json.RawMessage(strconv.Quote(name))}
		spec, err := b.admit(call)
		if ok {
			if err != nil || spec.Container.Runtime != name {
				t.Errorf("%s: got %+v, %v", name, spec, err)
			}
			continue
		}
		want := "Container runtime 'runsc' of annotation tine/runtime is not allowed on this node, FN_CONTAINER_RUNTIMES_ALLOWED is: runc, crun"
		if got := model.Describe(err); got.Status != 400 || got.Text != want {
			t.Errorf("%s: got %d %s", name, got.Status, got.Text)
		}
	}
}

func TestMemoryOfTheTemporaryFilesIsReservedToo(t *testing.T) {
	r := New(Options{Limits: driver.Limits{TmpMiB: 5, MilliCPU: 250}})
	if need := r.specOf(newTestCall("")).Need; need.MemoryBytes != (64+5)*mib || need.MilliCPU != 250 {
		t.Errorf("%+v", need)
	}
}

// TestContainerIsThatOfItsOwnCall has calls one after the other that differ in
// what a container can notice.
func TestContainerIsThatOfItsOwnCall(t *testing.T) {
	b := newBench(t, fake.Echo, func(o *Options) {
		o.InstanceKey = func(extensions map[string]string) string { return extensions["tenant"] }
	})
	app, fn := &model.App{ID: "app", Name: "shop"}, newTestCall("").Fn // as the catalog hands them out
	run := func(app *model.App, fn *model.Fn, extensions map[string]string) *driver.Spec {
		t.Helper()
		call := newTestCall("x")
		call.App, call.Fn, call.Extensions = app, fn, extensions
		b.mustRun(t, call)
		containers := b.engine.Containers()
		return containers[len(containers)-1].Spec()
	}
	env := func(spec *driver.Spec, entry string) bool { return slices.Contains(spec.Env, entry) }

	run(app, fn, nil)
	run(app, fn, nil)
	if launches := b.engine.Calls(fake.OpCreate); launches != 1 {
		t.Errorf("%d launches for one definition", launches)
	}
	changedApp := *app
	changedApp.Config = model.Config{"COLOR": "red"}
	if spec := run(&changedApp, fn, nil); !env(spec, "COLOR=red") {
		t.Errorf("after a change of the app: %q", spec.Env)
	}
	changedFn := *fn
	changedFn.Config = model.Config{"COLOR": "green"}
	if spec := run(&changedApp, &changedFn, nil); !env(spec, "COLOR=green") {
		t.Errorf("after a change of the function: %q", spec.Env)
	}
	// These come with the call, and the definition is remembered already.
	extensions := map[string]string{"tenant": "blue"}
	if spec := run(&changedApp, &changedFn, extensions); !maps.Equal(spec.Extensions, extensions) {
		t.Errorf("with extensions: %v", spec.Extensions)
	}
	if spec := run(&changedApp, &changedFn, map[string]string{"tenant": "black"}); spec.Extensions["tenant"] != "black" {
		t.Errorf("with other extensions: %v", spec.Extensions)
	}
}

func TestRegistryTokenIsForTheImageAlone(t *testing.T) {
	r := New(Options{})
	for name, extensions := range map[string]map[string]string{"alone": {}, "with others": {"e": "1"}} {
		app, fn := newTestCall("").App, newTestCall("").Fn // as the catalog hands them out
		of := func(token string) *pool.Spec {
			call := newTestCall("")
			call.App, call.Fn, call.Extensions = app, fn, maps.Clone(extensions)
			if token != "-" {
				call.Extensions[invoke.ExtRegistryToken] = token
			}
			return r.specOf(call)
		}
		plain := of("-")
		for _, token := range []string{"one", "two", ""} {
			spec := of(token)
			if spec.Key != plain.Key {
				t.Errorf("%s: another key with token %q", name, token)
			}
			if spec.RegistryToken != token {
				t.Errorf("%s: token %q, want %q", name, spec.RegistryToken, token)
			}
			if len(spec.Container.Extensions) != len(extensions) {
				t.Errorf("%s: the container sees %v", name, spec.Container.Extensions)
			}
		}
		if again := of("-"); again.RegistryToken != "" || plain.RegistryToken != "" {
			t.Errorf("%s: another call's token stays", name)
		}
	}
	call := newTestCall("")
	if first := r.specOf(call); r.specOf(call) != first {
		t.Error("specs of calls without extensions are not remembered")
	}
}

// launchedCall executes a call that launches an instance, and forgets it.
func launchedCall(t *testing.T, b *bench) (call weak.Pointer[invoke.Call], request weak.Pointer[http.Request]) {
	type key struct{}
	caller := &http.Request{} // stands for what hangs on a caller's context
	made := newTestCall("x")
	ctx := context.WithValue(t.Context(), key{}, caller)
	if _, _, err := b.run(ctx, made); err != nil {
		t.Error(err)
	}
	return weak.Make(made), weak.Make(caller)
}

func TestInstanceKeepsNothingOfTheCallThatLaunchedIt(t *testing.T) {
	b := newBench(t, fake.Echo, func(o *Options) { o.LogOutput = true })
	call, request := launchedCall(t, b)
	awaitIdle(t, b.pool)
	for deadline := time.Now().Add(10 * time.Second); call.Value() != nil || request.Value() != nil; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatalf("kept the call: %v, its context: %v", call.Value() != nil, request.Value() != nil)
		}
	}
	if stats := b.pool.Stats(); stats.Idle != 1 {
		t.Errorf("the instance is gone too, so this shows nothing: %+v", stats)
	}
}
