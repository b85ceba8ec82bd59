package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/prefork"
)

// faultyEngine answers like an engine that has containers, and lets a test answer
// instead.
type faultyEngine struct {
	deaths chan string // identifiers for its stream of events

	mu      sync.Mutex // guards the rest
	instead func(w http.ResponseWriter, what string) bool
	made    int
	names   map[string]string // of containers, by identifier
	running map[string]bool
}

func startFaulty(t *testing.T, opts Options, instead func(w http.ResponseWriter, what string) bool) (*faultyEngine, *Driver) {
	t.Helper()
	e := &faultyEngine{deaths: make(chan string, 8), instead: instead, names: map[string]string{}, running: map[string]bool{}}
	server := httptest.NewServer(e)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	opts.Host = "tcp://" + server.Listener.Addr().String()
	d, err := New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.set(nil)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := d.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return e, d
}

// set changes what the engine answers instead.
func (e *faultyEngine) set(instead func(w http.ResponseWriter, what string) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.instead = instead
}

// find returns the identifier of a container by that, its name, or how its name
// begins; "" if there is none.
func (e *faultyEngine) find(ref string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.findLocked(ref)
}

func (e *faultyEngine) findLocked(ref string) string {
	for id, name := range e.names {
		if id == ref || strings.HasPrefix(name, ref) {
			return id
		}
	}
	return ""
}

// end makes a container's process end.
func (e *faultyEngine) end(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running[id] = false
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
}

// hangUp ends the connection without an answer.
func hangUp(w http.ResponseWriter) bool {
	if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
		_ = conn.Close()
	}
	return true
}

func (e *faultyEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if strings.HasPrefix(path, "/v1.") {
		path = path[strings.Index(path[1:], "/")+1:]
	}
	w.Header().Set("Api-Version", "1.41")
	w.Header().Set("Content-Type", "application/json")
	e.mu.Lock()
	instead := e.instead
	e.mu.Unlock()
	if instead != nil && instead(w, strings.TrimSpace(r.Method+" "+path+" "+r.URL.Query().Get("name"))) {
		return
	}
	if path == "/events" {
		e.serveEvents(w, r)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case path == "/_ping":
		_, _ = w.Write([]byte("OK"))
	case path == "/info":
		_, _ = w.Write([]byte(`{"Architecture":"x86_64","OSType":"linux","DefaultRuntime":"runc","Runtimes":{"runc":{}},"ServerVersion":"1"}`))
	case parts[0] == "images":
		_, _ = w.Write([]byte(`{"Id":"sha256:` + strings.Repeat("a", 64) + `"}`))
	case path == "/containers/create":
		e.createLocked(w, r)
	case len(parts) == 3 && parts[2] == "start":
		e.running[e.findLocked(parts[1])] = true
		w.WriteHeader(http.StatusNoContent)
	case e.findLocked(parts[1]) == "":
		refuse(w, http.StatusNotFound, "No such container: "+parts[1])
	case r.Method == http.MethodDelete:
		id := e.findLocked(parts[1])
		delete(e.names, id)
		delete(e.running, id)
		w.WriteHeader(http.StatusNoContent)
	default:
		id := e.findLocked(parts[1])
		fmt.Fprintf(w, `{"Id":%q,"State":{"Running":%v},"NetworkSettings":{"Networks":{"bridge":{"IPAddress":"172.17.0.2"}}}}`, id, e.running[id])
	}
}

func (e *faultyEngine) createLocked(w http.ResponseWriter, r *http.Request) {
	var body struct{ HostConfig struct{ NetworkMode string } }
	_ = json.NewDecoder(r.Body).Decode(&body)
	if joins, ok := strings.CutPrefix(body.HostConfig.NetworkMode, "container:"); ok && e.findLocked(joins) == "" {
		refuse(w, http.StatusNotFound, "No such container: "+joins)
		return
	}
	e.made++
	id := fmt.Sprintf("id%d", e.made)
	e.names[id] = r.URL.Query().Get("name")
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, `{"Id":%q}`, id)
}

func (e *faultyEngine) serveEvents(w http.ResponseWriter, r *http.Request) {
	flusher := w.(http.Flusher)
	w.WriteHeader(http.StatusOK)
	flusher.Flush()
	for {
		select {
		case id := <-e.deaths:
			fmt.Fprintf(w, `{"Type":"container","Action":"die","Actor":{"ID":%q}}`+"\n", id)
			flusher.Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func awaitReady(t *testing.T, d *Driver, want int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); d.PreforkLevels()[0].Count[prefork.Ready] < want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("levels %v", d.PreforkLevels())
		}
	}
}

const placeholderName = "tine-prefork-"

