//go:build linux

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/internal/cgroupfs"
)

// Group is the control group of a sandbox. Its methods may be called from
// several goroutines.
type Group struct {
	manager *Manager
	name    string
	freezer *cgroupfs.Freezer

	dirOnce  sync.Once
	dirFile  *os.File // of the core hierarchy, for Fd
	dirError error

	mu  sync.Mutex // for what follows, and so that limits are written one after the other
	set Limits     // what is in effect
}

// Create makes a group without limits and without processes.
func (m *Manager) Create(name string) (*Group, error) {
	if !element.MatchString(name) {
		return nil, fmt.Errorf("control group %q: names consist of up to 200 letters, digits, _ and -", name)
	}
	g := m.at(m.instance, name)
	var made []string
	for _, dir := range g.own() {
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			made = append(made, dir)
			continue
		}
		for _, dir := range made {
			_ = os.Remove(dir) // the error that matters is the first
		}
		if errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("control group %s exists: names are for one use each: %w", g.path(), err)
		}
		return nil, fmt.Errorf("make control group %s: %w", g.path(), refused(err))
	}
	return g, nil
}

// at is a group of an instance, whether it exists or not.
func (m *Manager) at(instance, name string) *Group {
	group := filepath.Join(m.parent, instance, name)
	return &Group{
		manager: m,
		name:    filepath.Join(instance, name),
		freezer: cgroupfs.NewFreezer(m.tree.version(), filepath.Join(m.tree.core, group)),
	}
}

// path is the group, from the root of a hierarchy.
func (g *Group) path() string { return g.manager.parent + "/" + g.name }

// dir is where the files of a controller are.
func (g *Group) dir(controller string) string {
	return g.manager.tree.mount(controller) + "/" + g.path()
}

// core is where the files are that are not of a controller.
func (g *Group) core() string { return g.manager.tree.core + "/" + g.path() }

// own are the directories of the group itself, the core's first.
func (g *Group) own() []string {
	var dirs []string
	t := g.manager.tree
	for _, point := range t.hierarchies() {
		if !t.hasOnlyDevices(point) {
			dirs = append(dirs, point+"/"+g.path())
		}
	}
	return dirs
}

// Fd is the group's directory in the hierarchy of version 2, for a process to
// be born into (CLONE_INTO_CGROUP, syscall.SysProcAttr.CgroupFD). It is the
// group's, and open until Remove. There is none with version 1 alone, or if it
// cannot be opened; Attach does the same later.
func (g *Group) Fd() (*os.File, bool) {
	if g.manager.tree.version() == cgroupfs.V1 {
		return nil, false
	}
	g.dirOnce.Do(func() {
		g.dirFile, g.dirError = os.OpenFile(g.core(), unix.O_PATH|unix.O_DIRECTORY, 0)
	})
	return g.dirFile, g.dirError == nil
}

// Attach puts a process into the group, in all hierarchies where it is not yet:
// one that was born into the group by Fd and Enter has none left. To move one takes
// ten milliseconds and more. Children that the process makes from then on
// are in the group too. If it fails, the process may be in some hierarchies;
// Kill ends it, unless the error says that it is gone.
func (g *Group) Attach(pid int) error {
	if pid <= 0 {
		return fmt.Errorf("attach process %d to control group %s: a process has a number above 0", pid, g.path())
	}
	is, err := memberships(pid)
	if err != nil {
		return fmt.Errorf("attach process %d to control group %s: %w", pid, g.path(), err)
	}
	t := g.manager.tree
	for _, point := range t.hierarchies() { // the core first, by which it can be ended
		controller, dir, group := "", filepath.Join(point, g.path()), "/"+g.path()
		for name, at := range t.v1 {
			if at == point {
				controller = name
			}
		}
		if t.hasOnlyDevices(point) {
			dir, group = filepath.Dir(dir), filepath.Dir(group)
		}
		if is[controller] == group {
			continue
		}
		err := cgroups.WriteCgroupProc(dir, pid)
		if errors.Is(err, unix.ESRCH) {
			err = fmt.Errorf("the process is gone: %w", os.ErrProcessDone)
		}
		if err != nil {
			return fmt.Errorf("attach process %d to control group %s: %w", pid, dir, err)
		}
	}
	return nil
}

// memberships are the groups of a process by controller; that of version 2 has
// an empty name.
func memberships(pid int) (map[string]string, error) {
	is, err := cgroups.ParseCgroupFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("the process is gone: %w", os.ErrProcessDone)
	}
	return is, err
}

// freezeTimeout is how long Freeze waits for the last process to stop, if its
// context allows it. One that waits for a disk may take any time.
const freezeTimeout = time.Second

// Freeze stops all processes, and waits until they have stopped: usually less
// than a millisecond. After an error some may still run, and Thaw is to be
// called.
func (g *Group) Freeze(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, freezeTimeout)
	defer cancel()
	if err := g.freezer.FreezeWait(ctx); err != nil {
		return fmt.Errorf("freeze control group %s: %w", g.path(), err)
	}
	return nil
}

// Thaw lets the processes go on. The kernel does so at once, so that there is
// nothing to wait for.
func (g *Group) Thaw(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("thaw control group %s: %w", g.path(), err)
	}
	if err := g.freezer.Thaw(); err != nil {
		return fmt.Errorf("thaw control group %s: %w", g.path(), err)
	}
	return nil
}
