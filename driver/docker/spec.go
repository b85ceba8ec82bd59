package docker

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
)

// Labels of containers.
const (
	ownerLabel = "tine.instance" // the identity of the driver that made it

	// With a LabelTag. Source: Fn's operators filter by these names.
	tagLabel      = "fn-agent-classifier"
	instanceLabel = "fn-agent-instance"

	// imageLabel is the name of the image that a container was made from by its
	// identifier, so that people see it.
	imageLabel = "tine.image"
)

const (
	cpuPeriodMicros = 100_000 // the kernel's default
	minMemoryBytes  = 6 << 20 // the engine refuses less
)

// createOptions translates a spec.
func (d *Driver) createOptions(ctx context.Context, spec *driver.Spec, mode container.NetworkMode) (client.ContainerCreateOptions, error) {
	config := &container.Config{
		Image:        imageOf(spec),
		Env:          spec.Env,
		Cmd:          spec.Command,
		Labels:       d.labels(namedImage(spec)),
		AttachStdout: spec.Stdout != nil,
		AttachStderr: spec.Stderr != nil,
	}
	host := &container.HostConfig{
		LogConfig:      container.LogConfig{Type: "none"},
		NetworkMode:    mode,
		Runtime:        cmp.Or(spec.Runtime, d.opts.Runtime),
		ReadonlyRootfs: spec.Security.ReadOnlyRoot,
		Resources:      resources(spec.Limits),
	}
	if hostname := spec.Hostname; hostname != "" && ownHostname(mode) {
		config.Hostname = hostname
	}
	if spec.Security.Unprivileged {
		config.User = driver.UnprivilegedUser
		host.CapDrop = []string{"ALL"}
		host.SecurityOpt = []string{"no-new-privileges"}
	}
	if spec.Security.Init {
		host.Init = new(true)
	}
	if spec.Security.ReadOnlyRoot || spec.Limits.TmpMiB > 0 {
		host.Tmpfs = map[string]string{"/tmp": tmpfsOptions(spec.Limits)}
	}
	if spec.Limits.DiskMiB > 0 {
		host.StorageOpt = map[string]string{"size": fmt.Sprintf("%dM", spec.Limits.DiskMiB)}
	}
	if spec.SocketDir != "" {
		source, err := d.socketSource(ctx, spec.SocketDir)
		if err != nil {
			return client.ContainerCreateOptions{}, err
		}
		// A mount, not a bind: the engine must refuse a directory that it does
		// not see, not make an empty one.
		host.Mounts = []mount.Mount{{Type: mount.TypeBind, Source: source, Target: driver.SocketMountPath}}
	}
	return client.ContainerCreateOptions{Name: spec.ID, Config: config, HostConfig: host}, nil
}

// namedImage is the spec's labels with the name of its image, if the container
// is made from something else.
func namedImage(spec *driver.Spec) map[string]string {
	if spec.ImageID == "" {
		return spec.Labels
	}
	labels := map[string]string{}
	maps.Copy(labels, spec.Labels)
	labels[imageLabel] = spec.Image
	return labels
}

// labels adds to the labels of one container what tells whose it is. Every
// container that the driver makes must have them, or nobody removes it when
// this process ends without doing so.
func (d *Driver) labels(own map[string]string) map[string]string {
	labels := map[string]string{}
	maps.Copy(labels, own)
	labels[ownerLabel] = d.instance
	if d.opts.LabelTag != "" {
		labels[tagLabel] = d.opts.LabelTag
		labels[instanceLabel] = d.instance
	}
	return labels
}

// resources translates limits. Kernel memory and swappiness are left alone:
// engines on cgroup version 2 refuse them.
func resources(limits driver.Limits) container.Resources {
	var r container.Resources
	if limits.MemoryBytes > 0 {
		r.Memory = max(limits.MemoryBytes, minMemoryBytes)
		r.MemorySwap = r.Memory
	}
	if limits.MilliCPU > 0 {
		r.CPUPeriod = cpuPeriodMicros
		r.CPUQuota = limits.MilliCPU * cpuPeriodMicros / 1000
	}
	if limits.Processes > 0 {
		r.PidsLimit = new(limits.Processes)
	}
	for _, limit := range []struct {
		name  string
		value int64
	}{
		{"nofile", limits.OpenFiles},
		{"memlock", limits.LockedMemoryBytes},
		{"sigpending", limits.PendingSignals},
		{"msgqueue", limits.MessageQueueBytes},
	} {
		if limit.value > 0 {
			r.Ulimits = append(r.Ulimits, &container.Ulimit{Name: limit.name, Soft: limit.value, Hard: limit.value})
		}
	}
	return r
}

// tmpfsOptions are what the engine adds to its own nosuid, nodev, noexec.
func tmpfsOptions(limits driver.Limits) string {
	options := []string{"mode=1777"}
	if limits.TmpMiB > 0 {
		options = append(options, fmt.Sprintf("size=%dm", limits.TmpMiB))
		if limits.TmpInodes > 0 {
			options = append(options, fmt.Sprintf("nr_inodes=%d", limits.TmpInodes))
		}
	}
	return strings.Join(options, ",")
}

// ownHostname reports whether containers in a network may have a host name of
// their own.
func ownHostname(mode container.NetworkMode) bool {
	return !mode.IsHost() && !mode.IsContainer()
}

// socketSource is the path of a socket directory on the engine's host. A path
// that is not absolute begins with the name of a volume.
func (d *Driver) socketSource(ctx context.Context, dir string) (string, error) {
	if path.IsAbs(dir) {
		return dir, nil
	}
	volume, rest, _ := strings.Cut(dir, "/")
	callCtx, cancel := d.deadline(ctx)
	defer cancel()
	found, err := d.engine.VolumeInspect(callCtx, volume, client.VolumeInspectOptions{})
	if err != nil {
		return "", failure(callCtx, "find the volume of socket directories, "+volume, err)
	}
	return path.Join(found.Volume.Mountpoint, rest), nil
}

// imageOf is what a container is made from: the image that the name meant when it
// was looked for, if that is known.
func imageOf(spec *driver.Spec) string { return cmp.Or(spec.ImageID, spec.Image) }