// An engine that restarts answers nothing, and then has no placeholder any more. A
// creation of which nobody knows whether it happened is undone by name, so it must
// not be repeated under that name.
func TestCreationWithoutAnAnswerIsNotRepeated(t *testing.T) {
	e, d := startFaulty(t, Options{Prefork: Prefork{Min: 1, Max: 1}}, nil)
	awaitReady(t, d, 1)
	holder := e.find(placeholderName)
	var once atomic.Bool
	e.set(func(w http.ResponseWriter, what string) bool {
		if what != "POST /containers/create fn" || !once.CompareAndSwap(false, true) {
			return false
		}
		e.end(holder)
		return hangUp(w)
	})
	c, err := d.Create(t.Context(), &driver.Spec{ID: "fn", Image: "x"})
	if err != nil {
		return // who asked tries again, with another name
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(strayPauses[0] + 500*time.Millisecond)
	if e.find("fn") == "" {
		t.Error("the container that runs was removed as what the first attempt may have left")
	}
}

func TestStartEndsIfTheContainerCannotBeMadeAgain(t *testing.T) {
	e, d := startFaulty(t, Options{Prefork: Prefork{Min: 1, Max: 1}}, nil)
	awaitReady(t, d, 1)
	holder := e.find(placeholderName)
	c, err := d.Create(t.Context(), &driver.Spec{ID: "fn", Image: "x"})
	if err != nil {
		t.Fatal(err)
	}
	e.end(holder)
	var removals atomic.Int32
	e.set(func(w http.ResponseWriter, what string) bool {
		switch {
		case strings.HasSuffix(what, "/start"):
			refuse(w, http.StatusConflict, "cannot join network of a non running container")
		case strings.HasPrefix(what, "DELETE"):
			removals.Add(1)
			refuse(w, http.StatusInternalServerError, "device or resource busy")
		default:
			return false
		}
		return true
	})
	if err := c.Start(t.Context()); err == nil || removals.Load() != 1 {
		t.Errorf("%v after %d removals", err, removals.Load())
	}
}

func TestContainerInAnotherNamespaceIsNotDrainedForTheOneThatItNeverUsed(t *testing.T) {
	e, d := startFaulty(t, Options{Prefork: Prefork{Min: 2, Max: 3}}, nil)
	awaitReady(t, d, 2)
	var drained atomic.Int32
	c, err := d.Create(t.Context(), &driver.Spec{ID: "fn", Image: "x", OnDrain: func() { drained.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	own := c.(*engineContainer)
	lost := own.lease().ID()
	e.end(lost)
	e.set(func(w http.ResponseWriter, what string) bool {
		lease := own.lease()
		if !strings.HasSuffix(what, "/start") || lease == nil || lease.ID() != lost {
			return false
		}
		refuse(w, http.StatusConflict, "cannot join network of a non running container")
		return true
	})
	e.deaths <- lost
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		d.mu.Lock()
		known := own.connection.holder.dead
		d.mu.Unlock()
		if known {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody hears of the death")
		}
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := own.lease()
	if next == nil || next.ID() == lost || drained.Load() != 0 {
		t.Fatalf("lease %v, drained %d times", next, drained.Load())
	}
	e.end(next.ID())
	e.deaths <- next.ID()
	for deadline := time.Now().Add(10 * time.Second); drained.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is not drained for the one that it uses")
		}
	}
}

func TestPlaceholderThatCannotBeRemovedAtOnceIsNotForgotten(t *testing.T) {
	var away atomic.Bool
	var victim atomic.Pointer[string]
	e, d := startFaulty(t, Options{StateDir: t.TempDir(), Prefork: Prefork{Min: 1, Max: 1}}, func(w http.ResponseWriter, what string) bool {
		if id, found := strings.CutPrefix(strings.TrimSuffix(what, "/start"), "POST /containers/"); found && strings.HasSuffix(what, "/start") && victim.CompareAndSwap(nil, &id) {
			away.Store(true)
			time.AfterFunc(300*time.Millisecond, func() { away.Store(false) })
		}
		return away.Load() && hangUp(w)
	})
	awaitReady(t, d, 1)
	for deadline := time.Now().Add(10 * time.Second); e.find(*victim.Load()) != ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is left")
		}
	}
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(d.opts.StateDir, instancesDir, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("records %v, %v", left, err)
	}
}

func TestPullOfThePlaceholdersImageTakesNobodysTurn(t *testing.T) {
	pulling, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	_, d := startFaulty(t, Options{MaxStarts: 1, Prefork: Prefork{Min: 1, Max: 1, Image: "slow"}}, func(w http.ResponseWriter, what string) bool {
		switch {
		case strings.HasPrefix(what, "GET /images/slow"):
			refuse(w, http.StatusNotFound, "no such image")
		case strings.HasPrefix(what, "POST /images/create"):
			once.Do(func() { close(pulling) })
			<-release
			refuse(w, http.StatusNotFound, "no such image")
		default:
			return false
		}
		return true
	})
	<-pulling
	defer close(release)
	c, err := d.Create(t.Context(), &driver.Spec{ID: "fn", Image: "x"})
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	go func() { started <- c.Start(t.Context()) }()
	select {
	case err := <-started:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the function waits for the pull")
	}
}
