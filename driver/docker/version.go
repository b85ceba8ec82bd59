package docker

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"
)

// minAPIVersion is the oldest version of the API that the driver works with:
// that of Docker 20.10. The newest is client.MaxAPIVersion; newer engines speak
// that one too, until they say otherwise.
const minAPIVersion = "1.41"

// checkVersion refuses an engine that only speaks versions that are too old.
// Own is the newest one that it offers, empty if it does not say.
func (d *Driver) checkVersion(own string) error {
	if own == "" || !versions.LessThan(own, minAPIVersion) {
		return nil
	}
	return fmt.Errorf("the container engine at %s speaks version %s of its API, and %s to %s is needed: update it to Docker 20.10 or newer, or set DOCKER_HOST to one that is",
		d.opts.Host, own, minAPIVersion, client.MaxAPIVersion)
}

// explainRefusal adds what to do to the error of the first request that has a
// version in it: an engine that speaks none of the driver's refuses that.
func (d *Driver) explainRefusal(own string, err error) error {
	if !errdefs.IsInvalidArgument(err) {
		return nil
	}
	return fmt.Errorf("the container engine at %s, with versions of its API up to %s, refuses version %s, and none above %s can be spoken here: update this server, or set DOCKER_HOST to an older engine: %s",
		d.opts.Host, own, d.engine.ClientVersion(), client.MaxAPIVersion, message(err))
}
