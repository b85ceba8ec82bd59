//go:build linux

package native_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/native"
)

// running starts a container, and returns where its control group is below the
// place of a hierarchy.
func running(t *testing.T) (c driver.Container, group string) {
	t.Helper()
	parent := testParent()
	d := open(t, func(o *native.Options) { o.Parent = parent })
	t.Cleanup(func() { closeNow(t, d) })
	specs++
	id := "box-" + strconv.Itoa(specs)
	c, err := d.Create(t.Context(), &driver.Spec{ID: id, Image: testImage, Command: []string{"sleep"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join("/sys/fs/cgroup/unified", parent, "*", id))
	if err != nil || len(found) != 1 {
		t.Skipf("needs control groups of version 1 and 2: %v %v", found, err)
	}
	return c, strings.TrimPrefix(found[0], "/sys/fs/cgroup/unified/")
}

// removeIn is Remove with a deadline.
func removeIn(t *testing.T, c driver.Container, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), within)
	defer cancel()
	return c.Remove(ctx)
}

// What could not be removed is removed by the next attempt.
func TestRemoveIsRepeated(t *testing.T) {
	c, group := running(t)
	intruder := exec.Command("sleep", "60")
	if err := intruder.Start(); err != nil {
		t.Fatal(err)
	}
	end := func() { _ = errors.Join(intruder.Process.Kill(), intruder.Wait()) }
	t.Cleanup(end)
	procs := filepath.Join("/sys/fs/cgroup/pids", group, "cgroup.procs")
	if err := os.WriteFile(procs, []byte(strconv.Itoa(intruder.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	if err := removeIn(t, c, 200*time.Millisecond); err == nil {
		t.Error("a group that has a process was removed")
	}
	end()
	if err := removeIn(t, c, patience); err != nil {
		t.Errorf("the next attempt: %v", err)
	}
}

// hold keeps the processes of a group from ending when they are killed, as a disk that
// does not answer would, until it is told to let go.
func hold(t *testing.T, group string) (letGo func()) {
	t.Helper()
	freezer := filepath.Join("/sys/fs/cgroup/freezer", filepath.Base(t.TempDir())+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(freezer, 0o755); err != nil {
		t.Skipf("needs the freezer of version 1: %v", err)
	}
	procs, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/unified", group, "cgroup.procs"))
	for pid := range strings.FieldsSeq(string(procs)) {
		err = errors.Join(err, os.WriteFile(filepath.Join(freezer, "cgroup.procs"), []byte(pid), 0))
	}
	state := filepath.Join(freezer, "freezer.state")
	if err := errors.Join(err, os.WriteFile(state, []byte("FROZEN"), 0)); err != nil || len(procs) == 0 {
		t.Fatalf("held %q: %v", procs, err)
	}
	for began := time.Now(); time.Since(began) < patience; time.Sleep(time.Millisecond) {
		if now, err := os.ReadFile(state); err != nil || string(now) == "FROZEN\n" {
			break
		}
	}
	letGo = sync.OnceFunc(func() { _ = os.WriteFile(state, []byte("THAWED"), 0) })
	t.Cleanup(func() {
		letGo()
		for began := time.Now(); os.Remove(freezer) != nil && time.Since(began) < patience; {
			time.Sleep(10 * time.Millisecond)
		}
	})
	return letGo
}

// A process that does not die costs Remove no more time than it was given.
func TestRemoveEndsInTimeAndIsRepeated(t *testing.T) {
	c, group := running(t)
	letGo := hold(t, group)
	began := time.Now()
	if err := removeIn(t, c, 200*time.Millisecond); err == nil || !strings.Contains(err.Error(), "has not ended") {
		t.Errorf("while the process does not end: %v", err)
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("it took %v", took)
	}
	letGo()
	if err := removeIn(t, c, patience); err != nil {
		t.Errorf("the next attempt: %v", err)
	}
}
