package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/tinefn/tine/driver"
	"github.com/tinefn/tine/internal/capacity"
	"github.com/tinefn/tine/internal/config"
	"github.com/tinefn/tine/internal/image"
)

// openNamed opens the driver that the settings name.
func (n *Node) openNamed(ctx context.Context, size *capacity.Sizing) (driver.Driver, error) {
	switch n.config.Engine.Driver {
	case config.DriverNative:
		return n.openNative(size)
	case config.DriverDocker:
		return n.openDocker(ctx, size)
	}
	if why := dockerOnly(n.config); why != "" {
		n.log.Info("Docker is used, as a setting is for it alone", slog.String("setting", why))
		return n.openDocker(ctx, size)
	}
	made, without := n.openNative(size)
	if without == nil {
		return made, nil
	}
	if _, ok := errors.AsType[settingsError](without); ok {
		return nil, without
	}
	if errors.Is(without, image.ErrLocked) { // the machine can, and whoever started both means the same
		return nil, fmt.Errorf("FN_STATE_DIR=%s: %w: end the other server, or give this one a directory of its own", n.config.Engine.StateDir, without)
	}
	n.log.Info("the native driver does not work here, Docker is tried", slog.Any("cause", without))
	made, err := n.openDocker(ctx, size)
	if err != nil {
		return nil, fmt.Errorf("no driver works on this machine, fnserver doctor tells more: %w", errors.Join(without, err))
	}
	return made, nil
}

// dockerOnly names a setting that has a meaning for Docker alone, if one is set:
// whoever set it means Docker.
func dockerOnly(c *config.Config) string {
	for _, setting := range []struct {
		name string
		set  bool
	}{
		{"FN_CONTAINER_RUNTIME", c.Engine.Runtime != ""},
		{"FN_CONTAINER_RUNTIMES_ALLOWED", len(c.Engine.Runtimes) > 0},
		{"FN_DOCKER_NETWORKS", len(c.Engine.Networks) > 0},
		{"FN_IOFS_DOCKER_PATH", c.Sockets.EnginePath != ""},
	} {
		if setting.set {
			return setting.name
		}
	}
	return ""
}
