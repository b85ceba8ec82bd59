//go:build linux

package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/opencontainers/cgroups"
)

// Options are what a manager needs. Instance is required.
type Options struct {
	// Parent is the group that those of all servers are in, from the root of
	// each hierarchy as this process sees it. It may have several elements, and
	// is for servers alone, as Sweep ends all others in it. Default:
	// DefaultParent.
	Parent string
	// Instance is this server's name, which no other server of the machine has.
	//
	// It is new for each process, so that groups that are there under the name
	// are somebody else's.
	Instance string
	Logger   *slog.Logger // nil: nothing is logged

	// For tests.
	withoutHybrid bool                                             // of version 1 and 2, use 1 only
	setDevicesV2  func(dir string, rules *cgroups.Resources) error // in place of eBPF
}

// DefaultParent is the parent if none is given.
const DefaultParent = "tine"

// Manager makes groups for one server. Its methods may be called from several
// goroutines.
type Manager struct {
	tree         tree
	parent       string
	instance     string
	log          *slog.Logger
	setDevicesV2 func(dir string, rules *cgroups.Resources) error
	swap         bool // version 1 counts swap, so that it can be limited
}

// element is a valid name of a group. A dot could make it that of a file of
// the kernel.
var element = regexp.MustCompile(`^[A-Za-z0-9_-]{1,200}$`)

// Open finds the hierarchies and makes the group of the instance in them. The
// error says what is missing and what to do about it.
func Open(options Options) (*Manager, error) {
	parent := options.Parent
	if parent == "" {
		parent = DefaultParent
	}
	for _, name := range append(strings.Split(parent, "/"), options.Instance) {
		if !element.MatchString(name) {
			return nil, fmt.Errorf("instance %q below the control group %q: names consist of up to 200 letters, digits, _ and -, those of a parent separated by /", options.Instance, parent)
		}
	}
	log := options.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	tree, err := findTree(options.withoutHybrid)
	if err != nil {
		return nil, err
	}
	m := &Manager{tree: tree, parent: parent, instance: options.Instance, log: log, setDevicesV2: options.setDevicesV2}
	if m.setDevicesV2 == nil {
		m.setDevicesV2 = cgroups.DevicesSetV2
	}
	if exists(tree.core, m.group()) {
		return nil, fmt.Errorf("control group %s exists: an instance's name is for one process, take a new one; groups of dead instances are swept", m.group())
	}
	if err := m.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare control group %s (%s): %w", m.group(), tree.mode, err), m.Close())
	}
	if m.tree.mode == Hybrid && !exists(m.tree.core, m.group(), "cgroup.freeze") {
		// Before Linux 5.2, version 2 could not freeze.
		log.Info("control groups of version 2 cannot freeze, using version 1 only")
		if err := m.Close(); err != nil {
			return nil, err
		}
		options.withoutHybrid = true
		return Open(options)
	}
	return m, nil
}

// prepare makes the group of the instance and sets what its children inherit.
func (m *Manager) prepare() error {
	// Another server that ends may remove the parent in between.
	const attempts = 5
	var err error
	for range attempts {
		if err = m.tree.make(m.group()); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return err
	}
	if m.tree.mode == V2 && !exists(m.tree.core, m.group(), "cgroup.freeze") {
		return errors.New("the kernel cannot freeze control groups of version 2: Linux 5.2 or newer is needed")
	}
	if err := m.limitDevices(); err != nil {
		return err
	}
	return m.limitSwap()
}

// limitSwap keeps swap from functions. The limit of version 2 holds for all
// groups below. Version 1 has one for each group if the kernel counts swap; if
// not, groups can only be told to use none while there is memory, which those
// that are made later copy.
func (m *Manager) limitSwap() error {
	dir := m.dir("memory")
	if m.tree.mode == V2 {
		// Without swap in the kernel there is no such file, and nothing to forbid.
		if err := write(dir, "memory.swap.max", "0"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return refused(err)
		}
		return nil
	}
	if m.swap = exists(dir, swapLimitV1); m.swap {
		return nil
	}
	m.log.Info("the kernel does not count swap, so it is discouraged instead of forbidden: boot with swapaccount=1 to change that")
	return write(dir, "memory.swappiness", "0")
}

// Mode says which versions of control groups are used.
func (m *Manager) Mode() Mode { return m.tree.mode }

// group is the instance's group, from the root of a hierarchy.
func (m *Manager) group() string { return m.parent + "/" + m.instance }

// dir is where the instance's group has the files of a controller.
func (m *Manager) dir(controller string) string {
	return filepath.Join(m.tree.mount(controller), m.group())
}

// Close ends the processes of all groups of the instance and removes them, and
// the parent if no other server has a group in it.
func (m *Manager) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	if err := m.removeInstance(ctx, m.instance); err != nil {
		return err
	}
	for _, point := range m.tree.hierarchies() {
		for parent := m.parent; parent != "."; parent = filepath.Dir(parent) {
			if os.Remove(filepath.Join(point, parent)) != nil {
				break // others use it
			}
		}
	}
	return nil
}

func exists(elements ...string) bool {
	_, err := os.Stat(filepath.Join(elements...))
	return err == nil
}
