package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Variables by which the test binary runs as a process that is to be killed.
const (
	crashDir  = "TINE_TEST_CRASH_DIR"
	crashRefs = "TINE_TEST_CRASH_REFS" // pulled, and but for the last removed again
	crashStep = "TINE_TEST_CRASH_STEP" // at which it kills itself
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(unprivileged); dir != "" {
		if err := unpackUnprivileged(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(crashDir) == "" {
		os.Exit(m.Run())
	}
	left, err := strconv.Atoi(os.Getenv(crashStep))
	if err != nil {
		panic(err)
	}
	if err := work(os.Getenv(crashDir), strings.Fields(os.Getenv(crashRefs)), func(string) error {
		if left--; left == 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("all steps done")
	os.Exit(0)
}

// work does everything that changes the disk.
func work(dir string, refs []string, fault func(string) error) error {
	s, err := open(dir, Options{Parallel: 1}, fault)
	if err != nil {
		return err
	}
	defer s.Close()
	for i, ref := range refs {
		if _, err := s.Pull(context.Background(), ref, PullOptions{}); err != nil {
			return err
		}
		if i < len(refs)-1 {
			if err := s.Remove(ref); err != nil {
				return err
			}
		}
	}
	return s.Close()
}

// checkAfterCrash opens a store and checks that it works, and that what it
// says to have is there.
func checkAfterCrash(t *testing.T, dir string, refs []string) {
	t.Helper()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	checkTmp(t, s)
	for _, p := range s.Problems() {
		// Nothing is missing but names' images, whose removal had begun.
		if !strings.Contains(p.Cause, "is not in the store") {
			t.Errorf("problem: %v", p)
		}
	}
	for _, found := range s.List() {
		lease, err := s.Acquire(found.ID.String())
		if err != nil {
			t.Errorf("listed: %v", err)
			continue
		}
		lease.Release()
	}
	if problems, err := s.Verify(t.Context()); err != nil || len(problems) != 0 {
		t.Errorf("verify: %v %v", problems, err)
	}
	for _, ref := range refs {
		mustPull(t, s, ref)
	}
	if problems, err := s.Verify(t.Context()); err != nil || len(problems) != 0 {
		t.Errorf("after new pulls: %v %v", problems, err)
	}
	for _, found := range s.List() {
		if err := s.Remove(found.ID.String()); err != nil {
			t.Error(err)
		}
	}
	checkTmp(t, s)
}

func TestKilledAtEachStep(t *testing.T) {
	needRoot(t)
	registry := newRegistry(t)
	shared := layerOf(t, pack(t, regular("shared", "x")))
	refs := []string{
		registry.push(t, imageOf(t, shared, layerOf(t, pack(t, regular("one", "1"), regular(".wh.gone", "")))), "fn/one:1"),
		registry.push(t, imageOf(t, shared, layerOf(t, pack(t, regular("two", "2")))), "fn/two:1"),
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for step := 1; ; step++ {
		dir := t.TempDir()
		command := exec.Command(program)
		command.Env = append(os.Environ(), crashDir+"="+dir, crashRefs+"="+strings.Join(refs, " "), fmt.Sprintf("%s=%d", crashStep, step))
		output, err := command.CombinedOutput()
		if err == nil {
			if step < 15 {
				t.Errorf("only %d steps", step)
			}
			return
		}
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("step %d: %v\n%s", step, err, output)
		}
		checkAfterCrash(t, dir, refs)
		if t.Failed() {
			t.Fatalf("killed at step %d", step)
		}
	}
}

func TestErrorAtEachStep(t *testing.T) {
	needRoot(t)
	registry := newRegistry(t)
	refs := []string{registry.push(t, small(t, "1", "2"), "fn/one:1"), registry.push(t, small(t, "1", "3"), "fn/two:1")}
	injected := errors.New("injected")
	for step := 1; ; step++ {
		dir, left, at := t.TempDir(), step, ""
		err := work(dir, refs, func(name string) error {
			if left--; left == 0 {
				at = name
				return injected
			}
			return nil
		})
		if at == "" {
			if err != nil || step < 15 {
				t.Errorf("after %d steps: %v", step, err)
			}
			return
		}
		if !errors.Is(err, injected) {
			t.Fatalf("step %d (%s): %v", step, at, err)
		}
		checkAfterCrash(t, dir, refs)
		if t.Failed() {
			t.Fatalf("error at step %d (%s)", step, at)
		}
	}
}
