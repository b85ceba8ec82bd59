package fake_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/drivertest"
	"github.com/tinefn/tine/driver/fake"
	"github.com/tinefn/tine/internal/breaker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const missing = "absent:1"

// program does what the conformance suite wants of its image.
func program(_ int, spec *driver.Spec) fake.Script {
	script := fake.Script{Handler: http.HandlerFunc(countBytes)}
	if spec.Image == missing {
		script.CreateErr = driver.ErrImageNotFound
	}
	if len(spec.Command) > 0 {
		script.Main = command
	}
	return script
}

func countBytes(w http.ResponseWriter, r *http.Request) {
	n, _ := io.Copy(io.Discard, r.Body)
	fmt.Fprint(w, n)
}

func command(ctx context.Context, p *fake.Process) int {
	args := p.Spec.Command
	switch args[0] {
	case "exit":
		code, _ := strconv.Atoi(args[1])
		return code
	case "print":
		fmt.Fprintln(p.Stdout, args[1])
		fmt.Fprintln(p.Stderr, args[2])
		return 0
	case "write": // it has no files: all are its output
		fmt.Fprintln(p.Stdout, args[2])
		return 0
	case "env":
		for _, entry := range p.Spec.Env {
			if value, ok := strings.CutPrefix(entry, args[1]+"="); ok {
				fmt.Fprintln(p.Stdout, value)
			}
		}
		return 0
	case "deaf":
		fmt.Fprintln(p.Stdout, "deaf")
		<-ctx.Done()
		return 1
	}
	select { // sleep
	case <-p.Terminated:
		return 143
	case <-ctx.Done():
		return 1
	}
}

func TestEngineConforms(t *testing.T) {
	newDriver := func(*testing.T) driver.Driver {
		return fake.New(fake.Options{
			Script: program, StopGrace: 300 * time.Millisecond,
			EnsureImage: func(_ context.Context, want driver.ImageRequest) (driver.Image, error) {
				if want.Name == missing {
					return driver.Image{}, &driver.PullError{Image: want.Name, Status: 404, Message: "not found"}
				}
				return driver.Image{ID: want.Name}, nil
			},
		})
	}
	images := drivertest.Images{Program: "program", Missing: missing}
	drivertest.Run(t, newDriver, images)
	t.Run("Guarded", func(t *testing.T) {
		drivertest.Run(t, func(t *testing.T) driver.Driver { return breaker.New(newDriver(t), breaker.Options{}) }, images)
	})
}

// run makes and starts a container of one script on a new engine.
func run(t *testing.T, opts fake.Options, script fake.Script, dir string) (*fake.Engine, driver.Container) {
	t.Helper()
	opts.Script = func(int, *driver.Spec) fake.Script { return script }
	e := fake.New(opts)
	t.Cleanup(func() {
		if err := e.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if e.Live() != 0 {
			t.Errorf("%d containers are left", e.Live())
		}
	})
	c, err := e.Create(t.Context(), &driver.Spec{ID: "c", SocketDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e, c
}

// ready is an OnReady with a channel that it closes.
func ready() (func(*driver.Spec), <-chan struct{}) {
	done := make(chan struct{})
	return func(*driver.Spec) { close(done) }, done
}

// call sends body to the function in dir, over a connection of its own.
func call(ctx context.Context, dir, body string) (string, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		root, err := os.Open(dir) // the path may be too long for a socket
		if err != nil {
			return nil, err
		}
		defer root.Close()
		var d net.Dialer
		return d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/lsnr.sock", root.Fd()))
	}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/call", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return string(answer), err
}

func TestFunctionEchoesByDefault(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	onReady, isReady := ready()
	run(t, fake.Options{OnReady: onReady}, fake.Script{}, dir)
	<-isReady
	if got, err := call(t.Context(), dir, "hello"); err != nil || got != "hello" {
		t.Errorf("answer %q, %v", got, err)
	}
}

func TestBadSockets(t *testing.T) {
	tests := map[string]struct {
		script   fake.BadSocket
		mode     os.FileMode // of the name itself
		absolute bool
		target   string
	}{
		"good":     {script: fake.GoodSocket, mode: os.ModeSymlink, target: "phonylsnr.sock"},
		"direct":   {script: fake.DirectSocket, mode: os.ModeSocket},
		"absolute": {script: fake.AbsoluteLink, mode: os.ModeSymlink, absolute: true},
		"parent":   {script: fake.ParentLink, mode: os.ModeSymlink, target: "../lsnr.sock"},
		"dangling": {script: fake.DanglingLink, mode: os.ModeSymlink, target: "absent.sock"},
		"plain":    {script: fake.PlainFile},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			onReady, isReady := ready()
			run(t, fake.Options{OnReady: onReady}, fake.Script{BadSocket: tt.script}, dir)
			<-isReady
			info, err := os.Lstat(filepath.Join(dir, "lsnr.sock"))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Type() != tt.mode {
				t.Errorf("mode %v, want %v", info.Mode(), tt.mode)
			}
			if tt.mode != os.ModeSymlink {
				return
			}
			target, err := os.Readlink(filepath.Join(dir, "lsnr.sock"))
			if err != nil || filepath.IsAbs(target) != tt.absolute || (!tt.absolute && target != tt.target) {
				t.Errorf("link to %q, %v", target, err)
			}
		})
	}
}

