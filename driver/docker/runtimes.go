package docker

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/system"
)

// checkRuntimes compares the runtimes that containers will need with those
// that the engine has.
func (d *Driver) checkRuntimes(info system.Info) error {
	known := slices.Sorted(maps.Keys(info.Runtimes))
	if d.opts.Runtime != "" && !hasRuntime(known, d.opts.Runtime) {
		return fmt.Errorf("the container engine at %s does not know the runtime %s of FN_CONTAINER_RUNTIME, only %s: install it and add it to the engine's configuration, or set another one",
			d.opts.Host, d.opts.Runtime, strings.Join(known, ", "))
	}
	for _, name := range d.opts.Runtimes {
		if !hasRuntime(known, name) {
			d.log.Warn("the container engine does not know a runtime of FN_CONTAINER_RUNTIMES_ALLOWED, functions that ask for it will fail",
				slog.String("runtime", name), slog.Any("known", known))
		}
	}
	return nil
}

// shimPrefix begins the names of runtimes that newer engines find by
// themselves, among the programs of containerd, and do not list.
const shimPrefix = "io.containerd."

func hasRuntime(known []string, name string) bool {
	return slices.Contains(known, name) || strings.HasPrefix(name, shimPrefix)
}

// sharing are the runtimes whose containers are processes of the host's kernel, and
// can share a network namespace. Others, as gVisor's and Kata's, bring a network
// stack of their own, and take what is in the namespace for it.
var sharing = []string{"runc", "crun", "youki", "io.containerd.runc.v1", "io.containerd.runc.v2"}

// joins reports whether a container of a runtime, "" being the usual one, can join
// a namespace of the prefork pool.
func (d *Driver) joins(runtime string) bool {
	return slices.Contains(sharing, cmp.Or(runtime, d.opts.Runtime, d.engineRuntime))
}
