//go:build linux

package native

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/driver/native/cgroup"
	"github.com/tinefn/tine/driver/native/job"
	"github.com/tinefn/tine/driver/native/sandbox"
)

// openCapabilities are those of a container that is not fenced in. Source: Docker's
// defaults, by their numbers in capabilities(7), without CAP_NET_RAW, with which one
// sandbox could take another's address.
var openCapabilities = []uint{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FSETID, unix.CAP_FOWNER, unix.CAP_MKNOD, unix.CAP_SETGID, unix.CAP_SETUID,
	unix.CAP_SETFCAP, unix.CAP_SETPCAP, unix.CAP_NET_BIND_SERVICE, unix.CAP_SYS_CHROOT, unix.CAP_KILL, unix.CAP_AUDIT_WRITE,
}

// start gives the container's sandbox its job.
func (c *container) start(ctx context.Context) error {
	spec, u := c.spec, c.unit
	if err := u.group.Set(cgroup.Limits{
		MemoryBytes: spec.Limits.MemoryBytes, MilliCPU: spec.Limits.MilliCPU, Processes: spec.Limits.Processes,
	}); err != nil {
		return err
	}
	files, closeFiles, err := c.files()
	if err != nil {
		return err
	}
	defer closeFiles()
	if err := u.box.Limit(rlimits(spec.Limits)); err != nil {
		return err
	}
	who, err := userOf(files.Root, spec.Security.Unprivileged, c.image.Config.Config.User)
	if err != nil {
		return err
	}
	err = u.box.Run(ctx, jobOf(spec, c.image.Config, who), files)
	if failed, ok := errors.AsType[*job.Failure](err); ok && failed.OfImage() && shortageOf(failed) == nil {
		return fmt.Errorf("%w: %w", driver.ErrProgram, err)
	}
	return err
}

// initFiles are the open files that the first process of a sandbox may need until the
// program runs, which sets a lower limit itself then. It has about 25.
const initFiles = 64

// rlimits are the limits of each process. Those that are 0 are as the server's.
func rlimits(limits driver.Limits) (set []sandbox.Rlimit) {
	for _, limit := range []struct {
		resource int
		value    int64
	}{
		{unix.RLIMIT_NOFILE, limits.OpenFiles},
		{unix.RLIMIT_MEMLOCK, limits.LockedMemoryBytes},
		{unix.RLIMIT_SIGPENDING, limits.PendingSignals},
		{unix.RLIMIT_MSGQUEUE, limits.MessageQueueBytes},
	} {
		if limit.resource == unix.RLIMIT_NOFILE && limit.value > 0 {
			limit.value = max(limit.value, initFiles)
		}
		if limit.value > 0 {
			set = append(set, sandbox.Rlimit{Resource: limit.resource, Value: uint64(limit.value)})
		}
	}
	return set
}

// files opens what the sandbox gets with its job.
func (c *container) files() (files sandbox.Files, closeAll func(), err error) {
	closeAll = func() {
		for _, file := range []*os.File{files.Root, files.Sockets} {
			if file != nil {
				_ = file.Close() // the sandbox has it
			}
		}
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	layers := c.driver.base.layers(c.image.Layers)
	if c.spec.Security.ReadOnlyRoot {
		files.Root, err = c.unit.box.Overlay(layers)
	} else {
		files.Root, err = c.writable(layers)
	}
	if err != nil {
		return files, closeAll, err
	}
	if c.spec.SocketDir != "" {
		if files.Sockets, err = sandbox.Tree(c.spec.SocketDir); err != nil {
			return files, closeAll, err
		}
	}
	files.Filter = c.driver.lax // they stay open
	if c.spec.Security.Unprivileged {
		files.Filter = c.driver.filter
	}
	return files, closeAll, nil
}

// writablePrefix begins the names of directories that it is mounted at.
const writablePrefix = "writable-"

// writable mounts layers under a file system in memory, which takes what the
// function writes and counts as its memory. It is bounded as the spec says.
func (c *container) writable(layers []string) (root *os.File, err error) {
	dir, err := os.MkdirTemp(c.driver.opts.Dir, writablePrefix)
	if err != nil {
		return nil, fmt.Errorf("make a writable root file system: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }()
	options := "mode=0755"
	if size := c.spec.Limits.DiskMiB; size > 0 {
		options += fmt.Sprintf(",size=%dm", size)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, options); err != nil {
		return nil, fmt.Errorf("make a writable root file system: %w", err)
	}
	// The overlay keeps it.
	defer func() { err = errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH)) }()
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	if err := errors.Join(os.Mkdir(upper, 0o755), os.Chmod(upper, 0o755), os.Mkdir(work, 0o700)); err != nil {
		return nil, fmt.Errorf("make a writable root file system: %w", err)
	}
	return c.unit.box.WritableOverlay(layers, upper, work)
}

// jobOf puts a spec and what the image says together.
func jobOf(spec *driver.Spec, image *v1.ConfigFile, who *user.ExecUser) *job.Job {
	says := image.Config
	command := says.Cmd
	if len(spec.Command) > 0 {
		command = spec.Command
	}
	todo := &job.Job{
		Args: append(slices.Clone(says.Entrypoint), command...), Env: environment(who.Home, says.Env, spec.Env),
		Dir: says.WorkingDir, Host: cmp.Or(spec.Hostname, "sandbox"),
		UID: uint32(who.Uid), GID: uint32(who.Gid), Init: spec.Security.Init,
		NoTmp:    !spec.Security.ReadOnlyRoot && spec.Limits.TmpMiB == 0,
		TmpBytes: uint64(spec.Limits.TmpMiB) << 20, TmpInodes: uint64(spec.Limits.TmpInodes),
		OpenFiles: uint64(max(spec.Limits.OpenFiles, 0)),
	}
	for _, group := range who.Sgids {
		todo.Groups = append(todo.Groups, uint32(group))
	}
	if !spec.Security.Unprivileged {
		todo.NewPrivs = true
		for _, number := range openCapabilities {
			todo.Capabilities |= 1 << number
		}
	}
	return todo
}

// environment is that of the image with the spec's over it, and what programs
// expect besides. Source of that: what Docker gives containers.
func environment(home string, image, spec []string) []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + home}
	for _, variable := range slices.Concat(image, spec) {
		name, _, _ := strings.Cut(variable, "=")
		at := slices.IndexFunc(env, func(known string) bool { return strings.HasPrefix(known, name+"=") })
		if at < 0 {
			env = append(env, variable)
		} else {
			env[at] = variable
		}
	}
	return env
}
