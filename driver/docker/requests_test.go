package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/driver"
)

// The tests of this file are about what the driver asks an engine for, how often,
// and how long it waits for an answer.

// countingEngine answers requests, and remembers them as "POST start". Those
// named in hanging get no answer.
type countingEngine struct {
	mu      sync.Mutex // guards the rest
	asked   []string
	hanging map[string]bool
	refused string        // the name of what is answered with an error
	pulled  bool          // the image is there
	pull    chan struct{} // closed: a pull ends
}

func newCountingEngine(t *testing.T) (*countingEngine, Options) {
	t.Helper()
	e := &countingEngine{hanging: map[string]bool{}, pull: make(chan struct{})}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	return e, Options{Host: "tcp://" + server.Listener.Addr().String()}
}

// requestName is short for a request: what it is about, if it is about one
// container, is left out.
func requestName(r *http.Request) string {
	name := path.Base(r.URL.Path)
	switch {
	case name == testID:
		return r.Method
	case strings.Contains(r.URL.Path, "/images/"):
		return r.Method + " image " + name
	}
	return r.Method + " " + name
}

func (e *countingEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	name := requestName(r)
	e.mu.Lock()
	e.asked = append(e.asked, name)
	hangs, refused, pulled := e.hanging[name], e.refused == name, e.pulled
	e.mu.Unlock()
	if hangs {
		<-r.Context().Done()
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if refused {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, `{"message":"no"}`)
		return
	}
	switch name {
	case "HEAD _ping", "GET _ping":
		w.Header().Set("Api-Version", "1.50")
	case "GET info":
		fmt.Fprint(w, `{"ServerVersion":"28.1","CgroupDriver":"cgroupfs"}`)
	case "POST create":
		fmt.Fprint(w, `{"Id":"`+testID+`"}`)
	case "GET json": // of one container, and of all
		if strings.HasSuffix(r.URL.Path, "/containers/json") {
			fmt.Fprint(w, `[{"Id":"`+testID+`","State":"exited","Labels":{"`+ownerLabel+`":"crashed","`+instanceLabel+`":"crashed"}}]`)
			return
		}
		fmt.Fprint(w, `{"Id":"`+testID+`","State":{"Running":true,"Pid":42}}`)
	case "POST wait":
		fmt.Fprint(w, `{"StatusCode":3}`)
	case "GET image json":
		if !pulled {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"message":"No such image"}`)
			return
		}
		fmt.Fprint(w, `{"Id":"sha256:1","Config":{}}`)
	case "POST image create":
		select {
		case <-e.pull:
		case <-r.Context().Done():
			return
		}
		e.mu.Lock()
		e.pulled = true
		e.mu.Unlock()
		fmt.Fprint(w, `{"status":"done"}`)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func (e *countingEngine) hang(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.hanging)
	e.hanging[name] = true
}

func (e *countingEngine) refuse(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refused = name
}

// take returns what the engine was asked since the last time.
func (e *countingEngine) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	asked := e.asked
	e.asked = nil
	return asked
}

// open makes a driver that freezes by the engine.
func (e *countingEngine) open(t *testing.T, opts Options) *Driver {
	t.Helper()
	d, err := New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	d.cgroups.root = t.TempDir()
	t.Cleanup(func() {
		e.hang("nothing")
		_ = d.Close(context.WithoutCancel(t.Context())) // it may have been closed before
	})
	return d
}

func TestContainerCostsNoMoreRequestsThanItNeeds(t *testing.T) {
	e, opts := newCountingEngine(t)
	d := e.open(t, opts)
	e.take()
	for range 3 { // none that is made for the first one only
		c := startScripted(t, d)
		if exit, err := c.Wait(t.Context()); err != nil || exit.Code != 3 {
			t.Errorf("exit %+v, %v", exit, err)
		}
		if err := c.Remove(t.Context()); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"POST create", "POST start", "POST wait", "DELETE"}, e.take()); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

func TestEveryRequestHasTwoDeadlines(t *testing.T) {
	for name, do := range map[string]func(driver.Container, context.Context) error{
		"POST start":   driver.Container.Start,
		"POST pause":   driver.Container.Freeze,
		"POST unpause": driver.Container.Thaw,
		"POST stop":    driver.Container.Stop,
		"DELETE":       driver.Container.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, opts := newCountingEngine(t)
			d := e.open(t, opts)
			c, err := d.Create(t.Context(), &driver.Spec{ID: "c", Image: "i"})
			if err != nil {
				t.Fatal(err)
			}
			e.hang(name)
			d.opts.CallTimeout = 50 * time.Millisecond
			if err := do(c, t.Context()); !errors.Is(err, driver.ErrUnavailable) {
				t.Errorf("the driver's own: %v", err)
			}
			if name == "POST stop" {
				return // when its caller's deadline ends, it has killed the process
			}
			d.opts.CallTimeout = time.Hour
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := do(c, ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, driver.ErrUnavailable) {
				t.Errorf("the caller's: %v", err)
			}
		})
	}
}

func TestCloseDoesNotWaitForAnEngineThatHangs(t *testing.T) {
	for _, name := range []string{"POST create", "DELETE", "POST image create"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, opts := newCountingEngine(t)
			opts.CallTimeout = time.Hour
			d := e.open(t, opts)
			startScripted(t, d)
			e.hang(name)
			var wg sync.WaitGroup
			wg.Go(func() { _, _ = d.Create(t.Context(), &driver.Spec{ID: "d", Image: "i"}) })
			wg.Go(func() { _, _ = d.EnsureImage(t.Context(), driver.ImageRequest{Name: "i"}) })
			for deadline := time.Now().Add(10 * time.Second); !slices.Contains(e.take(), "POST image create"); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("nothing is pulled")
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			closed := make(chan error, 1)
			go func() { closed <- d.Close(ctx) }()
			select {
			case <-closed:
			case <-time.After(time.Minute): // a request may take an hour
				t.Fatal("it waits for the engine")
			}
			wg.Wait()
		})
	}
}

// joining is the context of a caller who tells when it waits for an image.
type joining struct {
	context.Context
	joined chan struct{}
	once   *sync.Once
}

func newJoining(ctx context.Context) joining {
	return joining{ctx, make(chan struct{}), new(sync.Once)}
}

// Done is asked for when there is something to wait for.
func (j joining) Done() <-chan struct{} {
	j.once.Do(func() { close(j.joined) })
	return j.Context.Done()
}

func TestPullIsSharedAndOutlivesTheCallerWhoAskedFirst(t *testing.T) {
	e, opts := newCountingEngine(t)
	d := e.open(t, opts)
	e.take()
	ctx, leave := context.WithCancel(t.Context())
	left, stayed := make(chan error, 1), make(chan error, 1)
	first, second := newJoining(ctx), newJoining(t.Context())
	go func() { _, err := d.EnsureImage(first, driver.ImageRequest{Name: "i"}); left <- err }()
	<-first.joined
	go func() { _, err := d.EnsureImage(second, driver.ImageRequest{Name: "i"}); stayed <- err }()
	<-second.joined
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the one who left got %v", err)
	}
	close(e.pull)
	if err := <-stayed; err != nil {
		t.Errorf("the one who stayed got %v", err)
	}
	if diff := cmp.Diff([]string{"GET image json", "POST image create", "GET image json"}, e.take()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestPullIsNotSharedWithOtherCredentials(t *testing.T) {
	e, opts := newCountingEngine(t)
	d := e.open(t, opts)
	e.take()
	var wg sync.WaitGroup
	for _, want := range []driver.ImageRequest{
		{Name: "i", Tenant: "a", Token: "one"},
		{Name: "i", Tenant: "a", Token: "one"},
		{Name: "i", Tenant: "a", Token: "two"},
		{Name: "i", Tenant: "b", Token: "one"},
		{Name: "i", Tenant: "a"},
		{Name: "i", Tenant: "b"},
		{Name: "i:latest", Tenant: "c"},
	} {
		caller := newJoining(t.Context())
		wg.Go(func() {
			if _, err := d.EnsureImage(caller, want); err != nil {
				t.Error(err)
			}
		})
		<-caller.joined
	}
	pulls, looked := 0, 0
	for deadline := time.Now().Add(10 * time.Second); pulls < 3 || looked < 6; time.Sleep(time.Millisecond) {
		for _, name := range e.take() {
			switch name {
			case "POST image create":
				pulls++
			case "GET image json":
				looked++
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d pulls, want 3, after %d looks, want 6", pulls, looked)
		}
	}
	time.Sleep(200 * time.Millisecond) // from the look to the pull, or to the wait for another's
	close(e.pull)
	wg.Wait()
	if slices.Contains(e.take(), "POST image create") {
		t.Error("more than 3 pulls")
	}
}

func TestNewRemovesWhatAnEarlierRunLeft(t *testing.T) {
	e, opts := newCountingEngine(t)
	opts.LabelTag = "tag"
	e.open(t, opts)
	for deadline := time.Now().Add(10 * time.Second); !slices.Contains(e.take(), "DELETE"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the container is left")
		}
	}
}