func TestCrashOnCallCutsTheAnswer(t *testing.T) {
	dir := t.TempDir()
	onReady, isReady := ready()
	_, c := run(t, fake.Options{OnReady: onReady}, fake.Script{CrashOnCall: true}, dir)
	<-isReady
	if got, err := call(t.Context(), dir, "hello"); err == nil {
		t.Errorf("whole answer %q", got)
	}
	if exit, err := c.Wait(t.Context()); err != nil || exit.Code != 1 {
		t.Errorf("exit %+v, %v", exit, err)
	}
}

func TestKillEndsACallInProgress(t *testing.T) {
	dir := t.TempDir()
	onReady, isReady := ready()
	inside := make(chan struct{})
	hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(inside)
		<-r.Context().Done()
	})
	e, c := run(t, fake.Options{OnReady: onReady}, fake.Script{Handler: hang}, dir)
	<-isReady
	failed := make(chan error, 1)
	go func() { // ends when the container is killed
		_, err := call(t.Context(), dir, "hello")
		failed <- err
	}()
	<-inside
	e.Containers()[0].Kill(driver.Exit{Code: 137, OutOfMemory: true})
	if err := <-failed; err == nil {
		t.Error("the call was answered")
	}
	if exit, err := c.Wait(t.Context()); err != nil || !exit.OutOfMemory {
		t.Errorf("exit %+v, %v", exit, err)
	}
}

func TestFrozenFunctionAnswersAfterThaw(t *testing.T) {
	dir := t.TempDir()
	onReady, isReady := ready()
	e, c := run(t, fake.Options{OnReady: onReady}, fake.Script{}, dir)
	<-isReady
	if err := c.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !e.Containers()[0].Frozen() {
		t.Error("not frozen")
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got, err := call(short, dir, "hello"); err == nil {
		t.Errorf("a frozen function answered %q", got)
	}
	if err := c.Thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := call(t.Context(), dir, "hello"); err != nil || got != "hello" {
		t.Errorf("answer %q, %v", got, err)
	}
}

func TestScriptedTimesPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		readyAfter := make(chan time.Duration, 1)
		began := time.Now()
		e := fake.New(fake.Options{
			NoSocket: true, OnReady: func(*driver.Spec) { readyAfter <- time.Since(began) },
			Script: func(int, *driver.Spec) fake.Script {
				return fake.Script{
					CreateDelay: time.Second, StartDelay: 2 * time.Second, SocketDelay: 4 * time.Second, RemoveDelay: 8 * time.Second,
					Exit: &driver.Exit{Code: 3}, ExitAfter: time.Minute,
				}
			},
		})
		dir := t.TempDir()
		c, err := e.Create(t.Context(), &driver.Spec{ID: "c", SocketDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if exit, err := c.Wait(t.Context()); err != nil || exit.Code != 3 {
			t.Errorf("exit %+v, %v", exit, err)
		}
		if got := <-readyAfter; got != 7*time.Second {
			t.Errorf("ready after %v", got)
		}
		if got := time.Since(began); got != 63*time.Second {
			t.Errorf("ended after %v", got)
		}
		if _, err := os.Stat(filepath.Join(dir, "lsnr.sock")); err != nil {
			t.Error(err)
		}
		if err := c.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(began); got != 71*time.Second {
			t.Errorf("removed after %v", got)
		}
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestScriptedErrors(t *testing.T) {
	failure := errors.New("scripted")
	scripts := map[fake.Op]fake.Script{
		fake.OpCreate: {CreateErr: failure}, fake.OpStart: {StartErr: failure},
		fake.OpFreeze: {FreezeErr: failure}, fake.OpThaw: {ThawErr: failure},
	}
	for op, script := range scripts {
		t.Run(string(op), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := fake.New(fake.Options{NoSocket: true, Script: func(int, *driver.Spec) fake.Script { return script }})
				defer e.Close(t.Context())
				if got, err := life(t, e); !errors.Is(err, failure) || got != op {
					t.Errorf("%s failed with %v", got, err)
				}
			})
		})
	}
}

