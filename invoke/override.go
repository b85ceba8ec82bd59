package invoke

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"

	"github.com/tinefn/tine/model"
)

// Overrider changes calls before they are admitted, on every node that a call
// passes: a full node, or a load balancer and then a runner.
//
// It gets the HTTP request that the call came with, whose body is the call's; nil
// on a runner, which calls reach by another protocol, and when a node makes
// instances ready for calls to come, of which it has App and Fn alone. It may
// change the call, also its App, Fn and Trigger, which are copies: memory,
// timeouts, image, configuration, annotations, but no identifiers; and Container. On a
// load balancer these changes travel to the runner.
//
// The extensions are those that the call has by now, nil if it has none; the map
// that it returns replaces them. An error rejects the call, and reaches the
// client by its kind of package model. It is called by many goroutines at the same
// time and adds its time to every call.
type Overrider func(r *http.Request, call *Call, extensions map[string]string) (map[string]string, error)

// Apply lets o change a call. A nil Overrider changes nothing.
func (o Overrider) Apply(r *http.Request, call *Call) error {
	if o == nil {
		return nil
	}
	app, fn, trigger, container := call.App, call.Fn, call.Trigger, call.Container
	call.App, call.Fn, call.Trigger = app.Clone(), fn.Clone(), trigger.Clone()
	extensions, err := o(r, call, call.Extensions)
	if err != nil {
		return err
	}
	call.Extensions = extensions
	// What is as it was stays the same object: others recognize it by that.
	if reflect.DeepEqual(call.App, app) {
		call.App = app
	}
	if reflect.DeepEqual(call.Fn, fn) {
		call.Fn = fn
	}
	if reflect.DeepEqual(call.Trigger, trigger) {
		call.Trigger = trigger
	}
	if call.App == app && call.Fn == fn && call.Container == container {
		return nil
	}
	if call.Slot != "" { // what named the instances did not know of the change
		changed, err := json.Marshal([]any{call.App, call.Fn, call.Container})
		if err != nil {
			return fmt.Errorf("the call overrider left a call that has no JSON form: %w", err)
		}
		sum := sha256.Sum256(changed)
		call.Slot += "/" + hex.EncodeToString(sum[:])
	}
	return sound(call, fn)
}

// sound refuses what no runner could execute, or could without any limit, as an
// internal error: the program is wrong, not the client. The call of a runner's status
// image has no memory limit to begin with.
func sound(call *Call, given *model.Fn) error {
	var err error
	switch fn := call.Fn; {
	case call.App == nil || fn == nil:
		err = errors.New("the app or the function is missing")
	case fn.Memory < 1 && given.Memory > 0:
		err = errors.New("the memory is 0 MiB")
	case fn.Timeout < 1:
		err = fmt.Errorf("the timeout is %d s", fn.Timeout)
	case fn.IdleTimeout < 1:
		err = fmt.Errorf("the idle timeout is %d s", fn.IdleTimeout)
	case fn.Image == "":
		err = errors.New("the image has no name")
	case call.Container.MilliCPU < 0:
		err = fmt.Errorf("the processor time is %d milli-CPU", call.Container.MilliCPU)
	case call.Container.TmpMiB < 0:
		err = fmt.Errorf("the size of /tmp is %d MiB", call.Container.TmpMiB)
	}
	if err != nil {
		return fmt.Errorf("the call overrider left a call that cannot be executed: %w", err)
	}
	return nil
}
