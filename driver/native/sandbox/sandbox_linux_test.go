package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/driver/native/job"
	"github.com/tinefn/tine/driver/native/sandboxinit"
	"github.com/tinefn/tine/test/image"
)

// testfn is the test function's program, built once.
var testfn string

func TestMain(m *testing.M) {
	if len(os.Args) > 0 && os.Args[0] == SelfArg {
		sandboxinit.Main()
	}
	if len(os.Args) > 1 && os.Args[0] == tracerArg {
		traceMain(os.Args[1])
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sandbox-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	testfn = filepath.Join(dir, "func")
	program, err := image.CompileTestFn()
	if err == nil {
		err = os.WriteFile(testfn, program, 0o755) //nolint:gosec // it is a program
	}
	if err != nil {
		panic(err)
	}
	return m.Run()
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("sandboxes need root")
	}
}

func newSpawner(t *testing.T) *Spawner {
	t.Helper()
	needRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSpawner(self, []string{SelfArg})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// bothWays runs a test with sandboxes that have a user namespace, and without.
func bothWays(t *testing.T, test func(t *testing.T, spawn func() *Sandbox)) {
	t.Helper()
	s := newSpawner(t)
	for name, ids := range map[string]IDs{"host's users": {}, "own users": {First: DefaultFirstID}} {
		t.Run(name, func(t *testing.T) {
			test(t, func() *Sandbox { return spawn(t, s, ids) })
		})
	}
}

// spawn starts a sandbox that is ready, and ends with the test.
func spawn(t *testing.T, s *Spawner, ids IDs) *Sandbox {
	t.Helper()
	box, err := s.Spawn(Options{IDs: ids})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(box.Kill(), box.Close(context.WithoutCancel(t.Context()))); err != nil {
			t.Error(err)
		}
		_ = box.Stdout.Close()
		_ = box.Stderr.Close()
	})
	if err := box.Ready(deadline(t)); err != nil {
		t.Fatal(err)
	}
	return box
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// layers are those of an image with the test function, the topmost first.
func layers(t *testing.T) []string {
	t.Helper()
	base, top := t.TempDir(), t.TempDir()
	for _, dir := range []string{"proc", "sys", "dev", "tmp"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(top, "function"), 0o755); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(testfn)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(top, "function", "func"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{base, top} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return []string{top, base}
}

func root(t *testing.T, box *Sandbox) *os.File {
	t.Helper()
	mount, err := box.Overlay(layers(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mount.Close() })
	return mount
}

func runs(args ...string) *job.Job {
	return &job.Job{Args: append([]string{"/function/func"}, args...), UID: 1000, GID: 1000, Host: "box"}
}

func output(t *testing.T, file *os.File) string {
	t.Helper()
	if err := file.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func await(t *testing.T, box *Sandbox) Status {
	t.Helper()
	select {
	case <-box.Done():
		return box.Status()
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end", box.ids)
		return Status{}
	}
}

func TestSandboxRunsItsJob(t *testing.T) {
	bothWays(t, func(t *testing.T, spawn func() *Sandbox) {
		for _, init := range []bool{false, true} {
			box := spawn()
			todo := runs("print", "to stdout", "to stderr")
			todo.Init = init
			if err := box.Run(deadline(t), todo, Files{Root: root(t, box)}); err != nil {
				t.Fatal(err)
			}
			if out, err := output(t, box.Stdout), output(t, box.Stderr); out != "to stdout\n" || err != "to stderr\n" {
				t.Errorf("with an init %v: stdout %q, stderr %q", init, out, err)
			}
			if status := await(t, box); status != (Status{}) {
				t.Errorf("with an init %v: status %+v", init, status)
			}
		}
	})
}

func TestExitOfTheProgramIsReported(t *testing.T) {
	s := newSpawner(t)
	for name, tt := range map[string]struct {
		init bool
		end  func(*Sandbox) error
		want Status
	}{
		"exit":             {false, nil, Status{Code: 7}},
		"exit, init":       {true, nil, Status{Code: 7}},
		"killed":           {false, (*Sandbox).Kill, Status{Code: int(unix.SIGKILL), Signal: true}},
		"killed, init":     {true, (*Sandbox).Kill, Status{Code: int(unix.SIGKILL), Signal: true}},
		"terminated, init": {true, func(b *Sandbox) error { return b.Signal(unix.SIGTERM) }, Status{Code: 128 + int(unix.SIGTERM)}},
	} {
		t.Run(name, func(t *testing.T) {
			box := spawn(t, s, IDs{})
			todo := runs("exit", "7")
			if tt.end != nil {
				todo = runs("sleep")
			}
			todo.Init = tt.init
			if err := box.Run(deadline(t), todo, Files{Root: root(t, box)}); err != nil {
				t.Fatal(err)
			}
			if tt.end != nil {
				time.Sleep(50 * time.Millisecond) // the program has begun
				if err := tt.end(box); err != nil {
					t.Fatal(err)
				}
			}
			if got := await(t, box); got != tt.want {
				t.Errorf("status %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestFailedStepIsNamed(t *testing.T) {
	s := newSpawner(t)
	for name, tt := range map[string]struct {
		change func(*job.Job)
		want   string
	}{
		"program": {func(j *job.Job) { j.Args[0] = "/absent" }, "execute /absent: no such file"},
		"path":    {func(j *job.Job) { j.Args[0] = "absent" }, "in no directory of PATH"},
		"dir":     {func(j *job.Job) { j.Dir = "/absent" }, "working directory /absent"},
		"init":    {func(j *job.Job) { j.Args[0], j.Init = "/absent", true }, "execute /absent: no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			box := spawn(t, s, IDs{})
			todo := runs("sleep")
			tt.change(todo)
			err := box.Run(deadline(t), todo, Files{Root: root(t, box)})
			if _, ok := errors.AsType[*job.Failure](err); !ok || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if status := await(t, box); status.Code == 0 {
				t.Errorf("status %+v", status)
			}
		})
	}
}

func TestWaitingSandboxSeesNothingOfTheHost(t *testing.T) {
	bothWays(t, func(t *testing.T, spawn func() *Sandbox) { seesNothing(t, spawn()) })
}

func seesNothing(t *testing.T, box *Sandbox) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join("/proc", itoa(box.PID), "root"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if strings.Join(names, " ") != "root" {
		t.Errorf("it sees %v", names)
	}
	mounts, err := os.ReadFile(filepath.Join("/proc", itoa(box.PID), "mounts"))
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(mounts, []byte("\n")); lines != 1 {
		t.Errorf("it has these mounts:\n%s", mounts)
	}
	fds, err := os.ReadDir(filepath.Join("/proc", itoa(box.PID), "fd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		target, err := os.Readlink(filepath.Join("/proc", itoa(box.PID), "fd", fd.Name()))
		if err == nil && strings.HasPrefix(target, "/") && target != "/dev/null" && target != "/" {
			t.Errorf("descriptor %s is %s", fd.Name(), target)
		}
	}
}

func TestSandboxesEndWithTheThreadThatStartedThem(t *testing.T) {
	needRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSpawner(self, []string{SelfArg})
	if err != nil {
		t.Fatal(err)
	}
	waiting, busy := spawn(t, s, IDs{}), spawn(t, s, IDs{First: DefaultFirstID})
	if err := busy.Run(deadline(t), runs("sleep"), Files{Root: root(t, busy)}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	for _, box := range []*Sandbox{waiting, busy} {
		if status := await(t, box); !status.Signal {
			t.Errorf("status %+v", status)
		}
	}
	if _, err := s.Spawn(Options{}); err == nil {
		t.Error("a closed one starts more")
	}
}

func TestSandboxWithoutAServerEnds(t *testing.T) {
	box := spawn(t, newSpawner(t), IDs{})
	if err := box.socket.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if status := await(t, box); status != (Status{}) {
		t.Errorf("status %+v", status)
	}
}

// Kernels before Linux 6.8 are told of all layers in one page.
func TestManyLayersWithLongPathsFitIntoOneMount(t *testing.T) {
	needRoot(t)
	const most = 127 // as many as Docker makes
	base := filepath.Join(t.TempDir(), "with:colon")
	var layers []string
	for i := range most {
		dir := filepath.Join(base, strings.Repeat("x", 64), itoa(i))
		err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, itoa(i)), nil, 0o644), os.WriteFile(filepath.Join(dir, "which"), []byte(itoa(i)), 0o644))
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, dir)
	}
	mount, err := overlayByMount(layers, "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer mount.Close()
	root := descriptors + itoa(int(mount.Fd()))
	entries, err := os.ReadDir(root)
	if err != nil || len(entries) != most+1 {
		t.Errorf("%d files are seen: %v", len(entries), err)
	}
	if which, err := os.ReadFile(filepath.Join(root, "which")); string(which) != "0" {
		t.Errorf("layer %q is the topmost: %v", which, err)
	}
}

// tracerArg is the name of a process that traces another one, so that its end waits.
const tracerArg = "sandbox-test-tracer"

// traceMain is that process.
func traceMain(pid string) {
	runtime.LockOSThread() // it is a thread that traces
	number, err := strconv.Atoi(pid)
	if err == nil {
		err = unix.PtraceSeize(number)
	}
	fmt.Println(err)
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// trace traces a process until it is told to end.
func trace(t *testing.T, pid int) (end func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tracer := &exec.Cmd{Path: self, Args: []string{tracerArg, itoa(pid)}}
	stdin, inErr := tracer.StdinPipe()
	stdout, outErr := tracer.StdoutPipe()
	if err := errors.Join(inErr, outErr, tracer.Start()); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() { _ = errors.Join(stdin.Close(), tracer.Wait()) })
	t.Cleanup(end)
	if answer, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || answer != "<nil>\n" {
		t.Skipf("cannot trace: %s%v", answer, err)
	}
	return end
}

// A process that is traced, or waits for a disk, does not end when it is killed.
func TestCloseDoesNotWaitForEver(t *testing.T) {
	bothWays(t, func(t *testing.T, spawn func() *Sandbox) {
		box := spawn()
		end := trace(t, box.PID)
		if err := box.Kill(); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := box.Close(short)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "TracerPid: ") {
			t.Errorf("while it is traced: %v", err)
		}
		end()
		for range 2 {
			if err := box.Close(deadline(t)); err != nil {
				t.Errorf("when it is not traced any more: %v", err)
			}
		}
	})
}

// One that dies at once is waited for.
func TestCloseAfterTheEndOfItsContext(t *testing.T) {
	box := spawn(t, newSpawner(t), IDs{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := errors.Join(box.Kill(), box.Close(ended)); err != nil {
		t.Error(err)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func BenchmarkSpawn(b *testing.B) {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	s, err := NewSpawner(self, []string{SelfArg})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for name, ids := range map[string]IDs{"host's users": {}, "own users": {First: DefaultFirstID}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				box, err := s.Spawn(Options{IDs: ids})
				if err != nil {
					b.Fatal(err)
				}
				if err := box.Ready(b.Context()); err != nil {
					b.Fatal(err)
				}
				_ = box.Kill()
				_ = box.Close(b.Context())
				_ = box.Stdout.Close()
				_ = box.Stderr.Close()
			}
		})
	}
}
