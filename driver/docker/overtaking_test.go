package docker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/cgroupfs"
)

// The tests of this file are about the order of what the engine is asked and
// what is done to a control group, which a real engine does not show. Theirs
// has one container and does what on says.

// onRequest are handlers of the requests that matter, nil for a success.
// Refusal is what the engine answers instead of a success, empty for a success.
type onRequest struct {
	inspect, pause, unpause, stop, remove func()
	refusal                               func(request string) string
}

const testGroup = "sys/fs/cgroup/docker/" + testID

func call(do func()) {
	if do != nil {
		do()
	}
}

// scripted makes a driver on such an engine. The container's control group is
// in a tree below root.
func scripted(t *testing.T, on *onRequest, opts Options) (d *Driver, root string) {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(pattern, body string, do func()) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			call(do)
			w.Header().Set("Content-Type", "application/json")
			if on.refusal != nil {
				if text := on.refusal(path.Base(r.URL.Path)); text != "" {
					w.WriteHeader(http.StatusConflict)
					fmt.Fprintf(w, `{"message":%q}`, text)
					return
				}
			}
			if body == "" {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			fmt.Fprint(w, body)
		})
	}
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.50") })
	answer("GET /v1.50/info", `{"ServerVersion":"28.1","CgroupDriver":"cgroupfs"}`, nil)
	answer("POST /v1.50/containers/create", `{"Id":"`+testID+`"}`, nil)
	answer("GET /v1.50/containers/json", `[{"Id":"`+testID+`","State":"running","Labels":{"`+ownerLabel+`":"crashed","`+instanceLabel+`":"crashed"}}]`, nil)
	one := "/v1.50/containers/" + testID
	answer("POST "+one+"/start", "", nil)
	answer("GET "+one+"/json", `{"Id":"`+testID+`","State":{"Running":true,"Pid":42}}`, func() { call(on.inspect) })
	answer("POST "+one+"/pause", "", func() { call(on.pause) })
	answer("POST "+one+"/unpause", "", func() { call(on.unpause) })
	answer("POST "+one+"/stop", "", func() { call(on.stop) })
	answer("DELETE "+one, "", func() { call(on.remove) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	opts.Host = "tcp://" + server.Listener.Addr().String()
	d, err := New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	root = tree(t, mountV2, "0::/docker/"+testID+"\n", testGroup)
	d.cgroups.root = root
	return d, root
}

func startScripted(t *testing.T, d *Driver) driver.Container {
	t.Helper()
	c, err := d.Create(t.Context(), &driver.Spec{ID: "c", Image: "i"})
	if err == nil {
		err = c.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFrozenContainerIsThawedBeforeTheEngineEndsIt(t *testing.T) {
	for name, end := range map[string]func(driver.Container, context.Context) error{
		"stop": driver.Container.Stop, "remove": driver.Container.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			var (
				on  onRequest
				got []string
			)
			d, root := scripted(t, &on, Options{})
			look := func() { got = append(got, read(t, root, testGroup+"/cgroup.freeze")) }
			c := startScripted(t, d)
			if err := c.Freeze(t.Context()); err != nil {
				t.Fatal(err)
			}
			look()
			on.stop, on.remove = look, look
			if err := end(c, t.Context()); err != nil {
				t.Error(err)
			}
			on.stop, on.remove = nil, nil
			if diff := cmp.Diff([]string{"1", "0"}, got); diff != "" {
				t.Errorf("before and during the end (-want +got)\n%s", diff)
			}
		})
	}
}

func TestSweepThawsBeforeItRemoves(t *testing.T) {
	var (
		on  onRequest
		got []string
	)
	d, root := scripted(t, &on, Options{})
	look := func() { got = append(got, read(t, root, testGroup+"/cgroup.freeze")) }
	d.opts.LabelTag = "tag"
	if err := cgroupfs.NewFreezer(cgroupfs.V2, root+"/"+testGroup).Freeze(); err != nil {
		t.Fatal(err)
	}
	look()
	on.remove = look
	if err := d.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"1", "0"}, got); diff != "" {
		t.Errorf("before and during removal (-want +got)\n%s", diff)
	}
}