// life goes through all operations until one fails.
func life(t *testing.T, e *fake.Engine) (fake.Op, error) {
	ctx := t.Context()
	if _, err := e.EnsureImage(ctx, driver.ImageRequest{Name: "image"}); err != nil {
		return fake.OpEnsureImage, err
	}
	c, err := e.Create(ctx, &driver.Spec{ID: "c"})
	if err != nil {
		return fake.OpCreate, err
	}
	for _, step := range []struct {
		op fake.Op
		do func(context.Context) error
	}{
		{fake.OpStart, c.Start},
		{fake.OpFreeze, c.Freeze},
		{fake.OpThaw, c.Thaw},
		{fake.OpStop, c.Stop},
		{fake.OpWait, func(ctx context.Context) error { _, err := c.Wait(ctx); return err }},
		{fake.OpRemove, c.Remove},
	} {
		if err := step.do(ctx); err != nil {
			return step.op, err
		}
	}
	return "", nil
}

func TestHangingOperationsEndByTheCallTimeout(t *testing.T) {
	for _, op := range []fake.Op{
		fake.OpEnsureImage, fake.OpCreate, fake.OpStart, fake.OpFreeze, fake.OpThaw, fake.OpStop, fake.OpWait, fake.OpRemove,
	} {
		t.Run(string(op), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := fake.New(fake.Options{NoSocket: true, CallTimeout: time.Minute})
				defer e.Close(t.Context())
				e.Hang(op)
				began := time.Now()
				got, err := life(t, e)
				if got != op || !errors.Is(err, driver.ErrUnavailable) || time.Since(began) != time.Minute {
					t.Errorf("%s failed with %v after %v", got, err, time.Since(began))
				}
				if e.Calls(op) != 1 {
					t.Errorf("%d calls", e.Calls(op))
				}
			})
		})
	}
}

func TestDownEngineIsUnavailableUntilUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c := run(t, fake.Options{NoSocket: true}, fake.Script{}, "")
		waited := make(chan error, 1)
		go func() { // ends when the engine goes down
			_, err := c.Wait(t.Context())
			waited <- err
		}()
		synctest.Wait()
		e.Down()
		if err := <-waited; !errors.Is(err, driver.ErrUnavailable) {
			t.Errorf("wait: %v", err)
		}
		if err := c.Remove(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
			t.Errorf("remove: %v", err)
		}
		if got, err := life(t, e); got != fake.OpEnsureImage || !errors.Is(err, driver.ErrUnavailable) {
			t.Errorf("%s: %v", got, err)
		}
		e.Up()
		if e.Live() != 1 {
			t.Errorf("%d containers", e.Live())
		}
		if err := c.Remove(t.Context()); err != nil {
			t.Errorf("remove: %v", err)
		}
	})
}

func TestRemoveFailsAsOftenAsScripted(t *testing.T) {
	_, c := run(t, fake.Options{NoSocket: true}, fake.Script{RemoveFailures: 2}, "")
	for i, want := range []error{driver.ErrUnavailable, driver.ErrUnavailable, nil} {
		if err := c.Remove(t.Context()); !errors.Is(err, want) {
			t.Errorf("attempt %d: %v, want %v", i, err, want)
		}
	}
}

func TestNeverSocketRunsWithoutBeingReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var isReady atomic.Bool
		_, c := run(t, fake.Options{NoSocket: true, OnReady: func(*driver.Spec) { isReady.Store(true) }}, fake.Script{NeverSocket: true}, "")
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if exit, err := c.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait: %+v, %v", exit, err)
		}
		if isReady.Load() {
			t.Error("it is ready")
		}
	})
}

func TestCountersCountContainers(t *testing.T) {
	e := fake.New(fake.Options{NoSocket: true})
	defer e.Close(t.Context())
	for _, id := range []string{"a", "b"} {
		if _, err := e.Create(t.Context(), &driver.Spec{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	first := e.Containers()[0]
	if err := first.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e.Live() != 1 || e.MaxLive() != 2 || e.Calls(fake.OpCreate) != 2 || !first.Removed() || first.Spec().ID != "a" {
		t.Errorf("live %d, most %d, created %d", e.Live(), e.MaxLive(), e.Calls(fake.OpCreate))
	}
}
