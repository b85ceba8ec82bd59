//go:build linux

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/internal/cgroupfs"
)

// killRounds is how often Kill looks for processes that appear while it kills
// the others, where it takes several steps.
const killRounds = 20

// Kill tells all processes of the group to die, also if they are frozen. They
// die a little later: see Empty and Remove. It is no error if there are none,
// or no group.
func (g *Group) Kill() error {
	if g.manager.tree.version() == cgroupfs.V2 {
		err := write(g.core(), "cgroup.kill", "1") // also those that are being forked, and frozen ones
		if err == nil || !isGone(err) || !exists(g.core()) {
			return g.killed(err)
		} // Linux before 5.14 has no such file
	}
	return g.killed(g.killEach())
}

func (g *Group) killed(err error) error {
	if err == nil || isGone(err) || errors.Is(err, cgroupfs.ErrEnded) {
		return nil
	}
	return fmt.Errorf("kill the processes of control group %s: %w", g.path(), err)
}

// killEach freezes the group, so that its processes make no others, tells each
// to die, and thaws it, as with version 1 a frozen process does not. If some
// have not stopped in time, it looks again.
func (g *Group) killEach() error {
	for range killRounds {
		if err := g.freezer.Freeze(); err != nil {
			return err
		}
		frozen, err := g.freezer.Frozen()
		if err == nil {
			err = g.signalEach()
		}
		if err := errors.Join(err, g.freezer.Thaw()); err != nil {
			return err
		}
		if frozen || g.Empty() {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("its processes do not stop, and may have made others: try again")
}

func (g *Group) signalEach() error {
	pids, err := cgroups.GetAllPids(g.core())
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if pid == 0 {
			return errors.New("a process is in another PID namespace and cannot be named: end it from there")
		}
		if err := g.signal(pid); err != nil {
			return fmt.Errorf("process %d: %w", pid, err)
		}
	}
	return nil
}

// signal tells a process to die if it is one of the group: its number may
// belong to another one by now, and cannot change any more once there is a
// descriptor of it.
func (g *Group) signal(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	is, err := memberships(pid)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	controller := "freezer"
	if g.manager.tree.version() == cgroupfs.V2 {
		controller = ""
	}
	// In a container there may be more in front of it.
	if !strings.Contains(is[controller]+"/", "/"+g.path()+"/") {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// Empty reports whether there is no process in the group, or no group. One
// that has ended counts until it has let go of what it had, but not until its
// parent has waited for it.
func (g *Group) Empty() bool {
	if g.manager.tree.version() == cgroupfs.V2 {
		populated, err := readField(g.core(), "cgroup.events", "populated")
		return err == nil && populated == 0 || isGone(err)
	}
	text, err := os.ReadFile(g.core() + "/cgroup.procs")
	return err == nil && len(text) == 0 || isGone(err)
}

const (
	// removeTimeout is how long the removal of a group waits for processes that
	// are dying, if its context allows it.
	removeTimeout = 10 * time.Second
	// The pauses between attempts grow from the first to the second.
	removeFirstPause = time.Millisecond
	removeLastPause  = 50 * time.Millisecond
)

// Remove removes the group, whose processes must have ended or been told to:
// it waits for them, at most removeTimeout. It is no error if there is no
// group.
func (g *Group) Remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	g.dirOnce.Do(func() { g.dirError = fs.ErrClosed })
	if g.dirFile != nil {
		_ = g.dirFile.Close() // nothing was written
	}
	for _, dir := range g.own() {
		if err := remove(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

// remove removes a directory of control groups, and waits for processes that
// are dying.
func remove(ctx context.Context, dir string) error {
	for pause := removeFirstPause; ; pause = min(2*pause, removeLastPause) {
		err := unix.Rmdir(dir)
		switch {
		case err == nil, errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("remove control group %s: %w", dir, err)
		}
		// It may be groups below that are in the way: a process with rights
		// to make them was in it.
		if err := removeBelow(ctx, dir); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove control group %s: there are still processes in it, kill them or wait longer: %w", dir, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// removeBelow removes the groups in a directory.
func removeBelow(ctx context.Context, dir string) error {
	for _, name := range groupsIn(dir) {
		if err := remove(ctx, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// groupsIn are the names of the groups in a directory, none if it is not there.
func groupsIn(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names
}