func TestRemoveThatOvertakesTheSearchForTheControlGroup(t *testing.T) {
	var on onRequest
	d, root := scripted(t, &on, Options{})
	c := startScripted(t, d)
	asked, removed := make(chan struct{}), make(chan struct{})
	on.inspect = func() { close(asked); <-removed }
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Freeze(t.Context()); !errors.Is(err, driver.ErrGone) {
			t.Errorf("freeze: %v", err)
		}
	})
	<-asked
	if err := c.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	close(removed)
	wg.Wait()
	if got := read(t, root, testGroup+"/cgroup.freeze"); got != "0" {
		t.Errorf("the container is left with %q", got)
	}
}

// The freeze takes a while here, because the tree never says that it is done,
// so removals of all rounds fall into different moments of it.
func TestNoContainerIsLeftFrozenByAFreezeThatWasOvertaken(t *testing.T) {
	d, root := scripted(t, &onRequest{}, Options{})
	for round := range 100 {
		c := startScripted(t, d)
		if round%2 == 0 { // the search is over
			if err := errors.Join(c.Freeze(t.Context()), c.Thaw(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		began := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			close(began)
			_ = c.Freeze(t.Context())
		})
		<-began
		<-time.After(time.Duration(round) * 20 * time.Microsecond)
		if err := c.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if got := read(t, root, testGroup+"/cgroup.freeze"); got != "0" {
			t.Fatalf("round %d: the container is left with %q", round, got)
		}
	}
}

// The engine freezes a process that it has told to die, and waits for that.
func TestRemoveThatOvertakesTheEnginesFreeze(t *testing.T) {
	var on onRequest
	d, _ := scripted(t, &on, Options{})
	d.cgroups.root = t.TempDir()
	c := startScripted(t, d)
	pausing, killed, thawed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	on.pause = func() { close(pausing); <-killed }
	on.unpause = func() { close(thawed) }
	on.remove = func() {
		close(killed)
		select {
		case <-thawed:
		case <-time.After(5 * time.Second):
			t.Error("the process does not die")
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Freeze(t.Context()); !errors.Is(err, driver.ErrGone) {
			t.Errorf("freeze: %v", err)
		}
	})
	<-pausing
	if err := c.Remove(t.Context()); err != nil {
		t.Errorf("remove: %v", err)
	}
	wg.Wait()
}

func TestControlGroupIsSoughtOnceAndNotByStart(t *testing.T) {
	var (
		on       onRequest
		inspects int
	)
	on.inspect = func() { inspects++ }
	d, _ := scripted(t, &on, Options{})
	c := startScripted(t, d)
	if inspects != 0 {
		t.Errorf("the start cost %d look-ups", inspects)
	}
	for range 3 {
		if err := errors.Join(c.Freeze(t.Context()), c.Thaw(t.Context())); err != nil {
			t.Error(err)
		}
	}
	if inspects != 1 {
		t.Errorf("%d look-ups", inspects)
	}
}

// The engine answers a pause and its opposite before its record of the
// container says so, and refuses the other one until then.
func TestEngineThatHasNotNotedYet(t *testing.T) {
	for name, test := range map[string]struct {
		refused int
		fails   bool
	}{
		"at once": {0, false}, "after a while": {2, false}, "never": {1 << 30, true},
	} {
		t.Run(name, func(t *testing.T) {
			var on onRequest
			d, _ := scripted(t, &on, Options{})
			d.cgroups.root = t.TempDir()
			c := startScripted(t, d)
			left := map[string]int{"pause": test.refused, "unpause": test.refused}
			texts := map[string]string{"pause": "Container " + testID + " is already paused", "unpause": "Container " + testID + " is not paused"}
			on.refusal = func(request string) string {
				if left[request] == 0 {
					return ""
				}
				left[request]--
				return texts[request]
			}
			if err := c.Freeze(t.Context()); (err != nil) != test.fails {
				t.Errorf("freeze: %v", err)
			}
			if err := c.Thaw(t.Context()); (err != nil) != test.fails {
				t.Errorf("thaw: %v", err)
			}
			on.refusal = nil
		})
	}
}
