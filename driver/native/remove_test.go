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
	c, err := d.Create(t.Context(), &driver.Spec{ID: id, Image: testImage})
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
