//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Enter puts the calling thread into the group, as far as version 1 limits it there:
// the processes that it starts are born in the group, until it calls leave, which puts
// it into the instance's own. The caller is locked to its thread. After an error, Attach
// does for the process what is missing.
//
// To move a process takes ten milliseconds and more, in which no other one of the
// machine is started or ends: the kernel waits until each processor has seen that it
// is to wait. It does not for a thread that moves itself, which takes microseconds
// (cgroup_procs_write_start in its cgroup.c, from Linux 5.4).
func (g *Group) Enter() (leave func() error, err error) {
	m := g.manager
	for _, point := range m.entered() {
		if err = enter(filepath.Join(point, g.path())); err != nil {
			break
		}
	}
	leave = func() error {
		var failed []error
		for _, point := range m.entered() {
			failed = append(failed, enter(filepath.Join(point, m.group())))
		}
		return errors.Join(failed...)
	}
	if err != nil {
		return nil, errors.Join(err, leave())
	}
	return leave, nil
}

// entered are the hierarchies that a thread enters. It does not enter the core, as
// whoever is in a group there is ended with the group, nor the one for devices, which
// a server needs itself.
func (m *Manager) entered() (points []string) {
	for _, point := range m.tree.hierarchies() {
		if point != m.tree.core && !m.tree.hasOnlyDevices(point) {
			points = append(points, point)
		}
	}
	return points
}

// enter puts the calling thread into a group of version 1.
func enter(dir string) error {
	if err := write(dir, "tasks", "0"); err != nil {
		return fmt.Errorf("enter a control group: %w", err)
	}
	return nil
}
