package docker

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/prefork"
)

// A placeholder is a container that does nothing but hold a network namespace
// for a function's container. It shares the namespace with a stranger, so it is
// fenced in as far as an engine can.
const (
	placeholderUser      = "65534:65534" // nobody's
	placeholderProcesses = 4             // one, and what an engine may put beside it
	placeholderMemory    = minMemoryBytes
)

// PlaceholderBytes is what a placeholder costs the machine in memory, as
// measured: most of it is the engine's process beside it.
const PlaceholderBytes = 4 << 20

// placeholderLabel marks placeholders.
const placeholderLabel = "tine.placeholder"

// placeholders makes them for the prefork pool.
type placeholders struct {
	driver   *Driver
	image    placeholderImage
	command  []string
	hostname string
}

var _ prefork.Maker = (*placeholders)(nil)

// Make makes and starts a placeholder.
func (p *placeholders) Make(ctx context.Context, name, networkName string) (prefork.Item, error) {
	d := p.driver
	if !d.begin() {
		return nil, errClosed
	}
	defer d.wg.Done()
	image, err := p.image.ensure(ctx) // which may be a pull, so that it takes nobody's turn
	if err != nil {
		return nil, err
	}
	leave, err := d.starts.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	// Like that of other containers, the creation is not abandoned half way.
	n := &namespace{driver: d, name: name}
	if err := n.create(d.creation, p.options(name, image, networkName)); err != nil {
		if errors.Is(err, driver.ErrImageNotFound) {
			p.image.vanished()
		}
		return nil, err
	}
	if err := n.start(d.creation); err != nil {
		if n.Remove(d.creation) != nil {
			d.removeStray(name)
		}
		return nil, err
	}
	return n, nil
}

func (p *placeholders) options(name, image, networkName string) client.ContainerCreateOptions {
	labels := p.driver.labels(map[string]string{placeholderLabel: "true"})
	hostname := p.hostname // those who join have that of the placeholder
	if hostname == "" {
		hostname = name
	}
	return client.ContainerCreateOptions{
		Name: name,
		Config: &container.Config{
			Image: image, Cmd: p.command, User: placeholderUser, Hostname: hostname, Labels: labels,
		},
		HostConfig: &container.HostConfig{
			LogConfig:      container.LogConfig{Type: "none"},
			NetworkMode:    networkMode(networkName),
			Runtime:        p.driver.opts.Runtime,
			IpcMode:        container.IPCModeNone,
			ReadonlyRootfs: true,
			CapDrop:        []string{"ALL"},
			SecurityOpt:    []string{"no-new-privileges"},
			Resources:      resources(driver.Limits{MemoryBytes: placeholderMemory, Processes: placeholderProcesses}),
		},
	}
}

// namespace is the network namespace of a placeholder.
type namespace struct {
	driver *Driver
	name   string
	id     string // the engine's

	// What the first probe found out.
	pid       int          // of the placeholder; 0: it is on another machine, or cannot be seen
	addresses []netip.Addr // version 4
	routed    bool         // there is a gateway
}

var _ prefork.Item = (*namespace)(nil)

func (n *namespace) create(ctx context.Context, options client.ContainerCreateOptions) error {
	callCtx, cancel := n.driver.deadline(ctx)
	defer cancel()
	made, err := n.driver.engine.ContainerCreate(callCtx, options)
	if err == nil {
		n.id = made.ID
		return nil
	}
	return n.driver.notCreated(callCtx, "placeholder", n.name, err)
}

func (n *namespace) start(ctx context.Context) error {
	callCtx, cancel := n.driver.deadline(ctx)
	defer cancel()
	_, err := n.driver.engine.ContainerStart(callCtx, n.id, client.ContainerStartOptions{})
	return failure(callCtx, "start placeholder "+n.name, err)
}

// ID is the engine's identifier of the placeholder.
func (n *namespace) ID() string { return n.id }

// Remove removes the placeholder.
func (n *namespace) Remove(ctx context.Context) error {
	if err := n.driver.removeByName(ctx, n.id); err != nil && !errors.Is(err, driver.ErrGone) {
		return err
	}
	return nil
}

// Probe asks the engine about the placeholder at first, and later the kernel,
// which costs the engine nothing, if the placeholder's process can be seen.
func (n *namespace) Probe(ctx context.Context) error {
	if n.pid > 0 {
		return n.look()
	}
	callCtx, cancel := n.driver.deadline(ctx)
	defer cancel()
	found, err := n.driver.engine.ContainerInspect(callCtx, n.id, client.ContainerInspectOptions{})
	if err != nil {
		return failure(callCtx, "look at placeholder "+n.name, err)
	}
	state := found.Container.State
	if state == nil || !state.Running {
		return errPlaceholderEnded
	}
	n.addresses, n.routed = nil, false
	if settings := found.Container.NetworkSettings; settings != nil {
		for _, endpoint := range settings.Networks {
			if endpoint.IPAddress.Is4() {
				n.addresses = append(n.addresses, endpoint.IPAddress)
			}
			n.routed = n.routed || endpoint.Gateway.IsValid()
		}
	}
	if len(n.addresses) == 0 && !hasIPv6(found.Container) {
		return errors.New("it has no address")
	}
	if n.driver.isOurs(state.Pid, n.id) {
		n.pid = state.Pid
		return n.look()
	}
	return nil
}

func hasIPv6(found container.InspectResponse) bool {
	if found.NetworkSettings == nil {
		return false
	}
	for _, endpoint := range found.NetworkSettings.Networks {
		if endpoint.GlobalIPv6Address.IsValid() {
			return true
		}
	}
	return false
}

var errPlaceholderEnded = errors.New("its placeholder has ended")

// look compares what the kernel has of the namespace with what the engine said.
func (n *namespace) look() error {
	if !n.driver.isOurs(n.pid, n.id) {
		return errPlaceholderEnded
	}
	dir := filepath.Join("/proc", strconv.Itoa(n.pid), "net")
	local, err := os.ReadFile(filepath.Join(dir, "fib_trie"))
	if err != nil {
		return fmt.Errorf("its addresses cannot be read: %w", err)
	}
	for _, address := range n.addresses {
		if !bytes.Contains(local, []byte("-- "+address.String()+"\n")) {
			return fmt.Errorf("it lost its address %s", address)
		}
	}
	routes, err := os.ReadFile(filepath.Join(dir, "route"))
	if err != nil {
		return fmt.Errorf("its routes cannot be read: %w", err)
	}
	if n.routed && !hasDefaultRoute(string(routes)) {
		return errors.New("it lost its default route")
	}
	return nil
}

// hasDefaultRoute looks for a route to everywhere in a /proc/net/route: a line
// for each, with the interface, the destination and the gateway in hexadecimal.
func hasDefaultRoute(table string) bool {
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) > 2 && fields[1] == hex.EncodeToString(make([]byte, 4)) {
			return true
		}
	}
	return false
}

// isOurs reports whether a process of this machine belongs to a container, as
// its control group says.
func (d *Driver) isOurs(pid int, id string) bool {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	if pid <= 0 || err != nil {
		return false
	}
	return slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool {
		_, path, _ := strings.Cut(line, "/")
		_, ok := groupOf("/"+path, id)
		return ok
	})
}
