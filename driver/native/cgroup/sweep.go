//go:build linux

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
)

// Sweep ends the processes of instances that are dead, and removes their
// groups: all below the parent but this instance's own and those that alive
// says true to. A server must be alive for others before it makes its groups.
//
// It goes on after an error, and returns all of them together.
func (m *Manager) Sweep(ctx context.Context, alive func(instance string) bool) error {
	instances := map[string]bool{}
	for _, point := range m.tree.hierarchies() {
		for _, name := range groupsIn(filepath.Join(point, m.parent)) {
			instances[name] = true
		}
	}
	delete(instances, m.instance)
	var failed []error
	for instance := range instances {
		if alive(instance) {
			continue
		}
		if err := m.removeInstance(ctx, instance); err != nil {
			failed = append(failed, fmt.Errorf("sweep the control groups of instance %s: %w", instance, err))
			continue
		}
		m.log.Info("removed control groups of a dead server", slog.String("instance", instance))
	}
	return errors.Join(failed...)
}

// removeInstance ends the processes of all groups of an instance and removes
// them and its own.
func (m *Manager) removeInstance(ctx context.Context, instance string) error {
	names := map[string]bool{}
	for _, point := range m.tree.hierarchies() {
		for _, name := range groupsIn(filepath.Join(point, m.parent, instance)) {
			names[name] = true
		}
	}
	var failed []error
	for name := range names { // all first, as each takes a while to die
		failed = append(failed, m.at(instance, name).Kill())
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	for name := range names {
		if err := m.at(instance, name).Remove(ctx); err != nil {
			return err
		}
	}
	for _, point := range m.tree.hierarchies() {
		if err := remove(ctx, filepath.Join(point, m.parent, instance)); err != nil {
			return err
		}
	}
	return nil
}
