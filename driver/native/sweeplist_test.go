//go:build linux

package native

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tinefn/tine/driver/native/cgroup"
	"github.com/tinefn/tine/driver/native/network"
)

// earlyDriver is what New has made when it sweeps.
func earlyDriver(t *testing.T, dir, instance string) *Driver {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("control groups need root")
	}
	parent := fmt.Sprintf("tine-test-%d", os.Getpid())
	d := &Driver{opts: Options{Dir: dir, Parent: parent}, log: slog.New(slog.NewTextHandler(t.Output(), nil)), instance: instance}
	d.background, d.cancel = context.WithCancel(t.Context())
	err := d.enlist()
	if err == nil {
		d.groups, err = cgroup.Open(cgroup.Options{Parent: parent, Instance: instance})
	}
	if err == nil {
		d.networks, err = network.Open(network.Options{Instance: instance})
	}
	t.Cleanup(func() {
		if err := d.release(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// listed are the instances of which something may be left.
func listed(t *testing.T, dir string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, instanceFile))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// groupsOf are the control groups that there are of an instance.
func groupsOf(d *Driver, instance string) []string {
	found, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", d.opts.Parent, instance)) // the pattern is right
	return found
}

// occupy puts a process into a group where it is not found by who kills the group.
func occupy(t *testing.T, group string) (leave func()) {
	t.Helper()
	intruder := exec.Command("sleep", "60")
	if err := intruder.Start(); err != nil {
		t.Fatal(err)
	}
	leave = func() { _ = errors.Join(intruder.Process.Kill(), intruder.Wait()) }
	t.Cleanup(leave)
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(intruder.Process.Pid)), 0); err != nil {
		t.Skipf("needs control groups of version 1: %v", err)
	}
	return leave
}

// What one start cannot remove, the next one does, and one that was killed before it
// had swept is swept too.
func TestWhatOneSweepLeavesTheNextRemoves(t *testing.T) {
	dir := t.TempDir()
	first := earlyDriver(t, dir, "first")
	if _, err := first.groups.Create("box"); err != nil {
		t.Fatal(err)
	}
	leave := occupy(t, filepath.Join("/sys/fs/cgroup/pids", first.opts.Parent, "first", "box"))
	second := earlyDriver(t, dir, "second") // the first was killed
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := second.sweep(short); err != nil {
		t.Fatal(err)
	}
	if got, want := listed(t, dir), []string{"first", "second"}; !slices.Equal(got, want) {
		t.Errorf("after a sweep that failed the list is %q, want %q", got, want)
	}
	earlyDriver(t, dir, "third") // and killed
	leave()
	fourth := earlyDriver(t, dir, "fourth")
	if err := fourth.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, instance := range []string{"first", "second", "third"} {
		if left := groupsOf(fourth, instance); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	if got, want := listed(t, dir), []string{"fourth"}; !slices.Equal(got, want) {
		t.Errorf("the list is %q, want %q", got, want)
	}
}

func TestStartThatFailedIsNotListed(t *testing.T) {
	dir := t.TempDir()
	d := earlyDriver(t, dir, "only")
	if err := d.release(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.groups, d.networks = nil, nil // which are closed
	if got := listed(t, dir); len(got) > 0 {
		t.Errorf("the list is %q", got)
	}
}

func TestListOfEarlierRunsIsBounded(t *testing.T) {
	d := &Driver{opts: Options{Dir: t.TempDir()}, log: slog.New(slog.DiscardHandler), instance: "own"}
	var earlier []string
	for i := range mostEarlier + 3 {
		earlier = append(earlier, strconv.Itoa(i))
	}
	if err := errors.Join(d.writeInstances(earlier), d.enlist()); err != nil {
		t.Fatal(err)
	}
	if got, want := listed(t, d.opts.Dir), append(earlier[3:], "own"); !slices.Equal(got, want) {
		t.Errorf("listed are %q, want %q", got, want)
	}
}
